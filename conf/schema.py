"""Every setting of a training run: its type, its range, and the stages whose results it can change.

A setting that can change a stage's numbers stands here with that stage's name and enters its identity. One that does
not stands here with the reason. What is not in this table is no setting. ``docs/settings.md`` is this table in print:
``make docs``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.labels import CELEBAMASK_HQ, PAINTING_ORDERS
from engine.errors import ConfigError
from engine.runs import EVALUATE

CONF = Path(__file__).parent


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


def _integer(least: int, multiple: int = 1, most: int | None = None) -> tuple[Callable[[Any], int], str]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least or value % multiple:
            raise ValueError
        if most is not None and value > most:
            raise ValueError
        return value

    bounds = f"of at least {least}" + (f" and at most {most}" if most is not None else "")
    return read, f"a whole number {bounds}" + (f", a multiple of {multiple}" if multiple > 1 else "")


def _number(least: float, most: float = math.inf, open_below: bool = False) -> tuple[Callable[[Any], float], str]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError
        if not math.isfinite(value) or (open_below and value == least):
            raise ValueError
        return float(value)

    below = f"above {least:g}" if open_below else f"of at least {least:g}"
    return read, f"a number {below}" + (f" and at most {most:g}" if most < math.inf else "")


def _pair(item: tuple[Callable[[Any], Any], str]) -> tuple[Callable[[Any], list], str]:
    def read(value: Any) -> list:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError
        low, high = (item[0](part) for part in value)
        if low > high:
            raise ValueError
        return [low, high]

    return read, f"[smallest, largest], each {item[1]}"


def _choice(*values: Any) -> tuple[Callable[[Any], Any], str]:
    def read(value: Any) -> Any:
        if not any(value is known or (value == known and type(value) is type(known)) for known in values):
            raise ValueError
        return value

    return read, "one of " + ", ".join(
        str(value).lower() if isinstance(value, bool) else str(value) for value in values
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _optional(kind: tuple[Callable[[Any], Any], str]) -> tuple[Callable[[Any], Any], str]:
    return (lambda value: None if value is None else kind[0](value)), f"null or {kind[1]}"


def group_options(group: str) -> list[str]:
    """The choices of a configuration group: the files of its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


TEXT = (_text, "a text")
FLAG = _choice(True, False)
BOTH, FIRST, SECOND = ("pretrain", "finetune"), ("pretrain",), ("finetune",)

NAME = "a name; what it sets enters by itself"
PLACE = "where files lie; what they hold enters as the data's digest"
BESIDE = "what is done, not what comes of it"
SAME = "the same samples and scores, sooner or later"
ALIKE = "the same arithmetic elsewhere, alike up to rounding"
MASKED = "only where something is masked"
MANIFEST = "enters fine-tuning as the set of labelled faces that it chooses"


def _optimization(stage: str) -> dict[str, Key]:
    """Settings that every trained stage has."""
    own = (stage,)
    return {
        f"{stage}.seed": Key(*_integer(0, most=2**32 - 1), own),
        f"{stage}.batch_size": Key(*_integer(1), own),
        f"{stage}.epochs": Key(*_integer(1), own),
        f"{stage}.steps_per_epoch": Key(*_optional(_integer(1)), own),
        f"{stage}.augmentation.rotation": Key(*_number(0, 180), own),
        f"{stage}.augmentation.scale": Key(*_pair(_number(0.1, 10)), own),
        f"{stage}.augmentation.flip": Key(*_number(0, 1), own),
        f"{stage}.augmentation.color": Key(*_number(0, 1), own),
        f"{stage}.optimizer.name": Key(*_choice("sgd", "adamw"), own),
        f"{stage}.optimizer.lr": Key(*_number(0, open_below=True), own),
        f"{stage}.optimizer.momentum": Key(*_number(0, 1), own, "only with sgd"),
        f"{stage}.optimizer.weight_decay": Key(*_number(0), own),
        f"{stage}.schedule.name": Key(*_choice("constant", "cosine"), own),
        f"{stage}.schedule.warmup": Key(*_number(0, 1), own),
    }


