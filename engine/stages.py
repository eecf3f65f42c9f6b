"""What a command consists of: its stages, each with the identity that its configuration gives it.

A stage's id is a digest of everything that can change its result and of nothing else. Pre-training reads no labels,
so no fraction, subset or parsing loss is in its id, and all fine-tunings of a study share one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules import subsets
from datamodules.labels import recorded_classes
from datamodules.layouts import LAYOUTS, SPLITS, AugmentedCelebA, Layout, open_layout
from datamodules.layouts.augmented_celeba import MANIFEST
from engine.settings import KEYS, OWN_LOSS
from foundation.digests import DigestCache
from foundation.errors import ConfigError, RunError
from foundation.run_folder import RunFolder


@dataclass(frozen=True)
class Stage:
    """One kind of training.

    Args:
        name: the stage's name, as in the configuration.
        version: raised by hand when a change of the code changes the stage's results.
        labelled: whether it reads labels.
    """

    name: str
    version: int
    labelled: bool


PRETRAIN = Stage("pretrain", version=3, labelled=False)
FINETUNE = Stage("finetune", version=3, labelled=True)
SEGMENT = Stage("segment", version=4, labelled=True)
CLASSIFY = Stage("classify", version=3, labelled=True)
UNETPP = "unetplusplus"
"""The parser's architecture where none was to be chosen, and the only one with a pre-training."""
METHODS = {
    "mtl": (PRETRAIN, FINETUNE),
    "baseline": (FINETUNE,),
    "transfer": (FINETUNE,),
    "segment": (SEGMENT,),
    "hybrid": (PRETRAIN, FINETUNE, CLASSIFY),
}
"""``transfer`` fine-tunes from ``finetune.start_from``, a run on whatever data; ``segment`` trains
a segmenter of hidden faces; ``hybrid`` fits heads to features, of pre-training alone if ``classify.after`` says so."""


@dataclass(frozen=True)
class Run:
    """A stage with a configuration: what is to be trained, and where it lies.

    Args:
        stage: the kind of training.
        settings: the flat canonical settings of the command.
        identity: all that enters the id.
        folder: the run folder.
        layout: reader of the data.
        manifest: the labelled faces, for a stage that reads labels.
        upstream: the run it starts from.
    """

    stage: Stage
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    folder: RunFolder
    layout: Layout
    manifest: subsets.Manifest | None
    upstream: RunFolder | None

    @property
    def id(self) -> str:
        return identity_digest(self.identity)

    def setting(self, name: str) -> Any:
        """A setting of this stage: ``setting("epochs")`` is ``finetune.epochs`` for fine-tuning."""
        return self.settings[f"{self.stage.name}.{name}"]

    def group(self, name: str) -> dict[str, Any]:
        """A group of settings of this stage: ``group("optimizer")`` -> {"name": ..., "lr": ...}."""
        prefix = f"{self.stage.name}.{name}."
        return {key.removeprefix(prefix): value for key, value in self.settings.items() if key.startswith(prefix)}


