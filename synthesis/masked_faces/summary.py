"""Summary of the photographs and samples of a built set: as plain data, and for the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from datamodules.layouts.photographs import Photograph
from foundation.names import shown
from synthesis.masked_faces.config import MaskedFacesConfig

SUMMARY = "summary.json"


def summary_of(
    config: MaskedFacesConfig,
    photos: Sequence[Photograph],
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Counts of photographs, samples and their groups, as plain data."""
    unreadable = [row["source"] for row in rows if "error" in row]
    faceless = [row["source"] for row in rows if not row["faces"] and "error" not in row]
    faces = [face for line in lines for face in line["faces"]]
    looked = len(rows) - len(unreadable)
    return {
        "samples": len(lines),
        "photographs": {
            "there": len(photos),
            "looked_at": len(rows),
            "used": len({line["source"] for line in lines}),
        },
        "no_face_rate": len(faceless) / looked if looked else 0.0,
        "several_faces": sum(len(row["faces"]) > 1 for row in rows),
        "split": dict(Counter(line["split"] for line in lines)),
        **{
            name: dict(sorted(Counter(face[name] or "none" for face in faces).items()))
            for name in ("found", "type", "texture", "style", "tilt", "distractor")
        },
        "unreadable": sorted(unreadable),
        "no_face": sorted(faceless),
        "without_split": sum(photo.split is None for photo in photos) if config.split == "partition" else 0,
    }


def table(out: Path, summary: Mapping[str, Any]) -> Table:
    table = Table(title=f"{escape(str(out))}: {summary['samples']} masked faces", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("what")
    table.add_column("how many")
    seen = summary["photographs"]
    table.add_row("photographs", f"{seen['used']} used, {seen['looked_at']} looked at, {seen['there']} there")
    share = f"{100 * summary['no_face_rate']:.1f} %"
    table.add_row("no face found", f"{len(summary['no_face'])} ({share}){_first(summary['no_face'])}")
    table.add_row("unreadable", f"{len(summary['unreadable'])}{_first(summary['unreadable'])}")
    table.add_row("several faces", f"{summary['several_faces']} photographs")
    for name in ("split", "found", "type", "style", "tilt", "distractor"):
        table.add_row(name, ", ".join(f"{key} {count}" for key, count in summary[name].items()))
    table.caption = f"all lists: {SUMMARY}"
    return table


def _first(names: Sequence[str]) -> str:
    first = ", ".join(escape(shown(name)) for name in names[:3])
    return f": {first}{' ...' if len(names) > 3 else ''}" if names else ""
