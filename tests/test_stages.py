"""What enters a stage's identity and what does not."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datamodules.layouts import LAYOUTS
from engine.settings import fields, flatten, note
from engine.stage import Run
from foundation.errors import ConfigError
from stages.command import STAGES, Command, check, plan
from stages.document import texts
from tests.changed_settings import BOTH, CHANGES, CLASSIFY, NEITHER, SECOND, SEGMENT, WITHIN
from tests.conftest import TINY, settings_of, unchecked

MTL, BASELINE = "mtl_lapa_10pct", "baseline_lapa_10pct"
SVM = ("svm_lapa", *TINY, "label_fraction=0.1")


@functools.cache
def composed(experiment: str, *words: str) -> dict[str, Any]:
    """A command's composed settings, flat: changing them is faster than composing again."""
    return flatten(settings_of(f"experiment={experiment}", *words))


def planned(words: tuple[str, ...], root: Path, output: Path, /, **changes: object) -> list[Run]:
    """The runs of a command; a setting ``a.b`` is changed by ``**{"a.b": value}``."""
    places = {"datamodule.root": str(root), "output_dir": str(output)}
    return plan(check(composed(*words) | places | changes))


def ids(root: Path, output: Path, experiment: str = MTL, /, **changes: object) -> dict[str, str]:
    return {run.stage.name: run.id for run in planned((experiment, *TINY), root, output, **changes)}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the digest cache."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def settings(lapa: Path, output: Path) -> Any:
    """A command's settings."""
    return check(composed(MTL, *TINY) | {"datamodule.root": str(lapa), "output_dir": str(output)})


@pytest.fixture(scope="module")
def reference(settings: Any) -> dict[str, str]:
    """The ids of that command."""
    return {run.stage.name: run.id for run in plan(settings)}


@pytest.fixture(scope="module")
def segmenter(masked: Path, output: Path) -> dict[str, Any]:
    """The settings of a command that trains a segmenter, flat."""
    places = {"datamodule.root": str(masked), "output_dir": str(output)}
    return check(composed("occlusion_celeba", "recipe=tuned") | places)


@pytest.fixture(scope="module")
def segmenter_id(segmenter: Any) -> str:
    (run,) = plan(segmenter)
    return run.id


@pytest.fixture(scope="module")
def reference_heads(lapa: Path, output: Path) -> dict[str, str]:
    """The ids of a command's classifiers."""
    return heads(lapa, output)


KEYS = dict(fields(Command))


def test_every_setting_is_covered() -> None:
    assert CHANGES.keys() == KEYS.keys()
    read = [name for stage in STAGES.values() for name in stage.reads]
    for name, field in KEYS.items():
        assert field.description, name
        reasons = note(field, "harmless")
        assert reasons or any(name == prefix or name.startswith(f"{prefix}.") for prefix in read), name


