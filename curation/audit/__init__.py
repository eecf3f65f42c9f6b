"""Audit of a data set: reads every file in full and collects all findings instead of raising the first."""
