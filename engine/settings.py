"""Every setting of a training run: its type, its range, and the stages whose results it can change.

A setting that can change a stage's numbers stands here with that stage's name and enters its identity. One that does
not stands here with the reason. What is not in this table is no setting. ``docs/settings.md`` is this table in print:
``make docs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.labels import CELEBAMASK_HQ, PAINTING_ORDERS
from engine.kinds import choice, integer, number, optional, pair, text
from foundation.errors import ConfigError, nearest
from foundation.run_folder import EVALUATE

CONF = Path(__file__).parent.parent / "conf"


@dataclass(frozen=True)
class Key:
    """One setting.

    Args:
        read: the value in its canonical form (an int given for a float becomes one); ValueError if it cannot be.
        expected: what a value has to be, for the message.
        enters: stages whose identity holds the value, or the reason why none does.
        note: how it enters, where that is not plainly as its value.
    """

    read: Callable[[Any], Any]
    expected: str
    enters: tuple[str, ...] | str
    note: str = ""

    def is_in(self, stage: str) -> bool:
        """Whether the identity of a stage holds the value."""
        return not isinstance(self.enters, str) and stage in self.enters


def group_options(group: str) -> list[str]:
    """The choices of a configuration group: the files of its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


TEXT = (text, "a text")
FLAG = choice(True, False)
BOTH, FIRST, SECOND, SEGMENT = ("pretrain", "finetune"), ("pretrain",), ("finetune",), ("segment",)
STAGES = (*BOTH, *SEGMENT)
CLASSIFY = ("classify",)
LABELS = (*SECOND, *CLASSIFY)

ARCHITECTURES = ("unetplusplus", "deeplabv3plus", "segformer", "linknet")
"""Networks that parse faces."""
NETWORKS = (
    *("modified_unet", "base_unet", "map_module", "facial_mask_detector", "mask_then_classify"),
    *("unet_id", "maskplus", "yolo", "yolo_ultralytics", "ganmasker", "segformer"),
)
"""Networks that find what hides a face: the occlusion paper's Table 4, and SegFormer."""
DETECTORS = ("maskplus", "yolo", "yolo_ultralytics")
"""Those that look for masks as wholes, each in its box."""
OWN_LOSS = ("map_module", *DETECTORS)
"""Those that are not trained pixel by pixel."""
LEARNS_MORE = ("mask_then_classify", "unet_id", *DETECTORS)
"""Those whose training is more than the loss of their answer."""
WITH_ENCODER = ("facial_mask_detector", "maskplus", "segformer")
"""Those whose encoder has published weights."""

NAME = "a name; what it sets enters by itself"
PLACE = "where files lie; what they hold enters as the data's digest"
BESIDE = "what is done, not what comes of it"
SAME = "the same samples and scores, sooner or later"
ALIKE = "the same arithmetic elsewhere, alike up to rounding"
MASKED = "only where something is masked"
FITTED = "not of a fine-tuned conv head, which is there already"
MANIFEST = "enters fine-tuning as the set of labelled faces that it chooses"


def _optimization(stage: str) -> dict[str, Key]:
    """Settings that every trained stage has."""
    own = (stage,)
    return {
        f"{stage}.seed": Key(*integer(0, most=2**32 - 1), own),
        f"{stage}.batch_size": Key(*integer(1), own),
        f"{stage}.epochs": Key(*integer(1), own),
        f"{stage}.steps_per_epoch": Key(*optional(integer(1)), own),
        f"{stage}.augmentation.rotation": Key(*number(0, 180), own),
        f"{stage}.augmentation.scale": Key(*pair(number(0.1, 10)), own),
        f"{stage}.augmentation.flip": Key(*number(0, 1), own),
        f"{stage}.augmentation.color": Key(*number(0, 1), own),
        f"{stage}.optimizer.name": Key(*choice("sgd", "adam", "adamw"), own),
        f"{stage}.optimizer.lr": Key(*number(0, open_below=True), own),
        f"{stage}.optimizer.momentum": Key(*number(0, 1), own, "only with sgd"),
        f"{stage}.optimizer.weight_decay": Key(*number(0), own),
        f"{stage}.schedule.name": Key(*choice("constant", "cosine"), own),
        f"{stage}.schedule.warmup": Key(*number(0, 1), own),
    }