def identity_digest(identity: Mapping[str, Any]) -> str:
    """Identity -> id: twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def plan(settings: Mapping[str, Any]) -> list[Run]:
    """The runs of a command, in order, each with its id and folder; nothing is trained and little is imported.

    Raises:
        DataError: if the data is not where the settings say.
    """
    output_dir = Path(settings["output_dir"])
    layout = open_layout(settings["datamodule.dataset"], settings["datamodule.root"])
    runs: list[Run] = []
    with DigestCache(digest_cache(output_dir)) as digests:
        for stage, own in _steps(settings):
            before = [run.folder for run in runs if run.stage is not CLASSIFY]
            upstream = before[-1] if before else _start(settings, layout)
            manifest = _manifest(layout, settings, output_dir) if stage.labelled else None
            identity = {
                "stage": stage.name,
                "version": stage.version,
                "data": _data(stage, own, layout, digests),
                "labels": None if manifest is None else manifest.digest,
                "upstream": None if upstream is None else upstream.id,
                "settings": _entering(own, stage, upstream is not None, digests),
            }
            folder = RunFolder(output_dir, stage.name, identity_digest(identity))
            runs.append(Run(stage, own, identity, folder, layout, manifest, upstream))
    return runs


def _steps(settings: Mapping[str, Any]) -> Iterator[tuple[Stage, Mapping[str, Any]]]:
    """The stages of a command, each with its settings; the conv head goes before any other one."""
    for stage in METHODS[settings["method"]]:
        if stage is CLASSIFY and settings["classify.head"] != "conv":
            yield stage, {**settings, "classify.head": "conv"}
        if settings["method"] != "hybrid" or stage is not FINETUNE or settings["classify.after"] == "finetune":
            yield stage, settings


def _start(settings: Mapping[str, Any], layout: Layout) -> RunFolder | None:
    """The finished run that ``finetune.start_from`` names; None for a command that starts anew."""
    if settings["method"] != "transfer":
        return None
    name = settings["finetune.start_from"]
    expected = "Expected: the name of a run that is done, as finetune-0123456789ab, or the path of its folder."
    path = Path(name)
    folder = RunFolder.at(Path(settings["output_dir"]) / "runs" / path if len(path.parts) == 1 else path)
    if folder is None or not folder.done:
        state = "is no run folder" if folder is None or not folder.path.is_dir() else f"is {folder.state}"
        raise ConfigError(f"finetune.start_from={name}: {path if folder is None else folder.path} {state}.\n{expected}")
    if folder.stage not in (PRETRAIN.name, FINETUNE.name):
        raise ConfigError(
            f"finetune.start_from={name} is of stage {folder.stage}.\nExpected: a pretrain or finetune run."
        )
    identity = folder.status.get("identity", {})
    its = identity.get("settings", {})
    kept = ("model.encoder", "model.features") if settings["model.architecture"] == UNETPP else ("model.encoder",)
    needed = {key: settings[key] for key in ("model.architecture", *kept)}
    its = {"model.architecture": UNETPP} | its
    if settings["finetune.transfer"] == "all":
        needed["datamodule.dataset"] = layout.name
        if folder.stage != FINETUNE.name:
            raise ConfigError(
                f"finetune.transfer=all wants the head too, and {folder.name} has none for parsing.\n"
                f"Expected: finetune.transfer=trunk or encoder."
            )
    for key, value in needed.items():
        if its.get(key) != value:
            raise ConfigError(
                f"{folder.name} was trained with {key}={its.get(key)}, this command has {key}={value}.\n"
                f"Expected: the same for both, so that its weights fit."
            )
    theirs = recorded_classes(folder.status)
    if settings["finetune.transfer"] == "all" and theirs is not None and not theirs.is_same_as(layout.labels):
        raise ConfigError(
            f"{folder.name} parses {', '.join(theirs.classes)}; {layout.root} has {', '.join(layout.labels.classes)}.\n"
            f"Expected: the same classes, so that its head fits; or finetune.transfer=trunk."
        )
    return folder


def require_unchanged(run: Run) -> None:
    """See that the data still is what the run's identity says, now that it has been read.

    Raises:
        RunError: if it is not.
    """
    with DigestCache(digest_cache(run.folder.output_dir)) as digests:
        if _data(run.stage, run.settings, run.layout, digests) != run.identity["data"]:
            raise RunError(
                f"Files in {run.layout.root} changed while {run.folder.name} trained: its result is of neither state.\n"
                f"The same command now trains on the data as they are, as another run."
            )


def digest_cache(output_dir: Path) -> Path:
    """Where digests of file contents are remembered."""
    return output_dir / "cache" / "digests.sqlite"


def _entering(settings: Mapping[str, Any], stage: Stage, follows: bool, digests: DigestCache) -> dict[str, Any]:
    """The settings that can change this stage's numbers."""
    entering = {name: settings[name] for name, key in KEYS.items() if key.is_in(stage.name)}
    for name in _idle(settings, stage):
        entering.pop(name, None)
    if follows:
        entering.pop("model.encoder_weights", None)  # overwritten by what is handed over, whose id holds them
        return entering
    entering.pop("finetune.transfer", None)  # nothing is handed over
    for key in ("model.encoder_weights", "segment.encoder_weights"):
        weights = entering.get(key)
        if weights in (None, "imagenet"):
            continue
        if not Path(weights).is_file():
            encoder = settings["model.encoder"] if key.startswith("model") else settings["segment.network"]
            raise ConfigError(
                f"{key}={weights} is no file.\n"
                f"Expected: imagenet, null (random weights), or the path of a state dictionary of {encoder}."
            )
        entering[key] = digests.of_file(Path(weights))  # what it holds, not where it lies
    return entering


