"""Label-fraction manifests: nested, written once, reused, guarded."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.subsets import count, manifest
from foundation.errors import DataError

IDS = [f"face_{number:04d}" for number in range(560)]


@pytest.mark.parametrize(
    ("fraction", "total", "expected"),
    [(0.005, 560, 3), (0.01, 560, 6), (0.1, 560, 56), (1.0, 560, 560), (0.005, 18176, 91), (0.0001, 10, 1)],
)
def test_count(fraction: float, total: int, expected: int) -> None:
    assert count(fraction, total) == expected


def test_fractions_are_nested_and_subsets_differ(tmp_path: Path) -> None:
    chosen = {
        (fraction, subset): set(manifest(tmp_path, "lapa", IDS, fraction, subset).ids)
        for fraction in (0.005, 0.01, 0.1, 1.0)
        for subset in (0, 1, 2)
    }
    for subset in (0, 1, 2):
        assert chosen[0.005, subset] < chosen[0.01, subset] < chosen[0.1, subset] < chosen[1.0, subset] == set(IDS)
    assert chosen[0.1, 0] != chosen[0.1, 1] != chosen[0.1, 2]


def test_order_of_the_listing_does_not_matter(tmp_path: Path) -> None:
    first = manifest(tmp_path / "a", "lapa", IDS, 0.01, 0)
    second = manifest(tmp_path / "b", "lapa", IDS[::-1], 0.01, 0)
    assert first.ids == second.ids
    assert first.digest == second.digest


def test_written_once_and_reused(tmp_path: Path) -> None:
    first = manifest(tmp_path, "lapa", IDS, 0.01, 0)
    assert first.path.read_text().split() == list(first.ids)
    first.path.write_text("face_0001\nface_0002\n")
    edited = manifest(tmp_path, "lapa", IDS, 0.01, 0)
    assert edited.ids == ("face_0001", "face_0002"), "a hand-made choice is honoured"
    assert edited.digest != first.digest, "and is another run"


def test_another_training_set_gets_another_file(tmp_path: Path) -> None:
    assert manifest(tmp_path, "lapa", IDS, 0.01, 0).path != manifest(tmp_path, "lapa", IDS[:-1], 0.01, 0).path


@pytest.mark.parametrize("content", ["stranger\n", ""])
def test_foreign_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    path = manifest(tmp_path, "lapa", IDS, 0.01, 0).path
    path.write_text(content)
    with pytest.raises(DataError, match="subset0-1pct"):
        manifest(tmp_path, "lapa", IDS, 0.01, 0)


def test_all_labels_are_the_same_set_for_every_subset(tmp_path: Path) -> None:
    assert len({manifest(tmp_path, "lapa", IDS, 1.0, subset).digest for subset in (0, 1, 2)}) == 1
