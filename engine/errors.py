"""What a user did wrong, said once and clearly; only the doors turn these into an exit code.

This file imports nothing, and every part of the project may raise what it defines.
"""

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


def describe(fault: BaseException) -> str:
    """An error as a line or a message for a status."""
    return str(fault) if isinstance(fault, UserError) else f"{type(fault).__name__}: {fault}"


def from_worker(fault: UserError) -> UserError:
    """The mistake itself, where a loader's worker process has wrapped it into its own traceback."""
    mark = f"{type(fault).__module__}.{type(fault).__qualname__}: "
    return type(fault)(str(fault).rpartition(mark)[2].rstrip())