KEYS: dict[str, Key] = {
    "experiment": Key(_text, "experiment=<one of " + ", ".join(group_options("experiment")) + ">", NAME),
    "scale": Key(*TEXT, NAME),
    "recipe": Key(*TEXT, NAME),
    "method": Key(*_choice("mtl", "baseline", "transfer"), "enters fine-tuning as the id of the run it starts from"),
    "ablation": Key(*_optional(TEXT), NAME),
    "label_fraction": Key(*_number(0, 1, open_below=True), MANIFEST),
    "subset": Key(*_choice(0, 1, 2), MANIFEST),
    "seed": Key(*_integer(0, most=2**32 - 1), "enters as each stage's own seed, whose default it is"),
    "output_dir": Key(*TEXT, PLACE),
    "force": Key(*FLAG, BESIDE),
    "dry_run": Key(*FLAG, BESIDE),
    "datamodule.dataset": Key(*TEXT, BOTH),
    "datamodule.root": Key(*TEXT, PLACE),
    "datamodule.merging": Key(*_optional(_choice(*PAINTING_ORDERS)), SECOND, "only where labels come as parts"),
    "datamodule.image_size": Key(*_integer(32, multiple=32), BOTH),
    "datamodule.eval_batch_size": Key(*_integer(1), SAME),
    "datamodule.workers": Key(*_optional(_integer(0)), SAME),
    "datamodule.cache": Key(*_choice("none", "ram", "disk"), SAME),
    "model.encoder": Key(*TEXT, BOTH),
    "model.encoder_weights": Key(
        *_optional(TEXT), BOTH, "a file by what it holds; not in a fine-tuning that starts from a pre-training"
    ),
    "model.features": Key(*_integer(1), BOTH),
    **_optimization("pretrain"),
    "pretrain.masking": Key(*_choice("central", "random", "adaptive", "none"), FIRST),
    "pretrain.patches": Key(*_integer(1), FIRST, MASKED),
    "pretrain.patch_size": Key(*_pair(_integer(1)), FIRST, MASKED),
    "pretrain.fill": Key(*_choice("zero", "mean", "noise"), FIRST, MASKED),
    "pretrain.loss": Key(*_choice("mse", "l1"), FIRST),
    "pretrain.reduction": Key(*_choice("mean", "sum"), FIRST),
    "pretrain.loss_over": Key(*_choice("box", "image", "masked"), FIRST),
    "pretrain.contrastive": Key(*_number(0), FIRST),
    "pretrain.temperature": Key(*_number(0, open_below=True), FIRST, "only with a contrastive term"),
    **_optimization("finetune"),
    "finetune.validate_every": Key(*_integer(1), SECOND),
    "finetune.start_from": Key(*_optional(TEXT), "enters as the id of that run"),
    "finetune.transfer": Key(*_choice("trunk", "encoder", "all"), SECOND, "only where it starts from another run"),
    "finetune.trained": Key(*_choice("all", "decoder", "head"), SECOND),
    "finetune.trunk_lr": Key(*_number(0, open_below=True), SECOND, "only where the trunk is trained"),
    "finetune.loss": Key(*_choice("focal_dice", "ce_dice", "focal", "ce"), SECOND),
    "finetune.lambda_ce": Key(*_number(0), SECOND, "only with two terms"),
    "finetune.lambda_dice": Key(*_number(0), SECOND, "only with two terms"),
    "finetune.alpha": Key(*_number(0, 1), SECOND, "only with a focal term"),
    "finetune.gamma": Key(*_number(0), SECOND, "only with a focal term"),
    "finetune.score_at": Key(*_choice("label", "input"), SECOND),
    "finetune.background": Key(
        *_choice("literature", "in", "out"), SECOND, "chooses the best epoch by val/miou; not at literature"
    ),
    "trainer.accelerator": Key(*_choice("auto", "cpu", "gpu", "mps"), ALIKE),
    "trainer.devices": Key(*_integer(1), BOTH),
    "trainer.strategy": Key(*_choice("auto", "ddp", "ddp_spawn"), ALIKE),
    "trainer.precision": Key(*_choice("32-true", "bf16-mixed", "16-mixed", "64-true"), BOTH),
    "trainer.sync_batchnorm": Key(*FLAG, BOTH, "only with several devices"),
    "trainer.channels_last": Key(*FLAG, BOTH),
    "trainer.compile": Key(*FLAG, BOTH),
    "trainer.deterministic": Key(*_choice(True, False, "warn"), BOTH),
}
EVALUATION: dict[str, Key] = {
    "checkpoint": Key(
        _text, "a run's name, as finetune-0123456789ab, its folder, or a best.ckpt", "enters by what it holds"
    ),
    "dataset": Key(*_choice("lapa", "celebamask_hq"), (EVALUATE,)),
    "root": Key(*_optional(TEXT), PLACE),
    "merging": Key(*_optional(_choice(*PAINTING_ORDERS)), (EVALUATE,)),
    "split": Key(*_choice("test", "val", "all"), (EVALUATE,)),
    "score_at": Key(*_optional(_choice("label", "input")), (EVALUATE,)),
    "background": Key(*_optional(_choice("literature", "in", "out")), (EVALUATE,)),
    "image_size": Key(*_optional(_integer(32, multiple=32)), (EVALUATE,)),
    "batch_size": Key(*_integer(1), SAME),
    "workers": Key(*_optional(_integer(0)), SAME),
    "panels": Key(*_integer(0), BESIDE),
    "trainer.accelerator": Key(*_choice("auto", "cpu", "gpu", "mps"), ALIKE),
    "trainer.precision": Key(*_optional(_choice("32-true", "bf16-mixed", "16-mixed", "64-true")), (EVALUATE,)),
    "output_dir": Key(*TEXT, PLACE),
    "force": Key(*FLAG, BESIDE),
}
"""Every setting of an evaluation; null is the checkpoint's own."""

