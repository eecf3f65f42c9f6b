"""Augmented sets of masked faces for tests: built, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
from synthesis.masks.choices import MaskChoices


def build(out: Path, source: Path, workers: int = 1, **changes: Any) -> Path:
    choices = changes.pop("choices", MaskChoices(bare=0.1, distractors=0.2))
    write_masked_faces(
        out, MaskedFacesConfig(source, **{"count": 24, "seed": 0, "choices": choices, **changes}), workers
    )
    return out


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())
