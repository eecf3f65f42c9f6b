"""Synthetic faces as labelled data: a second labelled set next to real ones, and faces rendered during training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datamodules.layouts import PARSED, Layout, open_layout
from engine.planning import data_digest
from engine.settings import PathText, Settings, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError, DataError
from stages.building import merging_of

if TYPE_CHECKING:
    from datamodules.rendered_faces import RenderFace
    from datamodules.self_training import SyntheticLabels

MADE = "a folder made by python prepare.py task=synthetic_faces layout=lapa, or layout=celebamask_hq"
RENDERED = "render another face each time one of the set is read, so that none is seen twice"
WITH_SYNTHETIC = "root!=null"


class SyntheticSettings(Settings):
    """Synthetic faces among the labelled ones."""

    root: PathText | None = setting(
        None, "a folder of prepare.py task=synthetic_faces; null: none", harmless="enters by its content"
    )
    share: float = setting(
        0.25, "their share of the labelled images of a batch; 1 with label_fraction=0", gt=0, le=1, only=WITH_SYNTHETIC
    )
    schedule: Literal["constant", "linear"] = setting(
        "constant", "constant, or a linear decrease of the share to 0", only=WITH_SYNTHETIC
    )
    photometric: float = setting(
        1.0, "strength of their random light, colours, blur and noise", ge=0, le=1, only=WITH_SYNTHETIC
    )
    on_the_fly: bool = setting(False, RENDERED, only=WITH_SYNTHETIC, later=True)


def synthetic_layout(run: Run) -> Layout | None:
    """The reader of the synthetic faces of a run of self-training; None without any.

    Raises:
        ConfigError: if their classes do not map to those of the data set.
        DataError: if the folder was not made by ``prepare.py task=synthetic_faces``.
    """
    root = run.own.synthetic.root
    if root is None:
        return None
    layout = open_layout(_built(Path(root), "semi.synthetic.root")["layout"], root)
    if not layout.labels.maps_to(run.layout.labels):
        raise ConfigError(
            f"semi.synthetic.root={root} has the classes of {layout.labels.name}, which do not map to those of "
            f"{run.layout.labels.name}: {', '.join(run.layout.labels.classes)}.\n"
            f"It must have the same classes, or be of layout=celebamask_hq for data of the classes of lapa."
        )
    return layout


def synthetic_labels(run: Run) -> SyntheticLabels | None:
    """The second labelled set of a run of self-training; None without any. Raises as :func:`synthetic_layout`."""
    from datamodules.self_training import SyntheticLabels

    layout, own = synthetic_layout(run), run.own.synthetic
    if layout is None:
        return None
    merging = None if own.on_the_fly else merging_of(run, layout, _order(run, layout))
    return SyntheticLabels(
        layout,
        own.share,
        own.schedule,
        own.photometric,
        merging,
        face_renderer(run, layout, "semi.synthetic.root") if own.on_the_fly else None,
    )


def synthetic_digest(run: Run, digests: DigestCache) -> str | None:
    """Digest of the second labelled set of a run of self-training; None without any."""
    layout = synthetic_layout(run)
    if layout is None:
        return None
    if run.own.synthetic.on_the_fly:
        return f"synthetic {rendering_digest(layout, 'semi.synthetic.root')}"
    return f"synthetic {layout.name} {data_digest(layout, ('train',), True, digests)}"


def face_renderer(run: Run, layout: Layout, key: str) -> RenderFace:
    """Renders faces like those of a set while a stage trains.

    Args:
        run: the run.
        layout: the set.
        key: the setting that names its folder.

    Raises:
        DataError: if the folder was not made by ``prepare.py task=synthetic_faces``.
    """
    from synthesis.on_the_fly import renderer_of

    return renderer_of(_built(layout.root, key), layout.labels, _order(run, layout))


def rendering_digest(layout: Layout, key: str) -> str:
    """A text that identifies the faces that :func:`face_renderer` renders; raises as it."""
    from synthesis.synthetic_faces import GENERATOR_VERSION

    return f"rendered {layout.name} {_built(layout.root, key)['size']} px, generator {GENERATOR_VERSION}"


def _order(run: Run, layout: Layout) -> str | None:
    from stages.command import MERGED_DATA

    return (run.settings.datamodule.merging or "official") if layout.name in MERGED_DATA else None


def _built(root: Path, key: str) -> Mapping[str, Any]:
    """The ``dataset.json`` of a folder of labelled synthetic faces."""
    try:
        about: dict[str, Any] = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        if about["origin"] == "drawn" and about["layout"] in PARSED and int(about["size"]) > 0:
            return about
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(f"{key}={root} holds no labelled synthetic faces.\nIt must be {MADE}.")