FREE = ("callbacks", "logger")
"""Groups whose entries a user may add to; they stand beside training and change no number."""

IN_PARTS = (CELEBAMASK_HQ.name,)
"""Data sets whose labels come as one mask a part, to be merged."""

WANDB_MODE = Key(*_choice("offline", "online", "disabled"), BESIDE)

GROUPS = (
    "datamodule",
    "model",
    "pretrain",
    "finetune",
    "recipe",
    "scale",
    "trainer",
    "logger",
    "callbacks",
    "experiment",
    "ablation",
    "sweep",
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
    for stage in BOTH if settings["method"] == "mtl" else SECOND:
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
    if settings["method"] == "mtl" and settings["finetune.transfer"] == "all":
        raise ConfigError(
            "finetune.transfer=all is not for method=mtl: a head that reconstructs cannot parse.\n"
            "Expected: finetune.transfer=trunk or encoder."
        )
    merging, dataset = settings["datamodule.merging"], settings["datamodule.dataset"]
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
    if settings["finetune.validate_every"] > settings["finetune.epochs"]:
        raise ConfigError(
            f"finetune.validate_every={settings['finetune.validate_every']} is beyond "
            f"finetune.epochs={settings['finetune.epochs']}: no epoch would be validated.\n"
            f"Expected: at most the number of epochs."
        )
    return settings


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


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like a mistyped one, or None if none is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None


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
    lines = ["| setting | expected | pretrain | finetune | |", "|---|---|:-:|:-:|---|"]
    for name, key in KEYS.items():
        marks = ["id" if key.is_in(stage) else "" for stage in BOTH]
        note = key.enters if isinstance(key.enters, str) else key.note
        lines.append(f"| `{name}` | {key.expected.replace('|', '/')} | {' | '.join(marks)} | {note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    preface = DOCUMENT.read_text(encoding="utf-8").partition("\n| setting |")[0]
    DOCUMENT.write_text(f"{preface}\n{table()}\n", encoding="utf-8")