KEYS: dict[str, Key] = {
    "experiment": Key(text, "experiment=<one of " + ", ".join(group_options("experiment")) + ">", NAME),
    "scale": Key(*TEXT, NAME),
    "recipe": Key(*TEXT, NAME),
    "method": Key(
        *choice("mtl", "baseline", "transfer", "segment", "hybrid"),
        "enters fine-tuning as the id of the run it starts from",
    ),
    "ablation": Key(*optional(TEXT), NAME),
    "sweep_name": Key(*optional(TEXT), NAME),
    "label_fraction": Key(*number(0, 1, open_below=True), MANIFEST),
    "subset": Key(*choice(0, 1, 2), MANIFEST),
    "seed": Key(*integer(0, most=2**32 - 1), "enters as each stage's own seed, whose default it is"),
    "output_dir": Key(*TEXT, PLACE),
    "force": Key(*FLAG, BESIDE),
    "dry_run": Key(*FLAG, BESIDE),
    "datamodule.dataset": Key(*TEXT, (*STAGES, *CLASSIFY)),
    "datamodule.root": Key(*TEXT, PLACE),
    "datamodule.merging": Key(*optional(choice(*PAINTING_ORDERS)), LABELS, "only where labels come as parts"),
    "datamodule.image_size": Key(*integer(32, multiple=32), (*STAGES, *CLASSIFY)),
    "datamodule.eval_batch_size": Key(*integer(1), SAME),
    "datamodule.workers": Key(*optional(integer(0)), SAME),
    "datamodule.cache": Key(*choice("none", "ram", "disk"), SAME),
    "model.architecture": Key(*optional(choice(*ARCHITECTURES)), BOTH, "not at unetplusplus"),
    "model.encoder": Key(*TEXT, (*BOTH, *CLASSIFY)),
    "model.encoder_weights": Key(
        *optional(TEXT), BOTH, "a file by what it holds; not in a fine-tuning that starts from a pre-training"
    ),
    "model.features": Key(*integer(1), (*BOTH, *CLASSIFY), "only of unetplusplus"),
    **_optimization("pretrain"),
    "pretrain.masking": Key(*choice("central", "random", "adaptive", "none"), FIRST),
    "pretrain.patches": Key(*integer(1), FIRST, MASKED),
    "pretrain.patch_size": Key(*pair(integer(1)), FIRST, MASKED),
    "pretrain.fill": Key(*choice("zero", "mean", "noise"), FIRST, MASKED),
    "pretrain.loss": Key(*choice("mse", "l1"), FIRST),
    "pretrain.reduction": Key(*choice("mean", "sum"), FIRST),
    "pretrain.loss_over": Key(*choice("box", "image", "masked"), FIRST),
    "pretrain.contrastive": Key(*number(0), FIRST),
    "pretrain.temperature": Key(*number(0, open_below=True), FIRST, "only with a contrastive term"),
    **_optimization("finetune"),
    "finetune.validate_every": Key(*integer(1), SECOND),
    "finetune.start_from": Key(*optional(TEXT), "enters as the id of that run"),
    "finetune.transfer": Key(*choice("trunk", "encoder", "all"), SECOND, "only where it starts from another run"),
    "finetune.trained": Key(*choice("all", "decoder", "head"), SECOND),
    "finetune.trunk_lr": Key(*number(0, open_below=True), SECOND, "only where the trunk is trained"),
    "finetune.frozen_epochs": Key(*integer(0), SECOND, "only where the trunk is trained"),
    "finetune.statistics": Key(*choice("adapt", "keep"), SECOND, "only where the trunk is trained"),
    "finetune.loss": Key(*choice("focal_dice", "ce_dice", "focal", "ce"), SECOND),
    "finetune.lambda_ce": Key(*number(0), SECOND, "only with two terms"),
    "finetune.lambda_dice": Key(*number(0), SECOND, "only with two terms"),
    "finetune.alpha": Key(*number(0, 1), SECOND, "only with a focal term"),
    "finetune.gamma": Key(*number(0), SECOND, "only with a focal term"),
    "finetune.score_at": Key(*choice("label", "input"), SECOND),
    "finetune.background": Key(
        *choice("literature", "in", "out"), LABELS, "chooses the best epoch by val/miou; not at literature"
    ),
    **_optimization("segment"),
    "segment.augmentation.shift": Key(*number(0, 0.5), SEGMENT),
    "segment.augmentation.degrade": Key(*number(0, 1), SEGMENT),
    "segment.augmentation.crop": Key(*number(0, 1), SEGMENT),
    "segment.augmentation.dye": Key(*number(0, 1), SEGMENT),
    "segment.optimizer.beta1": Key(*number(0, 0.9999), SEGMENT, "only with adam and adamw"),
    "segment.validate_every": Key(*integer(1), SEGMENT),
    "segment.on_the_fly": Key(*FLAG, SEGMENT, "only with augmented_celeba"),
    "segment.folds": Key(*optional(integer(2)), SEGMENT),
    "segment.fold": Key(*integer(0), SEGMENT, "only with folds"),
    "segment.network": Key(*optional(choice(*NETWORKS)), SEGMENT),
    "segment.encoder_weights": Key(*optional(TEXT), SEGMENT, "not at null; a file by what it holds"),
    "segment.width": Key(*optional(integer(2, multiple=2)), SEGMENT),
    "segment.bottleneck_convs": Key(*choice(1, 2), SEGMENT, "only of modified_unet, as the next four"),
    "segment.kernel": Key(*integer(1), SEGMENT),
    "segment.decoder_kernel": Key(*integer(1), SEGMENT),
    "segment.count": Key(*choice("all", "paper"), SEGMENT),
    "segment.rho_lr": Key(*number(0), SEGMENT),
    "segment.initialization": Key(*choice("default", "xavier", "he", "normal"), SEGMENT),
    "segment.lambda_dice": Key(*number(0), SEGMENT, "not of " + ", ".join(OWN_LOSS)),
    "segment.noise_kernel": Key(*integer(1), SEGMENT),
    "segment.score_at": Key(*choice("label", "input"), SEGMENT),
    "classify.seed": Key(*integer(0, most=2**32 - 1), CLASSIFY, FITTED),
    "classify.after": Key(*choice("pretrain", "finetune"), "enters as the id of that run"),
    "classify.head": Key(*choice("svm_rh", "svm_bdt", "svm_ovr", "svm_ovo", "conv"), CLASSIFY),
    "classify.features": Key(*choice("map", "hypercolumns"), CLASSIFY, FITTED),
    "classify.machine": Key(*choice("linear", "rbf", "nystroem"), CLASSIFY, "not of conv"),
    "classify.C": Key(*number(0, open_below=True), CLASSIFY, FITTED),
    "classify.gamma": Key(*optional(number(0, open_below=True)), CLASSIFY, "only with a kernel"),
    "classify.landmarks": Key(*integer(1), CLASSIFY, "only with nystroem"),
    "classify.order": Key(*choice("separability", "frequency"), CLASSIFY, "only of svm_rh"),
    "classify.pixels": Key(*integer(1), CLASSIFY, FITTED),
    "classify.max_pixels": Key(*integer(1), CLASSIFY, FITTED),
    "classify.prior": Key(*number(0, 1), CLASSIFY, FITTED),
    "classify.score_at": Key(*choice("label", "input"), CLASSIFY),
    "trainer.accelerator": Key(*choice("auto", "cpu", "gpu", "mps"), ALIKE),
    "trainer.devices": Key(*integer(1), STAGES),
    "trainer.strategy": Key(*choice("auto", "ddp", "ddp_spawn"), ALIKE),
    "trainer.precision": Key(*choice("32-true", "bf16-mixed", "16-mixed", "64-true"), STAGES),
    "trainer.sync_batchnorm": Key(*FLAG, STAGES, "only with several devices"),
    "trainer.channels_last": Key(*FLAG, STAGES),
    "trainer.compile": Key(*FLAG, STAGES),
    "trainer.deterministic": Key(*choice(True, False, "warn"), STAGES),
}
TRAINED = {"mtl": BOTH, "hybrid": BOTH, "segment": SEGMENT}
"""The stages of a method that has others than fine-tuning."""

