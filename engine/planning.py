"""Plan the runs of a command: compute the identity and id of each stage.

A run's id is a digest of everything that can change its result and of nothing else. Pre-training reads no labels, so
its id contains no label fraction, subset or parsing loss, and all fine-tunings of a study share one pre-training.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules import subsets
from datamodules.layouts import Layout
from engine.plugins import source_digests
from engine.settings import entering
from engine.stage import Run, Stage
from foundation.digests import DigestCache
from foundation.errors import RunError
from foundation.run_folder import RunFolder


def plan(
    steps: Iterable[tuple[Stage, Any]],
    start: RunFolder | None,
    layout: Layout,
    output_dir: Path,
    added: Mapping[str, Any] = types.MappingProxyType({}),
) -> list[Run]:
    """The runs of a command, in order, each with its id and folder; trains nothing and does not import torch.

    Args:
        steps: stages, each with its settings. Each starts from the stage before it; consecutive steps of the same
            stage (several heads on the same features) start from the same run.
        start: the run that the first stage starts from.
        layout: reader of the data.
        output_dir: contains the run folders.
        added: enters every id like a setting.

    Raises:
        DataError: if the data is not at the configured path.
    """
    runs: list[Run] = []
    steps = list(steps)
    verify = any(getattr(settings, "verify", False) for _, settings in steps)
    with DigestCache(digest_cache(output_dir), verify) as digests:
        for stage, settings in steps:
            before = [run.folder for run in runs if run.stage.name != stage.name]
            upstreams = tuple(before[-1:] or ([] if start is None else [start]))
            manifest = None
            if stage.labelled and stage.takes_fraction:
                unlabelled = settings.label_fraction == 0 and "train" not in layout.labelled_splits
                ids = [] if unlabelled else [sample.id for sample in layout.samples("train")]
                chosen = (settings.label_fraction, settings.subset)
                manifest = subsets.manifest(output_dir / "manifests", layout.name, ids, *chosen)
            runs.append(_identified(Run(stage, settings, layout, manifest, upstreams), output_dir, digests, added))
    return runs


def _identified(run: Run, output_dir: Path, digests: DigestCache, added: Mapping[str, Any]) -> Run:
    given = {f"stages.{run.stage.name}.{name}": value for name, value in run.stage.arguments.items()}
    settings = {**entering(run.settings, run.stage.reads), **given, **added, **run.stage.identity(run, digests)}
    identity: dict[str, Any] = {
        "stage": run.stage.name,
        "version": run.stage.version,
        "data": _data(run, digests),
        "labels": None if run.manifest is None else run.manifest.digest,
        "upstreams": [folder.id for folder in run.upstreams],
        "settings": {name: value for name, value in settings.items() if value is not LEFT_OUT},
    }
    if sources := source_digests(identity["settings"] | {"stages": type(run.stage)}):
        identity["sources"] = sources
    run_id = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    return replace(run, identity=identity, folder=RunFolder(output_dir, run.stage.name, run_id))


LEFT_OUT: Any = object()
"""The value by which :meth:`engine.stage.Stage.identity` removes a setting from the id."""


def require_unchanged(run: Run) -> None:
    """Check after training that the data still matches the run's identity.

    Raises:
        RunError: if it does not; the checkpoints are removed.
    """
    with DigestCache(digest_cache(run.folder.output_dir)) as digests:
        changed = _data(run, digests) != run.identity["data"]
        its = run.stage.identity(run, digests)
        if changed or any(value != run.identity["settings"].get(name, LEFT_OUT) for name, value in its.items()):
            run.folder.last.unlink(missing_ok=True)  # a rerun on the restored data must not find it finished
            run.folder.best.unlink(missing_ok=True)
            raise RunError(
                f"Files in {run.layout.root}, or weights, changed while {run.folder.name} ran: its result is invalid.\n"
                f"The same command trains on the data as they are now, under another id."
            )


def digest_cache(output_dir: Path) -> Path:
    """The path of the digest cache."""
    return output_dir / "cache" / "digests.sqlite"


def _data(run: Run, digests: DigestCache) -> str:
    """Digest of all data that a run reads."""
    digest = data_digest(run.layout, run.stage.splits_of(run), run.stage.labelled, digests)
    return _joined(digest, run.stage.extra_data(run, digests))


def _joined(digest: str, added: str | None) -> str:
    return digest if added is None else hashlib.sha256(f"{digest} {added}".encode()).hexdigest()[:16]


def data_digest(layout: Layout, splits: Sequence[str], labelled: bool, digests: DigestCache) -> str:
    """Digest of the contents of all files of some splits, with or without label maps and declared classes."""
    files: list[tuple[str, Path]] = []
    for split in splits:
        without = split == "train" and split not in layout.labelled_splits  # with label_fraction=0
        for sample in layout.samples(split, labelled=labelled and not without):
            files.append((f"{split}/{sample.id}/image", sample.image))
            files += [(f"{split}/{sample.id}/{name}", path) for name, path in sample.label_files]
            if sample.photograph is not None:
                files.append((f"{split}/{sample.id}/photograph", sample.photograph))
    return _joined(digests.of_files(files), layout.declared if labelled else None)
