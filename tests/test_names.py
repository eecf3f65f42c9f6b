"""Text from data as file names, lines, on the screen and as paths; the digest cache."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callbacks.panels import _save_tiles
from datamodules.layouts import open_layout
from datamodules.subsets import manifest
from engine.planning import data_digest
from foundation.digests import DigestCache
from foundation.errors import DataError
from foundation.files import atomic_path, atomic_write, remove_drafts
from foundation.names import file_name, is_name, one_line, shown, to_bytes
from foundation.paths import DataRoot, ordinary
from tests.conftest import PANELS, run_training
from tests.test_evaluation import scored

NOT_UTF8 = "Ren\udce9"
STRANGE = (NOT_UTF8, "a\nb", "\x1b[31mred", "x" * 250, "ä" * 120, "café", "c d")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("12", "12"),
        ("a/b.c d", "a__b.c d"),
        ("../x", "_.__x~d6b96a97d1"),
        (".dotfile", "_dotfile~b8b1a9ecf4"),
        (NOT_UTF8, "Ren_~5c1d0a91a9"),
        ("a\nb", "a_b~7e18f73731"),
        ("", "_~e3b0c44298"),
    ],
)
def test_one_file_name(text: str, name: str) -> None:
    found = file_name(text)
    assert found.partition("~")[0] == name.partition("~")[0]
    assert ("~" in found) == ("~" in name), "only changed names end in a digest"
    assert found not in ("", ".", "..")


@pytest.mark.parametrize("text", ["x" * 999, "ä" * 999, "/" * 999, "x" * 216])
def test_long_names_are_cut_to_fit_and_differ(text: str, tmp_path: Path) -> None:
    names = {f"{file_name(one)}.reconstruction.png" for one in (text, f"{text}1", f"{text}2")}
    assert len(names) == 3
    for name in names:
        assert len(os.fsencode(name)) <= 255
        (tmp_path / name).touch()
    assert file_name("x" * 215) == "x" * 215


def test_control_characters_are_escaped_where_text_is_shown() -> None:
    assert shown(f"{NOT_UTF8}\x1b[2J\n\u202egpj") == "Ren\\xe9\\x1b[2J\\x0a\\u202egpj"
    assert shown("a\n\tb\r", lines=True) == "a\n\tb\\x0d"
    assert shown("café") == "café"
    assert str(DataError(f"No {NOT_UTF8}\x1b[2J.\nExpected: é")) == "No Ren\\xe9\\x1b[2J.\nExpected: é"
    lines = [one_line(text) for text in (*STRANGE, "Ren\\xe9", "a\\x0ab")]
    assert len({*lines}) == len(lines)
    for line in lines:
        line.encode()
        assert line.splitlines() == [line]
    assert to_bytes(NOT_UTF8) == os.fsencode(NOT_UTF8)
    assert to_bytes("\ud800"), "JSON can hold it"
    assert [is_name(name) for name in ("surgical 1", "a/b", "..", "", "x" * 101, 5, None, "a\x1b")] == [True] + 7 * [
        False
    ]


def test_drafts_of_long_names_fit(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".png")
    for exclusive in (False, True):
        with atomic_write(path, exclusive=exclusive) as file:
            file.write(b"content")
    with atomic_path(path, "draft") as draft:
        draft.write_bytes(b"content")
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path):
        (left,) = (draft for draft in tmp_path.iterdir() if draft != path)
        shutil.copy(left, left.with_name(left.name.replace(f"-{os.getpid()}.", "-1.")))
    assert len(list(tmp_path.iterdir())) == 2, "the draft of a killed process"
    remove_drafts(tmp_path, path.name)
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_data_stay_below_its_folder(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "a", outside):
        folder.mkdir(parents=True)
    for file in (root / "a" / "1.png", outside / "2.png"):
        file.touch()
    (root / "link.png").symlink_to(outside / "2.png")
    (root / "inner.png").symlink_to(root / "a" / "1.png")
    (root / "linked").symlink_to(outside)
    (root / "null.png").symlink_to("/dev/null")
    os.mkfifo(root / "fifo.png")
    (tmp_path / "root_by_link").symlink_to(root)
    for folder in (root, tmp_path / "root_by_link"):
        strict, lenient = DataRoot(folder), DataRoot(folder, links=True)
        for name in ("a/1.png", "absent.png", "inner.png"):
            assert strict.file(name, "list") == lenient.file(name, "list") == folder / name
        for name in ("link.png", "linked/2.png"):
            assert lenient.file(name, "list") == folder / name
            with pytest.raises(DataError, match=r"list names .*, which leads out of"):
                strict.file(name, "list")
        for name in ("null.png", "fifo.png", "a"):
            for reader in (strict, lenient):
                with pytest.raises(DataError, match=r"leads out|is not an ordinary file"):
                    reader.file(name, "list")
        invalid: tuple[object, ...] = (
            "../outside/2.png",
            "a/../../outside/2.png",
            str(outside / "2.png"),
            "",
            "a\0",
            "x" * 300,
            5,
            None,
            [],
        )
        for wrong in invalid:
            with pytest.raises(DataError, match="list names the file"):
                lenient.file(wrong, "list")


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_file_is_never_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not an ordinary file"):
        ordinary(path)
    with pytest.raises(DataError, match=r"Cannot read .*a.jpg: it is not an ordinary file"):
        DigestCache(tmp_path / "digests.sqlite").of_file(path)


def digest(cache: Path, path: Path, verify: bool = False) -> str:
    with DigestCache(cache, verify) as digests:
        return digests.of_file(path)


def test_digests_notice_other_content_of_the_same_size_and_time(tmp_path: Path) -> None:
    cache, path = tmp_path / "digests.sqlite", tmp_path / NOT_UTF8
    path.write_bytes(b"first")
    first, times = digest(cache, path), path.stat()
    assert digest(cache, path) == first
    path.write_bytes(b"other")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(cache, path) != first, "the time of change differs"
    (tmp_path / "new").write_bytes(b"third")
    os.utime(tmp_path / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
    known = digest(cache, path)
    (tmp_path / "new").replace(path)
    assert digest(cache, path) != known


def test_verify_reads_again_and_corrects_the_cache(tmp_path: Path) -> None:
    cache, path = tmp_path / "digests.sqlite", tmp_path / "a"
    path.write_bytes(b"first")
    true = digest(cache, path)
    with sqlite3.connect(cache) as base:  # as on a file system that keeps no times
        base.execute("UPDATE states SET digest = 'wrong'")
    base.close()
    assert digest(cache, path) == "wrong"
    assert digest(cache, path, verify=True) == true
    assert digest(cache, path) == true


@pytest.mark.parametrize("state", ["earlier", "damaged", "no database"])
def test_other_caches_are_rebuilt(tmp_path: Path, state: str) -> None:
    cache, path = tmp_path / "digests.sqlite", tmp_path / "a"
    path.write_bytes(b"first")
    expected = digest(tmp_path / "other.sqlite", path)
    if state == "earlier":
        with sqlite3.connect(cache) as base:
            base.execute("CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest TEXT)")
            base.execute("INSERT INTO files VALUES (?, 5, ?, 'wrong')", (str(path), path.stat().st_mtime_ns))
        base.close()
    elif state == "damaged":
        digest(cache, path)
        content = bytearray(cache.read_bytes())
        content[100:] = os.urandom(len(content) - 100)
        cache.write_bytes(content)
    else:
        cache.write_bytes(b"text" * 999)
    for verify in (True, False):
        assert digest(cache, path, verify) == expected


def test_strange_names_pass_through_layout_manifest_digest_and_panels(tmp_path: Path) -> None:
    root = tmp_path / "LaPa"
    for split in ("train", "test"):
        for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
            (root / split / kind).mkdir(parents=True)
            for name in STRANGE:
                Image.new("L", (8, 8), 1).save(root / split / kind / f"{name}{suffix}")
    layout = open_layout("lapa", root)
    ids = [sample.id for sample in layout.samples("train")]
    assert sorted(ids) == sorted(STRANGE)
    for _ in range(2):
        chosen = manifest(tmp_path / "manifests", "lapa", ids, 1.0, 0)
        assert sorted(chosen.ids) == sorted(STRANGE)
    assert len(chosen.path.read_text(encoding="utf-8").splitlines()) == len(STRANGE)
    assert len(chosen.digest) == 16
    for _ in range(2):
        with DigestCache(tmp_path / "digests.sqlite") as digests:
            assert len(data_digest(layout, ("train", "test"), True, digests)) == 16
    tiles = {"reconstruction": [np.zeros((4, 4, 3), np.uint8)] * len(ids)}
    _save_tiles(tiles, ids, tmp_path / "panels")
    written = [path.name for path in (tmp_path / "panels").iterdir()]
    assert len(written) == len(STRANGE)
    for name in written:
        assert shown(name) == name
        name.encode()


@pytest.mark.parametrize("face", ["../../../escaped", "/tmp/escaped", "a/../../../escaped"])  # noqa: S108
def test_panels_stay_in_their_folder(tmp_path: Path, face: str) -> None:
    folder = tmp_path / "run" / "panels" / "test"
    _save_tiles({"image": [np.zeros((4, 4, 3), np.uint8)]}, [face], folder)
    (written,) = (path for path in tmp_path.rglob("*.png"))
    assert written.parent == folder


@pytest.mark.training
def test_training_and_evaluation_on_strange_names(lapa: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = Path(shutil.copytree(lapa, tmp_path / "LaPa"))
    for split in ("train", "val", "test"):
        for number, old in enumerate(sorted(path.stem for path in (root / split / "images").iterdir())[: len(STRANGE)]):
            for kind in ("images", "labels", "landmarks", "landmarks_68"):
                for file in (root / split / kind).glob(f"{old}.*"):
                    file.rename(file.with_name(STRANGE[number] + file.suffix))
    (run,) = run_training("baseline_lapa_10pct", root, tmp_path / "outputs", *PANELS[:1], "datamodule.cache=disk")
    words = (f"checkpoint={run.folder.name}", "dataset=lapa", f"root={root}", f"output_dir={tmp_path / 'outputs'}")
    assert scored(*words, "split=all", "verify=true").status["faces"] == 40
    for panel in (run.folder.panels / "test").iterdir():
        assert shown(panel.name) == panel.name
    assert "\x1b[31m" not in capsys.readouterr().out
