"""The tasks of prepare.py: making, auditing and comparing data sets."""
