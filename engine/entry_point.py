"""What all entry points share: they turn an exception into one message and an exit code.

Exit codes: 0 done; 1 a run failed; 2 an invalid setting or missing data; 130 interrupted.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Container, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from engine.clusters import explained_refusal
from engine.processes import is_leader
from engine.settings import FREE
from engine.sweeps import end_of_sweep
from engine.validation import explain_overrides
from foundation import interruption
from foundation.errors import NOT_ALLOWED, ConfigError, UserError, explained, in_one_line
from foundation.shown_text import print_any_text, printable

WITH_VALUE = ("--cfg", "--package", "--info", "--config-dir")
"""Options whose value is the word after them."""
FLAGS = (
    *("--help", "--cfg", "--package", "--resolve", "--info", "--multirun", "--config-dir", "--hydra-help", "--version"),
)
"""The supported options of Hydra. Hydra would match a setting written with dashes to one of its own options."""

SWEEPING = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)$")
"""Hydra's functions that name several values."""

COMPOSING = ("/yaml/", "/omegaconf/", "/hydra/_internal/")
"""Parts of the paths of the code that composes a configuration."""

_failures: list[UserError] = []


def keep_user_errors(job: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorator: a single job's :class:`UserError` is kept for :func:`run_main`, so that Hydra does not report it too.

    The jobs of a sweep raise it: Hydra records which of them failed.
    """

    @functools.wraps(job)
    def guarded(config: DictConfig) -> Any:
        try:
            return job(config)
        except Exception as error:
            mistake = explained(error)
            if mistake is not error and isinstance(error, OSError) and error.errno in NOT_ALLOWED:  # not within a run
                mistake = ConfigError(str(mistake))
            if not isinstance(mistake, UserError):
                raise
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise mistake from error
            _failures.append(mistake)
            return None

    return guarded


def run_main(
    main: Callable[[], None],
    keys: Iterable[str],
    after_interruption: str = "resumes what is not finished",
    addable: Container[str] = (),
    paths: Container[str] = (),
) -> None:
    """Run a ``@hydra.main`` function as a program.

    Args:
        main: the decorated function.
        keys: settings of this entry point; a message about a mistyped key names the nearest of them.
        after_interruption: what the same command does after Ctrl-C, for the message.
        addable: keys that a command may set although the configuration does not contain them.
        paths: settings whose values are paths, see :func:`_as_typed`.
    """
    print_any_text()
    _require_options(sys.argv[1:])
    options, overrides = _divided(sys.argv[1:])
    sweeping = _is_sweep(options, overrides)
    overrides = [
        _as_typed(word, sweeping) if word.partition("=")[0].lstrip("+") in paths else word for word in overrides
    ]
    overrides = [f"++{word}" if _may_be_added(word, keys, addable) else word for word in overrides]
    sys.argv[1:] = [*options, *overrides]  # Hydra takes them in no other order
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise errors instead of exiting
    try:
        with interruption.handled():
            _run(main)
    except UserError as mistake:
        _failures.append(mistake)
    except BrokenPipeError:  # the reader of stdout has exited, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OverrideParseException as error:
        name, _, value = error.override.partition("=")
        _exit(
            explain_overrides([error.override], keys, _own_folders(options))
            or f"{error.override!r} cannot be read: {error}\n"
            f"It must be key=value, with quotes around a value that contains = , : ( ) [ or {{: '{name}=\"{value}\"'.",
            2,
        )
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        reason = _of_composition(error)
        if reason is None:
            raise
        _exit(explain_overrides(overrides, keys, _own_folders(options)) or reason, 2)
    except RuntimeError as error:
        refusal = explained_refusal(error)
        if refusal is None:
            raise
        _exit(str(refusal), refusal.exit_code)
    except KeyboardInterrupt:
        same = "The same command" + (" without force" if any(word.startswith("force=") for word in sys.argv) else "")
        _exit(f"Interrupted. {same} {after_interruption}." if is_leader() else "", 130)
    finally:
        some_failed = end_of_sweep()
    if _failures:
        _exit(str(_failures[0]), 1 if some_failed else _failures[0].exit_code)


def _of_composition(error: Exception) -> str | None:
    """The message of an error that a configuration raises as Hydra composes it; None for any other error."""
    if isinstance(error, HydraException | OmegaConfBaseException) or "Config group override" in str(error):
        return str(error)  # the latter for a number or null in place of a file name
    place = [frame.filename for frame in traceback.extract_tb(error.__traceback__)[-3:]]
    if isinstance(error, YAMLError) or any(part in name for name in place for part in COMPOSING):
        reason = (
            "it is nested too deeply, or names itself in its defaults"
            if isinstance(error, RecursionError)
            else in_one_line(error)
        )
        return f"The configuration cannot be read: {reason}.\nIt must be YAML, as the files of conf/ are."
    return None


def _require_options(words: Iterable[str]) -> None:
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in FLAGS:
            _exit(
                f"{word} is not an option.\nIt must be a setting without dashes, as label_fraction=0.01, or one of "
                f"{', '.join(FLAGS)}.",
                2,
            )


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    """The options of a command, with their values, and its settings."""
    options: list[str] = []
    overrides: list[str] = []
    for previous, word in pairwise(["", *words]):
        (options if word.startswith("-") or previous in WITH_VALUE else overrides).append(word)
    return options, overrides


def _is_sweep(options: list[str], overrides: list[str]) -> bool:
    chosen = dict(word.lstrip("+").partition("=")[::2] for word in overrides)
    by_file = chosen.get("sweep", "null") != "null"
    return by_file or "--multirun" in options or "-m" in options or chosen.get("hydra.mode", "").endswith("MULTIRUN")


def _as_typed(word: str, sweeping: bool) -> str:
    """A setting that is a path with its value in quotes, so that Hydra takes it as it is typed.

    Without them, Hydra reads 2024_11_30 as a number and refuses letters beyond ASCII, commas, brackets and the like.
    null, lists, interpolations, ~ (which a message explains) and values in quotes stay as they are. In a sweep a comma
    separates values, and functions as ``choice(a,b)`` stay too.
    """
    name, equals, value = word.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    is_list = value.startswith("[") and value.endswith("]")
    if not value or quoted or is_list or "${" in value or value.startswith("~"):
        return word
    if sweeping and (SWEEPING.match(value) or {"'", '"'} & {*value}):
        return word
    parts = value.split(",") if sweeping else [value]
    return name + equals + ",".join(part if part == "null" else _quoted(part) for part in parts)


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _own_folders(options: list[str]) -> list[Path]:
    """Folders of the user's own configuration: ``--config-dir my_conf`` or ``--config-dir=my_conf``."""
    return [
        Path(word.partition("=")[2] or following)
        for word, following in pairwise([*options, ""])
        if word.partition("=")[0] == "--config-dir"
    ]


def _may_be_added(word: str, keys: Iterable[str], addable: Container[str]) -> bool:
    """Whether Hydra is to take a setting that the configuration does not hold: a Trainer argument, or one of a stage of
    the user's own, whose group no file here knows. What is mistyped is refused later, with the nearest key."""
    name = word.partition("=")[0]
    group, dot, _ = name.partition(".")
    known = {key.partition(".")[0] for key in keys} | {*FREE, "hydra"}
    return name in addable or (bool(addable) and bool(dot) and group.isidentifier() and group not in known)


def _run(main: Callable[[], None]) -> None:
    """Call the function; raises KeyboardInterrupt if the process was asked to end, whatever came of that."""
    try:
        main()
    except (Exception, SystemExit) as error:  # such as a lost child process, which got the signal too
        if interruption.requested():
            raise KeyboardInterrupt from error
        raise
    interruption.check()


def _exit(message: str, code: int) -> None:
    sys.stdout.flush()
    if message:
        print(f"\n{printable(message)}", file=sys.stderr)
    sys.exit(code)
