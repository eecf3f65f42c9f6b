"""Files that others have written are read within limits: regular files inside their folder, up to a size."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.reading import DEEPEST, MissingFileError, UnreadableError, list_folder, read_bytes, read_json, read_yaml
from foundation.shown_text import Paths, printable
from tests.commands import ROOT


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def sparse(path: Path) -> None:
    """A file of a tebibyte that takes no space."""
    path.touch()
    os.truncate(path, 2**40)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (link_to("/etc/passwd"), "it is a link"),
    "link to a device": (link_to("/dev/zero"), "it is a link"),
    "link to nothing": (link_to("nowhere"), "it is a link"),
    "FIFO": (os.mkfifo, "it is no regular file"),
    "folder": (Path.mkdir, "it is no regular file"),
    "large": (sparse, "it is larger than 1 MiB"),
    "empty": (Path.touch, "it is no JSON"),
    "not UTF-8": (lambda path: path.write_bytes(b'"\xff"'), "it is no JSON"),
    "a little too deep": (lambda path: path.write_text(nested(DEEPEST + 2)), "nested more than"),
    "far too deep": (lambda path: path.write_text(nested(200_000)), "nested more than"),
    "long number": (lambda path: path.write_text("1" * 5000), "it is no JSON"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_small_regular_json_file_is_refused_with_the_reason(case: str, tmp_path: Path) -> None:
    make, reason = FILES[case]
    make(tmp_path / "a.json")
    with pytest.raises(UnreadableError, match=reason):
        read_json(tmp_path, "a.json")


def test_a_file_is_read_in_its_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text("secret")
    run = tmp_path / "run"
    (run / "panels").mkdir(parents=True)
    (run / "panels" / "b.txt").write_text("own")
    (run / "linked").symlink_to(tmp_path / "outside")
    assert read_bytes(run, "panels/b.txt", 10) == b"own"
    for name in ("linked/a.txt", "../outside/a.txt", "panels/../../outside/a.txt", f"{tmp_path}/outside/a.txt", "a\0b"):
        with pytest.raises(UnreadableError):
            read_bytes(run, name, 10)
    for name in ("c.txt", "none/c.txt", "n" * 300):
        with pytest.raises(UnreadableError):
            read_bytes(run, name, 10)
    with pytest.raises(MissingFileError):
        read_bytes(run, "c.txt", 10)
    assert list_folder(run) == (["panels"], [])
    with pytest.raises(UnreadableError):
        list_folder(run, "linked")
    (tmp_path / "run2").symlink_to(run)
    assert read_bytes(tmp_path / "run2", "panels/b.txt", 10) == b"own", "the folder itself may be a link"


def test_json_numbers_without_a_value_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": Infinity, "b": 1e400, "c": -1e400, "d": NaN, "e": 1e308, "f": 3}')
    assert read_json(tmp_path, "a.json") == {"a": None, "b": None, "c": None, "d": None, "e": 1e308, "f": 3}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "aliases"),
        ("a: &a {<<: *a}\n", "aliases"),
        ("[" * 5000, "nested more than"),
        ("a: [1\n", "no YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "no YAML"),
        ("\x00", "no YAML"),
        ("? [1]\n: 2\n", "no YAML"),
        ("a: 2020-99-99\n", "no YAML"),
        ("a: !!int ''\n", "no YAML"),
        ("a: !!bool x\n", "no YAML"),
        ("a: !!timestamp x\n", "no YAML"),
        (f"a: {':'.join(['1'] * 400)}.5\n", "more than 300 digits"),
        (f"a: {':'.join(['1'] * 3000)}\n", "more than 300 digits"),
        (f"a: 0x{'f' * 40000}\n", "more than 300 digits"),
        (f"a: !!int '0b{'1' * 40000}'\n", "more than 300 digits"),
    ],
)
def test_yaml_is_plain_shallow_and_without_aliases(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UnreadableError, match=reason):
        read_yaml(tmp_path, "a.yaml")
    (tmp_path / "a.yaml").write_text("a: {b: [1, 1.0e-05]}\n")
    assert read_yaml(tmp_path, "a.yaml") == {"a": {"b": [1, 1e-05]}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/faces/LaPa/train/x.jpg: broken", "LaPa/train/x.jpg: broken"),
        ("no images in /data/faces/LaPa.", "no images in LaPa."),
        ("'/data/faces/LaPa' and /data/faces/LaPa2/x", "'LaPa' and /data/faces/LaPa2/x"),
        (f"{ROOT}/train.py", "./train.py"),
        ("/home/ann/work/x, /root/.cache, file:///Users/bob", "~/work/x, ~/.cache, file://~"),
        ("a/home/ann and 3/4", "a/home/ann and 3/4"),
    ],
)
def test_paths_are_shown_relative(text: str, shown: str) -> None:
    assert Paths([Path("/data/faces/LaPa"), Path("/")]).relative(text) == shown
    assert Paths([Path("/data/faces/LaPa")]).relative_in({"a": [text, 1]}) == {"a": [shown, 1]}


def test_control_characters_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31m\u202e\ud800\x9b\nb é") == "a\\x1b[31m\\u202e\\ud800\\x9b\nb é"


@pytest.mark.process
@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "latin-1"}])
def test_any_text_is_printed_in_any_encoding(variables: dict[str, str]) -> None:
    code = r"print('\u22121.5 \u2014 \U0001f600 \ud800')"
    code = f"from foundation.shown_text import print_any_text; print_any_text(); {code}"
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "-1.5 - \\U0001f600 \\ud800\n"), done.stderr