PARSED_DATA, MASKED_DATA = ("lapa", "celebamask_hq", "folder"), ("augmented_celeba", "image_mask_folder")
"""Data sets of faces in parts, and of hidden faces, which method=segment is for."""
MOST_EXACT = 20_000
"""Pixels to which machines with an exact RBF kernel are fitted, at most."""
ANNOTATED_DATA = ("mafa", "fmld", "folder_per_class")
"""Data sets without pixel truth, which a segmenter can be tested on."""

EVALUATION: dict[str, Key] = {
    "checkpoint": Key(
        text, "a run's name, as finetune-0123456789ab, its folder, or a best.ckpt", "enters by what it holds"
    ),
    "dataset": Key(*choice(*PARSED_DATA, *MASKED_DATA, *ANNOTATED_DATA), (EVALUATE,)),
    "root": Key(*optional(TEXT), PLACE),
    "classes": Key(*optional(TEXT), "enters as the mapping between classes"),
    "merging": Key(*optional(choice(*PAINTING_ORDERS)), (EVALUATE,)),
    "split": Key(*choice("test", "val", "all"), (EVALUATE,)),
    "score_at": Key(*optional(choice("label", "input")), (EVALUATE,)),
    "background": Key(*optional(choice("literature", "in", "out")), (EVALUATE,)),
    "image_size": Key(*optional(integer(32, multiple=32)), (EVALUATE,)),
    "batch_size": Key(*integer(1), SAME),
    "workers": Key(*optional(integer(0)), SAME),
    "panels": Key(*integer(0), BESIDE),
    "trainer.accelerator": Key(*choice("auto", "cpu", "gpu", "mps"), ALIKE),
    "trainer.precision": Key(*optional(choice("32-true", "bf16-mixed", "16-mixed", "64-true")), (EVALUATE,)),
    "output_dir": Key(*TEXT, PLACE),
    "force": Key(*FLAG, BESIDE),
}
"""Every setting of an evaluation; null is the checkpoint's own."""