def _idle(settings: Mapping[str, Any], stage: Stage) -> Iterator[str]:
    """Settings that the choice of another one leaves without effect."""
    if stage is CLASSIFY:
        yield from _idle_of_heads(settings)
        return
    if settings["trainer.devices"] == 1:
        yield "trainer.sync_batchnorm"
    if settings[f"{stage.name}.optimizer.name"] != "sgd":
        yield f"{stage.name}.optimizer.momentum"
    if settings["model.architecture"] == UNETPP:  # was no choice once: runs from then keep their ids
        yield "model.architecture"
    else:
        yield "model.features"
    if stage is PRETRAIN:
        if settings["pretrain.contrastive"] == 0:
            yield "pretrain.temperature"
        if settings["pretrain.masking"] == "none":
            yield from ("pretrain.patches", "pretrain.patch_size", "pretrain.fill")
    if stage is SEGMENT:
        # Were no choices once: runs from then keep their ids.
        if settings["segment.folds"] is None:
            yield from ("segment.folds", "segment.fold")
        if not settings["segment.on_the_fly"]:
            yield "segment.on_the_fly"
        if settings["segment.augmentation.crop"] == 0 or not LAYOUTS[settings["datamodule.dataset"]].knows_faces:
            yield "segment.augmentation.crop"
        if settings["segment.augmentation.dye"] == 0:
            yield "segment.augmentation.dye"
        if settings["segment.optimizer.name"] == "sgd":
            yield "segment.optimizer.beta1"
        if settings["segment.encoder_weights"] is None:
            yield "segment.encoder_weights"
        if settings["segment.network"] in OWN_LOSS:
            yield "segment.lambda_dice"
        if settings["segment.network"] != "modified_unet":
            yield from (
                f"segment.{name}" for name in ("bottleneck_convs", "kernel", "decoder_kernel", "count", "rho_lr")
            )
    if stage is FINETUNE:
        if settings["finetune.trained"] == "head":
            yield from ("finetune.trunk_lr", "finetune.frozen_epochs", "finetune.statistics")
        # Were no choices once: runs from then keep their ids.
        if settings["finetune.frozen_epochs"] == 0:
            yield "finetune.frozen_epochs"
        if settings["finetune.statistics"] == "adapt":
            yield "finetune.statistics"
        if settings["datamodule.merging"] is None:
            yield "datamodule.merging"
        if settings["finetune.background"] == "literature":
            yield "finetune.background"
        loss = settings["finetune.loss"]
        if "focal" not in loss:
            yield from ("finetune.alpha", "finetune.gamma")
        if "dice" not in loss:
            yield from ("finetune.lambda_ce", "finetune.lambda_dice")


def _idle_of_heads(settings: Mapping[str, Any]) -> Iterator[str]:
    head, machine = settings["classify.head"], settings["classify.machine"]
    if head == "conv" and settings["classify.after"] == "finetune":  # is there already
        yield from (f"classify.{name}" for name in ("seed", "features", "C", "pixels", "max_pixels", "prior"))
    if head == "conv":
        yield "classify.machine"
    if head == "conv" or machine == "linear":
        yield "classify.gamma"
    if head == "conv" or machine != "nystroem":
        yield "classify.landmarks"
    if head != "svm_rh":
        yield "classify.order"
    if settings["datamodule.merging"] is None:
        yield "datamodule.merging"
    if settings["finetune.background"] == "literature":
        yield "finetune.background"


def splits_read(stage: Stage) -> Sequence[str]:
    """The splits whose files a stage may read."""
    return SPLITS if stage.labelled else SPLITS[:2]


def _data(stage: Stage, settings: Mapping[str, Any], layout: Layout, digests: DigestCache) -> str:
    """Digest of all data that a stage reads."""
    digest = data_digest(layout, splits_read(stage), stage.labelled, digests)
    if stage is not SEGMENT or not settings["segment.on_the_fly"]:
        return digest
    assert isinstance(layout, AugmentedCelebA)  # noqa: S101 (for the type checker: on_the_fly is refused elsewhere)
    return hashlib.sha256(f"{digest} {_masks_drawn(layout, digests)}".encode()).hexdigest()[:16]


def _masks_drawn(layout: AugmentedCelebA, digests: DigestCache) -> str:
    """What decides the masks that are drawn as one trains, as one text: landmarks, templates, and what may be worn."""
    from datamodules.synthesis.masked_faces.wanted import VERSION, choices_of  # image libraries
    from datamodules.synthesis.masks.templates import read_templates

    choices = choices_of(layout.parameters())
    files = [(MANIFEST, layout.root / MANIFEST)]
    if choices.templates is not None:
        files.append(("masks.cfg", choices.templates / "masks.cfg"))
        for name, tilts in read_templates(choices.templates).items():
            files += [(f"template/{name}/{tilt}", template.file) for tilt, template in tilts.items()]
    worn = asdict(choices) | {"templates": None}  # what they hold, not where they lie
    return f"{VERSION} {digests.of_files(files)} {json.dumps(worn, sort_keys=True)}"


def data_digest(layout: Layout, splits: Iterable[str], labelled: bool, digests: DigestCache) -> str:
    """Digest of the contents of all files of some splits, with or without those of labels and declared classes."""
    files: list[tuple[str, Path]] = []
    for split in splits:
        for sample in layout.samples(split, labelled=labelled):
            files.append((f"{split}/{sample.id}/image", sample.image))
            files += [(f"{split}/{sample.id}/{name}", path) for name, path in sample.label_files]
            if sample.photograph is not None:
                files.append((f"{split}/{sample.id}/photograph", sample.photograph))
    digest, declared = digests.of_files(files), layout.declared if labelled else None
    return digest if declared is None else hashlib.sha256(f"{digest} {declared}".encode()).hexdigest()[:16]


def _manifest(layout: Layout, settings: Mapping[str, Any], output_dir: Path) -> subsets.Manifest:
    ids = [sample.id for sample in layout.samples("train")]
    return subsets.manifest(output_dir / "manifests", layout.name, ids, settings["label_fraction"], settings["subset"])
