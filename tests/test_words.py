"""The word lint finds refused words in names and prose, and nothing else."""

from __future__ import annotations

import pytest

from tests.words import found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n# A picture.\n", [(2, "picture")]),
        ("def hidden_area(HiddenMask): ...", [(1, "hidden"), (1, "hidden")]),
        ("# masks drawn on\n# the drawn\n# faces", [(2, "drawn faces")]),
        ("the truth, the ground truth, the ground\ntruth, GROUND_TRUTH", [(1, "truth")]),
        ('"A value that cannot be."\n"It cannot be read."', [(1, "cannot be")]),
        ("a default image, a rendered mask, an unhidden, an indoor place", []),
    ],
)
def test_refused_words(text: str, words: list[tuple[int, str]]) -> None:
    assert [match[:2] for match in found(text)] == words


def test_exceptions() -> None:
    assert not [*found("hidden layers", (r"hidden layers",))]