@pytest.mark.parametrize("key", [key for key in KEYS if key != "pretrain.start_from"])  # see test_pretext_tasks
def test_each_setting_changes_the_ids_that_it_must(
    key: str,
    settings: Any,
    reference: dict[str, str],
    lapa: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value, expected = CHANGES[key]
    assert settings[key] != value, "another value"
    monkeypatch.chdir(tmp_path)
    if key == "datamodule.root":
        shutil.copytree(lapa, tmp_path / str(value))
    monkeypatch.setitem(LAYOUTS, "lapa_again", LAYOUTS["lapa"])
    changes = {key: value}
    if key == "seed":  # the stages' own seeds follow it
        changes |= {"pretrain.seed": value, "finetune.seed": value}
    found = {run.stage.name: run.id for run in plan(unchecked(settings, **changes))}
    assert {stage for stage in found if found[stage] != reference[stage]} == expected


@pytest.mark.parametrize("key", SEGMENT)
def test_each_setting_of_the_segmenter_changes_its_id_if_it_must(key: str, segmenter: Any, segmenter_id: str) -> None:
    value, changes = SEGMENT[key]
    assert segmenter[key] != value, "another value"
    (after,) = plan(unchecked(segmenter, **{key: value}))
    assert (segmenter_id != after.id) == changes


def heads(root: Path, output: Path, /, **changes: object) -> dict[str, str]:
    """The ids of a command's heads, by name; the configured head is always called svm_rh."""
    *_, conv, own = planned(SVM, root, output, **{"classify.head": "svm_rh"} | changes)
    assert conv.own.head == "conv"
    return {"conv": conv.id, "svm_rh": own.id}


@pytest.mark.parametrize("key", CLASSIFY)
def test_each_setting_of_a_classifier_changes_the_ids_that_it_must(
    key: str, lapa: Path, output: Path, reference_heads: dict[str, str]
) -> None:
    value, expected = CLASSIFY[key]
    after = heads(lapa, output, **{key: value})
    assert {head for head in after if reference_heads[head] != after[head]} == expected


@pytest.mark.parametrize(
    ("others", "change", "expected"),
    [
        ({"classify.kernel": "nystroem"}, {"classify.landmarks": 64}, {"svm_rh"}),
        ({"classify.kernel": "nystroem"}, {"classify.gamma": 2}, {"svm_rh"}),
        ({"classify.head": "svm_ovo"}, {"classify.order": "frequency"}, NEITHER),
        ({"classify.after": "finetune"}, {"classify.pixels": 20}, {"svm_rh"}),
        ({"classify.after": "finetune"}, {"classify.features": "hypercolumns"}, {"svm_rh"}),
        ({"classify.after": "finetune"}, {"finetune.epochs": 3}, {"conv", "svm_rh"}),
        ({}, {"finetune.epochs": 3}, NEITHER),
        ({}, {"finetune.background": "out"}, {"conv", "svm_rh"}),
        ({}, {"pretrain.epochs": 3}, {"conv", "svm_rh"}),
        ({}, {"subset": 1}, {"conv", "svm_rh"}),
        ({}, {"trainer.precision": "bf16-mixed"}, {"conv", "svm_rh"}),  # of what they start from
    ],
)
def test_settings_of_a_classifier_whose_effect_depends_on_others(
    others: dict[str, object], change: dict[str, object], expected: set[str], lapa: Path, output: Path
) -> None:
    before, after = heads(lapa, output, **others), heads(lapa, output, **others | change)
    assert {head for head in before if before[head] != after[head]} == expected


def test_every_head_is_compared_with_a_conv_head(lapa: Path, output: Path, reference: dict[str, str]) -> None:
    pretrain, conv, tree = planned(SVM, lapa, output)
    assert [pretrain.stage.name, conv.own.head, tree.own.head] == ["pretrain", "conv", "svm_bdt"]
    assert pretrain.id == reference["pretrain"], "shared with a parser"
    assert conv.upstream is pretrain.folder
    assert tree.upstream is pretrain.folder
    assert [run.id for run in planned(SVM, lapa, output, **{"classify.head": "conv"})] == [pretrain.id, conv.id]
    pretrain, finetune, conv, tree = planned(SVM, lapa, output, **{"classify.after": "finetune"})
    assert finetune.id == reference["finetune"]
    assert conv.upstream is finetune.folder
    assert tree.upstream is finetune.folder


def test_settings_the_base_unet_lacks_do_not_enter_its_id(masked: Path, output: Path) -> None:
    changes = ({"segment.count": "all"}, {"segment.count": "paper"}, {"segment.kernel": 5}, {"segment.rho_lr": 1})
    found = {run.id for change in changes for run in planned(("occlusion_base_unet",), masked, output, **change)}
    assert len(found) == 1


def test_crop_without_landmarks_does_not_enter_the_id(masked: Path, output: Path) -> None:
    def ids_of(experiment: str) -> set[str]:
        crops = ({"segment.augmentation.crop": crop} for crop in (0, 0.7))
        return {run.id for crop in crops for run in planned((experiment,), masked, output, **crop)}

    assert len(ids_of("occlusion_mfsd")) == 1, "the same images and masks without their manifest"
    assert len(ids_of("occlusion_celeba")) == 2


@pytest.mark.parametrize(("others", "change", "expected"), WITHIN)
def test_settings_whose_effect_depends_on_others(
    others: dict[str, object], change: dict[str, object], expected: set[str], lapa: Path, output: Path
) -> None:
    before, after = ids(lapa, output, **others), ids(lapa, output, **others | change)
    assert {stage for stage in before if before[stage] != after[stage]} == expected


def test_the_seed_applies_to_stages_without_their_own(lapa: Path, output: Path, reference: dict[str, str]) -> None:
    def ids_with(*words: str) -> set[tuple[str, str]]:
        return {(run.stage.name, run.id) for run in planned((MTL, *TINY, *words), lapa, output)}

    both = ("pretrain.seed=1", "finetune.seed=1")
    assert {stage for stage, _ in ids_with("seed=7") - set(reference.items())} == BOTH
    assert {stage for stage, _ in ids_with("seed=7", both[0]) - ids_with(both[0])} == SECOND
    assert ids_with("seed=7", *both) == ids_with(*both)


def test_every_setting_that_enters_is_in_some_identity(settings: Any) -> None:
    held: set[str] = set().union(*(run.identity["settings"] for run in plan(settings)))
    idle = {
        "pretrain.optimizer.momentum",
        "finetune.optimizer.momentum",
        "trainer.sync_batchnorm",
        "pretrain.temperature",
        *(f"pretrain.{name}" for name in ("transfer", "mask_ratio", "mask_units", "decoder_width", "noise")),
    }
    read = [prefix for stage in BOTH for prefix in STAGES[stage].reads]
    entering = {
        name
        for name, field in KEYS.items()
        if not (note(field, "harmless") or note(field, "later"))
        and any(name == prefix or name.startswith(f"{prefix}.") for prefix in read)
    }
    assert held == entering - idle


def test_a_stages_version_is_in_its_id(
    settings: Any, reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(STAGES["finetune"]), "version", 99)
    pretrain, finetune = plan(settings)
    assert pretrain.id == reference["pretrain"]
    assert finetune.id != reference["finetune"]


@pytest.mark.parametrize("file", texts())
def test_generated_files_are_up_to_date(file: Path) -> None:
    assert file.read_text() == texts()[file], "make docs"


def test_the_composed_defaults_are_those_of_the_settings() -> None:
    """At the paper's scale and recipe, which set nothing but their names and the model's, on any processor."""
    found = settings_of("experiment=mtl_lapa", "trainer.precision=32-true", "trainer.channels_last=false")
    assert flatten(found) == Command(experiment="mtl_lapa").flat() | {
        name: found[name] for name in ("callbacks", "logger")
    } | {"segment.network": None, "finetune.validate_every": 10}


def test_pretraining_is_shared_and_the_baseline_has_none(lapa: Path, output: Path, reference: dict[str, str]) -> None:
    half = ids(lapa, output, "mtl_lapa_05pct", **{"finetune.loss": "ce", "subset": 2})
    assert half["pretrain"] == reference["pretrain"]
    baseline = ids(lapa, output, BASELINE)
    assert set(baseline) == {"finetune"}
    assert baseline["finetune"] != reference["finetune"]
    assert baseline == ids(lapa, output, BASELINE, **{"pretrain.epochs": 9, "finetune.transfer": "encoder"})


def test_one_changed_pixel_or_label_changes_the_ids(lapa: Path, tmp_path: Path, reference: dict[str, str]) -> None:
    copy = Path(shutil.copytree(lapa, tmp_path / "copy"))
    assert ids(copy, tmp_path) == reference
    label = sorted((copy / "train" / "labels").iterdir())[0]
    with Image.open(label) as file:
        changed = file.copy()
    changed.putpixel((0, 0), 10 - changed.getpixel((0, 0)))  # type: ignore[operator]
    changed.save(label)
    relabelled = ids(copy, tmp_path)
    assert relabelled["pretrain"] == reference["pretrain"], "pre-training reads no labels"
    assert relabelled["finetune"] != reference["finetune"]
    image = sorted((copy / "val" / "images").iterdir())[0]
    image.write_bytes(image.read_bytes() + b"\0")
    assert ids(copy, tmp_path)["pretrain"] != reference["pretrain"]


def test_encoder_weights_enter_by_content(lapa: Path, output: Path, tmp_path: Path) -> None:
    def ids_with(name: str) -> dict[str, str]:
        return ids(lapa, output, **{"model.encoder_weights": str(tmp_path / name)})

    for name, value in (("a.pth", 1.0), ("b.pth", 1.0), ("c.pth", 2.0)):
        torch.save({"w": torch.tensor(value)}, tmp_path / name)
    a, b, c = (ids_with(name) for name in ("a.pth", "b.pth", "c.pth"))
    # torch.save writes the file's own name into the archive, so a and b may differ in bytes; moving must not matter
    (tmp_path / "moved").mkdir()
    shutil.copy(tmp_path / "a.pth", tmp_path / "moved" / "z.pth")
    assert ids_with("moved/z.pth") == a
    assert c["pretrain"] not in (a["pretrain"], b["pretrain"])
    with pytest.raises(ConfigError, match="is no file"):
        ids_with("nowhere.pth")


def test_upstream_runs(settings: Any) -> None:
    runs = plan(settings)
    assert [run.stage.name for run in runs] == ["pretrain", "finetune"]
    assert runs[1].upstream is runs[0].folder
    assert runs[1].identity["upstreams"] == [runs[0].id]
    assert runs[0].manifest is None
    assert runs[1].manifest is not None
    assert len(runs[1].manifest.ids) == 3
