"""The tasks of ``prepare.py``, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from datamodules.labels import PAINTING_ORDERS
from datamodules.layouts import MASKED, PARSED, Layout
from engine.plugins import is_plugin
from engine.settings import CONF, Settings
from engine.validation import unknown_key, validated
from foundation.errors import ConfigError
from stages.command import plain_config
from stages.groups import MaskSettings
from stages.outside_code import check_masks, declared, outside_layout


def prepare(config: DictConfig) -> None:
    """Run the task that the configuration names.

    Raises:
        ConfigError: for an unknown task, an invalid value, or a setting of another task.
    """
    if OmegaConf.is_missing(config, "task") or config.task not in TASKS:
        unknown = "" if OmegaConf.is_missing(config, "task") else f"task={config.task} does not exist.\n"
        raise ConfigError(f"{unknown}It must be task=<one of {', '.join(TASKS)}>. See python prepare.py --help.")
    _require_own_settings(config)
    TASKS[config.task].run(config)


def _require_own_settings(config: DictConfig) -> None:
    """Require that only settings of the task were changed."""
    defaults: Any = OmegaConf.to_container(OmegaConf.load(CONF / "prepare.yaml"))
    own = {"task", "out", *TASKS[config.task].settings}
    for name in map(str, config):
        if name not in defaults:
            raise ConfigError(unknown_key(name, defaults))
        if name in own or config[name] == defaults[name]:
            continue
        others = " and ".join(f"task={other}" for other, task in TASKS.items() if name in task.settings)
        raise ConfigError(
            f"{name}={config[name]} has no effect: it is a setting of {others}.\n"
            f"It must be one of the settings of task={config.task}: out, {', '.join(TASKS[config.task].settings)}."
        )


def _synthetic_faces(config: DictConfig) -> None:
    """Render labelled synthetic faces in a published layout."""
    from synthesis.synthetic_faces import write_synthetic_faces

    write_synthetic_faces(
        Path(str(config.out)) if config.out else None,
        count=2000 if config.count is None else config.count,
        size=256 if config.size is None else config.size,
        workers=_workers(config),
        layout=config.layout,
        seed=config.seed,
    )


def _masked_faces(config: DictConfig) -> None:
    """Render face masks on photographs, with their binary masks."""
    from datamodules.finding.finder import available
    from synthesis.masked_faces import MaskedFacesConfig, write_masked_faces
    from synthesis.masks.choices import MaskChoices

    if not config.source:
        raise ConfigError("source is missing.\nIt must be source=<CelebA's folder, or any folder of photographs>.")
    finder_model = None if config.finder_model is None else str(config.finder_model)
    chosen = {name: config[name] for name in ("bare", "distractors", "occluders")}
    chosen |= {name: names for name in ("types", "textures") if (names := _names(config, name)) is not None}
    if config.styles is not None:
        chosen["styles"] = _shares(config, "styles")
    masked_faces = MaskedFacesConfig(
        source=Path(str(config.source)),
        count=20000 if config.count is None else config.count,
        choices=MaskChoices(**chosen, templates=Path(str(config.templates)) if config.templates else None),
        fallbacks=_names(config, "fallbacks"),
        landmark_model=None if config.landmark_model is None else str(config.landmark_model),
        finder=available(config.finder, finder_model),
        finder_model=finder_model,
        form=config.format,
        **{name: config[name] for name in ("seed", "split", "size", "crop", "photographs")},
    )
    write_masked_faces(Path(str(config.out or "data/AugmentedCelebA")), masked_faces, _workers(config))


class AuditSettings(Settings):
    """Settings of task=audit with a type of their own."""

    mask: MaskSettings = Field(default_factory=MaskSettings)


def _audit(config: DictConfig) -> None:
    """Report the errors of a data set; findings are no failure."""
    if config.merging not in PAINTING_ORDERS:
        raise ConfigError(
            f"merging={config.merging} is invalid.\nIt must be one of {', '.join(sorted(PAINTING_ORDERS))}."
        )
    given = validated(AuditSettings, {"mask": plain_config(config)["mask"]})
    check_masks(config.dataset, given.mask)
    layout = declared(_audited(config), given.mask)
    from curation.audit.auditing import write_audit  # which needs image libraries

    write_audit(layout, out=Path(str(config.out or f"outputs/audit/{layout.name}")), order=config.merging)


def _audited(config: DictConfig) -> Layout:
    """The data set to audit: of a known layout, or of the user's own by ``_target_``."""
    own = None if isinstance(config.layout, str) else OmegaConf.to_container(config.layout)
    known = PARSED | MASKED
    if own is None and config.dataset in known:
        kind = known[config.dataset]
        return kind(Path(str(config.root or f"data/{kind.title}")))
    if not is_plugin(own) or config.dataset is not None or config.root is None:
        raise ConfigError(
            f"dataset={config.dataset} root={config.root} layout={own} is no data set to audit.\n"
            f"It must be dataset=<one of {', '.join(sorted(known))}>; or root=<its folder> and "
            f"layout={{_target_: my_package.MyLayout}}, without dataset."
        )
    layout = outside_layout(cast(dict[str, Any], own), "layout", Path(str(config.root)))
    if layout.kind == "annotations":
        raise ConfigError(f"layout: {layout.name} has no label maps or masks to audit.\nIts kind is {layout.kind}.")
    return layout