PREDICTION: dict[str, Key] = {
    "checkpoint": EVALUATION["checkpoint"],
    "input": Key(
        lambda given: str(given) if type(given) is int else text(given),
        "a picture, a video, a folder, a pattern, or a camera's number",
        PLACE,
    ),
    "out": Key(*TEXT, PLACE),
    "faces": Key(*choice("auto", "box", "whole"), SAME),
    "overlays": Key(*FLAG, BESIDE),
    "parts": Key(*FLAG, BESIDE),
    "image_size": EVALUATION["image_size"],
    "batch_size": EVALUATION["batch_size"],
    "trainer.accelerator": EVALUATION["trainer.accelerator"],
    "landmark_model": Key(*optional(TEXT), PLACE),
    "output_dir": EVALUATION["output_dir"],
}
"""Every setting of ``predict.py``; nothing of it enters an id."""

EXPORT: dict[str, Key] = {
    "checkpoint": EVALUATION["checkpoint"],
    "format": Key(*choice("onnx", "torchscript"), SAME),
    "precision": Key(*choice("fp32", "fp16", "int8"), SAME),
    "out": Key(*optional(TEXT), PLACE),
    "dataset": Key(*optional(choice(*PARSED_DATA, *MASKED_DATA)), SAME),
    "root": EVALUATION["root"],
    "split": EVALUATION["split"],
    "faces": Key(*integer(1), SAME),
    "calibration": Key(*integer(1), SAME),
    "image_size": EVALUATION["image_size"],
    "rounds": Key(*integer(0), BESIDE),
    "workers": EVALUATION["workers"],
    "trainer.accelerator": Key(*choice("cpu"), ALIKE),
    "output_dir": EVALUATION["output_dir"],
}
"""Every setting of ``export.py``; nothing of it enters an id."""

FREE = ("callbacks", "logger")
"""Groups whose entries a user may add to; they stand beside training and change no number."""

IN_PARTS = (CELEBAMASK_HQ.name,)
"""Data sets whose labels come as one mask a part, to be merged."""

WANDB_MODE = Key(*choice("offline", "online", "disabled"), BESIDE)

