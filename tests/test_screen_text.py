"""What is printed never ends a command, and never reaches the terminal as a control character."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from foundation.shown_text import print_any_text
from tests.commands import process
from tests.run_folders import write_run

NAME = "a\x1b[31mb\x07\x9bc"
SHOWN = r"a\x1b[31mb\x07\x9bc"


def test_control_characters_of_names_become_escapes_in_all_that_rich_prints() -> None:
    print_any_text()
    file = io.StringIO()
    table = Table(title=NAME)
    table.add_row(NAME)
    console = Console(file=file, width=100, markup=False)
    console.print(f"Not read: {NAME}")
    console.print(table)
    assert file.getvalue().count(SHOWN) == 3
    assert "\x1b" not in file.getvalue()


def test_control_characters_of_an_unexpected_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_any_text()
    try:
        raise ValueError(NAME)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    screen = capsys.readouterr().err
    assert f"ValueError: {SHOWN}" in screen
    assert "\x1b" not in screen


@pytest.mark.process
@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}],
    ids=["C", "latin-1"],
)
@pytest.mark.parametrize("view", ["page", "status"])
def test_a_locale_without_the_letters_ends_no_report(environment: dict[str, str], view: str, tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "one1", miou=0.5, data_name="李明 —")
    finished = process("report.py", f"view={view}", f"output_dir={tmp_path}", cwd=tmp_path, environment=environment)
    assert finished.returncode == 0, finished.stderr
    assert "one1" in finished.stdout or "Report:" in finished.stdout