def _compare_datasets(config: DictConfig) -> None:
    """The paper's Kolmogorov-Smirnov test between two folders, and a permutation test over images."""
    for name in ("a", "b"):
        if not config[name]:
            raise ConfigError(f"{name} is missing.\nIt must be a=<folder> b=<folder> of photographs or masked faces.")
    from curation.comparison import write_comparison

    write_comparison(
        [Path(str(config.a)), Path(str(config.b))],
        [str(config.a_split), str(config.b_split)],
        out=Path(str(config.out or "outputs/comparison")),
        images=config.images,
        values=config.pixels,
        permutations=config.permutations,
        seed=config.seed,
    )


@dataclass(frozen=True)
class Task:
    """A task of ``prepare.py``, and its settings besides ``out``."""

    run: Callable[[DictConfig], None]
    settings: tuple[str, ...]


RENDERING = ("count", "size", "seed", "workers")
MASKS = ("types", "textures", "styles", "bare", "distractors", "occluders", "templates")
PHOTOGRAPHS = (
    "source",
    "split",
    "crop",
    "format",
    "photographs",
    "fallbacks",
    "landmark_model",
    "finder",
    "finder_model",
)
TASKS = {
    "synthetic_faces": Task(_synthetic_faces, ("layout", *RENDERING)),
    "masked_faces": Task(_masked_faces, (*PHOTOGRAPHS, *MASKS, *RENDERING)),
    "audit": Task(_audit, ("dataset", "root", "layout", "merging", "mask")),
    "compare_datasets": Task(
        _compare_datasets, ("a", "b", "a_split", "b_split", "images", "pixels", "permutations", "seed")
    ),
}


def _workers(config: DictConfig) -> int:
    return cpu_count() if config.workers is None else config.workers


def _names(config: DictConfig, name: str) -> tuple[str, ...] | None:
    """Names given as [a,b] or as a single one; None for null."""
    value = config[name]
    if value is None:
        return None
    if not (isinstance(value, str) or OmegaConf.is_list(value)):
        raise ConfigError(f"{name}={value} is invalid.\nIt must be a name or a list of names, as {name}=[one,other].")
    return (value,) if isinstance(value, str) else tuple(str(part) for part in value)


def _shares(config: DictConfig, name: str) -> dict[str, float]:
    """Names with shares, as {proper: 2, chin: 1}; or without, as [proper,chin], with equal shares."""
    value = config[name]
    if OmegaConf.is_dict(value):
        return {str(part): share for part, share in value.items()}
    return dict.fromkeys(_names(config, name) or (), 1.0)
