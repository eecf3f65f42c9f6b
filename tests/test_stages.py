"""What enters a stage's identity and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.errors import ConfigError
from engine.schema import KEYS, check
from engine.stages import Run, plan
from tests.conftest import TINY, settings_of


def ids(root: Path, output: Path, *overrides: str, experiment: str = "mtl_lapa_10pct") -> dict[str, str]:
    settings = settings_of(
        f"experiment={experiment}", *TINY, f"datamodule.root={root}", f"output_dir={output}", *overrides
    )
    return {run.stage.name: run.id for run in plan(check(settings))}


@pytest.fixture
def reference(lapa: Path, tmp_path: Path) -> dict[str, str]:
    return ids(lapa, tmp_path)


SAME: set[str] = set()
PRETRAIN_TOO = {"pretrain", "finetune"}
CHANGES = {
    "experiment": ("experiment=elsewhere", SAME),
    "scale": ("scale=named", SAME),
    "recipe": ("recipe=named", SAME),
    "method": ("method=baseline", {"finetune"}),
    "ablation": ("ablation=B", SAME),
    "label_fraction": ("label_fraction=0.5", {"finetune"}),
    "subset": ("subset=1", {"finetune"}),
    "seed": ("seed=7", PRETRAIN_TOO),
    "output_dir": ("output_dir=named", SAME),
    "force": ("force=true", SAME),
    "dry_run": ("dry_run=true", SAME),
    "datamodule.root": ("datamodule.root=named", SAME),
    "datamodule.eval_batch_size": ("datamodule.eval_batch_size=3", SAME),
    "datamodule.workers": ("datamodule.workers=2", SAME),
    "datamodule.image_size": ("datamodule.image_size=64", PRETRAIN_TOO),
    "model.encoder": ("model.encoder=resnet34", PRETRAIN_TOO),
    "model.encoder_weights": ("model.encoder_weights=imagenet", PRETRAIN_TOO),
    "model.features": ("model.features=8", PRETRAIN_TOO),
    "pretrain.seed": ("pretrain.seed=7", PRETRAIN_TOO),
    "pretrain.batch_size": ("pretrain.batch_size=5", PRETRAIN_TOO),
    "pretrain.epochs": ("pretrain.epochs=3", PRETRAIN_TOO),
    "pretrain.masking": ("pretrain.masking=anywhere", PRETRAIN_TOO),
    "pretrain.fill": ("pretrain.fill=noise", PRETRAIN_TOO),
    "pretrain.patch_size": ("pretrain.patch_size=[16,64]", PRETRAIN_TOO),
    "pretrain.loss_over": ("pretrain.loss_over=masked", PRETRAIN_TOO),
    "pretrain.optimizer.lr": ("pretrain.optimizer.lr=1", PRETRAIN_TOO),
    "pretrain.augmentation.rotation": ("pretrain.augmentation.rotation=1", PRETRAIN_TOO),
    "finetune.seed": ("finetune.seed=7", {"finetune"}),
    "finetune.transfer": ("finetune.transfer=encoder", {"finetune"}),
    "finetune.loss": ("finetune.loss=ce", {"finetune"}),
    "finetune.gamma": ("finetune.gamma=1", {"finetune"}),
    "finetune.score_at": ("finetune.score_at=input", {"finetune"}),
    "finetune.schedule.warmup": ("finetune.schedule.warmup=0.5", {"finetune"}),
    "trainer.accelerator": ("trainer.accelerator=auto", SAME),
    "trainer.strategy": ("trainer.strategy=ddp", SAME),
    "finetune.optimizer.momentum": ("finetune.optimizer.momentum=0.5", SAME),  # AdamW has none
    "trainer.devices": ("trainer.devices=2", PRETRAIN_TOO),
    "trainer.precision": ("trainer.precision=bf16-mixed", PRETRAIN_TOO),
}


@pytest.mark.parametrize("key", CHANGES)
def test_each_key_changes_the_ids_that_it_must(
    key: str, lapa: Path, tmp_path: Path, reference: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    override, expected = CHANGES[key]
    value = override.partition("=")[2]
    settings = check(
        settings_of("experiment=mtl_lapa_10pct", *TINY, f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    )
    if key in ("experiment", "scale", "recipe"):  # names of groups: only what they set matters
        settings = settings | {key: value}
    elif key == "output_dir":
        monkeypatch.chdir(tmp_path)
        settings = settings | {key: value}
    elif key == "datamodule.root":
        settings = settings | {key: str(shutil.copytree(lapa, tmp_path / "copy"))}
    else:
        settings = check(
            settings_of(
                "experiment=mtl_lapa_10pct", *TINY, f"datamodule.root={lapa}", f"output_dir={tmp_path}", override
            )
        )
    changed = {run.stage.name: run.id for run in plan(settings)}
    assert {stage for stage, value in changed.items() if value != reference[stage]} == expected


def test_every_entering_key_is_in_some_identity(lapa: Path, tmp_path: Path) -> None:
    settings = check(settings_of("experiment=mtl_lapa", *TINY, f"datamodule.root={lapa}", f"output_dir={tmp_path}"))
    held: set[str] = set().union(*(run.identity["settings"] for run in plan(settings)))
    idle = {"pretrain.optimizer.momentum", "finetune.optimizer.momentum"}  # AdamW has none
    assert held == {name for name, key in KEYS.items() if key.enters} - idle


def test_pretraining_is_shared_and_baseline_stands_alone(lapa: Path, tmp_path: Path, reference: dict[str, str]) -> None:
    half = ids(lapa, tmp_path, "finetune.loss=ce", "subset=2", experiment="mtl_lapa_05pct")
    assert half["pretrain"] == reference["pretrain"]
    baseline = ids(lapa, tmp_path, experiment="baseline_lapa_10pct")
    assert set(baseline) == {"finetune"}
    assert baseline["finetune"] != reference["finetune"]
    assert baseline == ids(
        lapa, tmp_path, "pretrain.epochs=9", "finetune.transfer=encoder", experiment="baseline_lapa_10pct"
    )


def test_one_changed_pixel_or_label_is_other_data(lapa: Path, tmp_path: Path, reference: dict[str, str]) -> None:
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


def test_encoder_weights_enter_by_content(lapa: Path, tmp_path: Path) -> None:
    for name, value in (("a.pth", 1.0), ("b.pth", 1.0), ("c.pth", 2.0)):
        torch.save({"w": torch.tensor(value)}, tmp_path / name)
    a, b, c = (ids(lapa, tmp_path, f"model.encoder_weights={tmp_path / name}") for name in ("a.pth", "b.pth", "c.pth"))
    # torch.save writes the file's own name into the archive, so a and b may differ in bytes; moving must not matter
    (tmp_path / "moved").mkdir()
    shutil.copy(tmp_path / "a.pth", tmp_path / "moved" / "z.pth")
    assert ids(lapa, tmp_path, f"model.encoder_weights={tmp_path / 'moved' / 'z.pth'}") == a
    assert c["pretrain"] not in (a["pretrain"], b["pretrain"])
    with pytest.raises(ConfigError, match="is no file"):
        ids(lapa, tmp_path, f"model.encoder_weights={tmp_path / 'nowhere.pth'}")


def test_runs_know_their_upstream(lapa: Path, tmp_path: Path) -> None:
    settings = check(
        settings_of("experiment=mtl_lapa_10pct", *TINY, f"datamodule.root={lapa}", f"output_dir={tmp_path}")
    )
    runs: list[Run] = plan(settings)
    assert [run.stage.name for run in runs] == ["pretrain", "finetune"]
    assert runs[1].upstream is runs[0]
    assert runs[1].identity["upstream"] == runs[0].id
    assert runs[0].manifest is None
    assert runs[1].manifest is not None
    assert len(runs[1].manifest.ids) == 3
