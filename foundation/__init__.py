"""Errors, atomic files, locks, digests, run folders. Imports no other package of the project."""