GROUPS = (
    "datamodule",
    "model",
    "pretrain",
    "finetune",
    "segment",
    "classify",
    "recipe",
    "scale",
    "trainer",
    "logger",
    "callbacks",
    "experiment",
    "ablation",
    "sweep",
    "launcher",
)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings -> {"a.b.c": value}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and not (not prefix and name in FREE):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def check(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed training configuration -> its settings in canonical form, flat.

    Raises:
        ConfigError: naming the first key or value that cannot be, with what was expected and the nearest right one.
    """
    settings = _settings({name: value for name, value in flatten(config).items() if name not in FREE}, KEYS)
    dataset, method = settings["datamodule.dataset"], settings["method"]
    if (method == "segment") != (dataset in MASKED_DATA):
        fitting = MASKED_DATA if method == "segment" else PARSED_DATA
        raise ConfigError(
            f"method={method} cannot be with datamodule.dataset={dataset}.\n"
            f"Expected there: datamodule={' or '.join(fitting)}."
        )
    _check_network(settings)
    for stage in TRAINED.get(method, SECOND):
        if settings[f"{stage}.batch_size"] % settings["trainer.devices"]:
            raise ConfigError(
                f"{stage}.batch_size={settings[f'{stage}.batch_size']} cannot be shared by "
                f"trainer.devices={settings['trainer.devices']}.\n"
                f"Expected: a multiple of the number of devices; batch_size is the total over all of them."
            )
    if settings["pretrain.masking"] == "none" and settings["pretrain.loss_over"] == "masked":
        raise ConfigError(
            "pretrain.loss_over=masked with pretrain.masking=none leaves no pixel to learn from.\n"
            "Expected: pretrain.loss_over=box or image there."
        )
    start = settings["finetune.start_from"]
    if (settings["method"] == "transfer") != (start is not None):
        raise ConfigError(
            f"method={settings['method']} and finetune.start_from={start} do not go together.\n"
            f"Expected: method=transfer finetune.start_from=<a run>, or neither."
        )
    if method in ("mtl", "hybrid") and settings["finetune.transfer"] == "all":
        raise ConfigError(
            f"finetune.transfer=all is not for method={method}: a head that reconstructs cannot parse.\n"
            "Expected: finetune.transfer=trunk or encoder."
        )
    merging = settings["datamodule.merging"]
    if (merging is None) == (dataset in IN_PARTS):
        value, expected = merging or "null", f"one of {', '.join(PAINTING_ORDERS)}" if dataset in IN_PARTS else "null"
        raise ConfigError(
            f"datamodule.merging={value} cannot be with datamodule.dataset={dataset}.\n"
            f"Expected there: {expected}; it is the order in which CelebAMask-HQ's parts are painted."
        )
    for name, entry in config.get("callbacks", {}).items():
        if entry is not None and not isinstance(entry, Mapping):
            raise ConfigError(f"callbacks.{name}={entry} cannot be.\nExpected: null, or _target_ and its arguments.")
        target = (entry or {}).get("_target_", "")
        if entry is not None and not str(target).startswith("callbacks."):
            raise ConfigError(
                f"callbacks.{name}._target_={target} is no callback of this project.\n"
                f"Expected: callbacks.<file>.<class>, which changes no number; another one may, and enters no id."
            )
    wandb = config.get("logger", {}).get("wandb")
    if wandb is not None:
        _canonical("logger.wandb.mode", WANDB_MODE, wandb.get("mode"))
    if settings["trainer.precision"] == "16-mixed" and settings["trainer.accelerator"] == "cpu":
        raise ConfigError("trainer.precision=16-mixed is not for the CPU.\nExpected: 32-true or bf16-mixed there.")
    if settings["segment.on_the_fly"] and method == "segment" and dataset != "augmented_celeba":
        raise ConfigError(
            f"segment.on_the_fly=true cannot be with datamodule.dataset={dataset}, whose masks are none of ours.\n"
            f"Expected there: false; or datamodule=augmented_celeba."
        )
    folds, fold = settings["segment.folds"], settings["segment.fold"]
    if method == "segment" and folds is not None and fold >= folds:
        raise ConfigError(f"segment.fold={fold} cannot be with segment.folds={folds}.\nExpected: 0 to {folds - 1}.")
    if method == "hybrid" and settings["classify.machine"] == "rbf" and settings["classify.max_pixels"] > MOST_EXACT:
        raise ConfigError(
            f"classify.machine=rbf with classify.max_pixels={settings['classify.max_pixels']} would take hours.\n"
            f"Expected: classify.max_pixels={MOST_EXACT} or less there; or classify.machine=nystroem."
        )
    if "pretrain" in TRAINED.get(method, SECOND) and settings["pretrain.contrastive"] > 0:
        if settings["pretrain.masking"] == "none":
            raise ConfigError(
                "pretrain.contrastive wants two views that differ, and with pretrain.masking=none they are the same.\n"
                "Expected: pretrain.masking=central, random or adaptive; or pretrain.contrastive=0."
            )
        if settings["pretrain.batch_size"] < 2 * settings["trainer.devices"]:
            raise ConfigError(
                f"pretrain.contrastive compares the pictures of a batch, of which a device has less than two.\n"
                f"Expected: pretrain.batch_size={2 * settings['trainer.devices']} at least; or pretrain.contrastive=0."
            )
    frozen, epochs = settings["finetune.frozen_epochs"], settings["finetune.epochs"]
    if "finetune" in TRAINED.get(method, SECOND) and settings["finetune.trained"] != "head" and frozen >= epochs:
        raise ConfigError(
            f"finetune.frozen_epochs={frozen} cannot be with finetune.epochs={epochs}: the trunk would wait for ever.\n"
            f"Expected: less than the number of epochs; or finetune.trained=head."
        )
    last = TRAINED.get(method, SECOND)[-1]
    if settings[f"{last}.validate_every"] > settings[f"{last}.epochs"]:
        raise ConfigError(
            f"{last}.validate_every={settings[f'{last}.validate_every']} is beyond "
            f"{last}.epochs={settings[f'{last}.epochs']}: no epoch would be validated.\n"
            f"Expected: at most the number of epochs."
        )
    return settings


def _check_network(settings: Mapping[str, Any]) -> None:
    """See that the method has a network, and that it can do what the method asks of it."""
    method, architecture, network = (settings[key] for key in ("method", "model.architecture", "segment.network"))
    weights = settings["segment.encoder_weights"]
    if method == "segment":
        if network is None:
            raise ConfigError(
                f"The model chosen parses faces (model.architecture={architecture}), method=segment wants a segmenter "
                f"of what hides them.\nExpected: model=<one of {', '.join(NETWORKS)}>."
            )
        if settings["trainer.compile"] and network in LEARNS_MORE:
            raise ConfigError(
                f"trainer.compile=true compiles what a network answers, and {network} learns otherwise.\n"
                f"Expected: trainer.compile=false."
            )
        if (start := settings["segment.initialization"]) != "default" and network not in NETWORKS[:2]:
            raise ConfigError(
                f"segment.initialization={start}: {network} starts as its authors have it.\nExpected: default, or "
                f"model=<one of {', '.join(NETWORKS[:2])}>."
            )
        if weights is not None and network not in WITH_ENCODER:
            raise ConfigError(
                f"segment.encoder_weights={weights}: {network} has no encoder of a published kind.\n"
                f"Expected: null, or model=<one of {', '.join(WITH_ENCODER)}>."
            )
    elif architecture is None:
        raise ConfigError(
            f"The model chosen finds what hides a face (segment.network={network}), method={method} wants a parser.\n"
            f"Expected: model=<one of {', '.join(ARCHITECTURES)}>, or experiment=occlusion_celeba."
        )
    elif method in ("mtl", "hybrid") and architecture != ARCHITECTURES[0]:
        raise ConfigError(
            f"method={method} cannot be with model.architecture={architecture}: it wants UNet++'s map at full "
            f"resolution, which no other has.\n"
            f"Expected: method=baseline, as in experiment=baseline_lapa_10pct; or model=unetplusplus."
        )


def check_evaluation(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed evaluation -> its settings in canonical form, flat.

    Raises:
        ConfigError: see :func:`check`.
    """
    settings = _settings(flatten(config), EVALUATION)
    if settings["merging"] is not None and settings["dataset"] not in IN_PARTS:
        raise ConfigError(
            f"merging={settings['merging']} cannot be with dataset={settings['dataset']}.\n"
            f"Expected there: null; it is the order in which CelebAMask-HQ's parts are painted."
        )
    return settings


def check_prediction(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed prediction -> its settings in canonical form, flat.

    Raises:
        ConfigError: see :func:`check`.
    """
    return _settings(flatten(config), PREDICTION)


def check_export(config: Mapping[str, Any]) -> dict[str, Any]:
    """A composed export -> its settings in canonical form, flat.

    Raises:
        ConfigError: see :func:`check`.
    """
    settings = _settings(flatten(config), EXPORT)
    if settings["precision"] == "int8" and settings["format"] != "onnx":
        raise ConfigError("precision=int8 cannot be with format=torchscript.\nExpected: format=onnx, or fp32 or fp16.")
    return settings


def _settings(flat: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    """The value of every key in canonical form; ConfigError for one that is unknown, missing or cannot be."""
    for name in flat:
        if name not in keys:
            raise ConfigError(unknown_key(name, keys))
    settings = {}
    for name, key in keys.items():
        if name not in flat or flat[name] == "":
            raise ConfigError(f"The setting {name} is missing.\nExpected: {key.expected}.")
        settings[name] = _canonical(name, key, flat[name])
    return settings


def _canonical(name: str, key: Key, value: Any) -> Any:
    """A setting's value in canonical form; ConfigError with what was expected if it cannot be."""
    try:
        return key.read(value)
    except (ValueError, TypeError) as fault:
        expected = key.expected.removeprefix("null or ")
        choices = expected.removeprefix("one of ").split(", ") if expected.startswith("one of") else []
        near = nearest(str(value), choices)
        hint = f" Did you mean {near}?" if near else ""
        raise ConfigError(f"{name}={value} cannot be.\nExpected: {key.expected}.{hint}") from fault


def unknown_key(name: str, keys: Iterable[str] = KEYS) -> str:
    """The message about a key that does not exist."""
    keys = list(keys)
    leaf = name.rpartition(".")[2]
    same_leaf = [key for key in keys if key.rpartition(".")[2] == leaf]  # finetune.lr: finetune.optimizer.lr
    near = nearest(name, same_leaf) or nearest(name, keys) or next(iter(same_leaf), None)
    hint = f"Did you mean {near}?" if near else "See conf/ or --help for those that exist."
    return f"There is no setting {name}.\n{hint}"


def explain_overrides(overrides: Iterable[str], keys: Iterable[str] = KEYS) -> str | None:
    """What is wrong with command-line overrides that Hydra refused, in this project's words; None if unknown."""
    keys = list(keys)
    for override in overrides:
        name, equals, value = override.lstrip("+~").partition("=")
        name = name.partition("@")[0]
        if value.startswith("~"):
            return f"{override!r}: the shell leaves ~ as it is there.\nExpected: {name}=$HOME{value[1:]}"
        if not equals and not override.startswith("~"):
            return f"{override!r} is not a setting.\nExpected: key=value, as in label_fraction=0.01."
        if name in GROUPS:
            for choice in value.split(","):
                if choice not in group_options(name):
                    near = nearest(choice, group_options(name))
                    return f"{name}={choice} does not exist.\nExpected: one of {', '.join(group_options(name))}." + (
                        f" Did you mean {near}?" if near else ""
                    )
        elif name not in keys and name.partition(".")[0] not in ("hydra", *FREE):
            return unknown_key(name, keys if "." in name else [*keys, *GROUPS])
    return None


DOCUMENT = CONF.parent / "docs" / "settings.md"


def table() -> str:
    """All settings as a Markdown table: what each may be, and whether it enters an identity."""
    lines = ["| setting | expected | pretrain | finetune | segment | classify | |", "|---|---|:-:|:-:|:-:|:-:|---|"]
    for name, key in KEYS.items():
        marks = ["id" if key.is_in(stage) else "" for stage in (*STAGES, *CLASSIFY)]
        note = key.enters if isinstance(key.enters, str) else key.note
        lines.append(f"| `{name}` | {key.expected.replace('|', '/')} | {' | '.join(marks)} | {note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    preface = DOCUMENT.read_text(encoding="utf-8").partition("\n| setting |")[0]
    DOCUMENT.write_text(f"{preface}\n{table()}\n", encoding="utf-8")
