"""What a user did wrong, said once and clearly; only the doors turn these into an exit code."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can put right: what is wrong, where, what was expected, what to do."""

    exit_code = 1


class ConfigError(UserError):
    """A setting that does not exist or has a value it cannot have (exit code 2)."""

    exit_code = 2


class DataError(UserError):
    """Data that is missing or not in the expected layout (exit code 2)."""

    exit_code = 2
