"""What binary masks mean: decided from the values of all masks of a set, declared, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.cache import Cache
from datamodules.labels import OCCLUSION
from datamodules.layouts import ImageMaskFolder
from datamodules.mask_rules import MaskReading, MaskRules
from datamodules.mask_survey import survey_masks
from datamodules.masks import AmbiguousMaskError
from datamodules.occlusion import OcclusionDataModule
from datamodules.reading import read_label
from datamodules.transforms import Augmentation
from engine.stage import Run
from foundation.errors import ConfigError
from stages.command import check, plan
from stages.evaluation import check_evaluation, plan_evaluation
from stages.groups import MaskSettings
from stages.outside_code import declared
from tests.conftest import TINY_SEGMENTER, settings_of
from tests.segmenters import segmenter
from tests.test_evaluation import config_of

SIDE = 64
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, *[0] * (3 * 252), 224, 224, 192]
Occluded = np.ndarray
Save = Callable[[Occluded], Image.Image]


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def bordered(values: np.ndarray, value: int = 255) -> np.ndarray:
    framed = np.full_like(values, value, dtype=int)
    framed[2:-2, 2:-2] = values[2:-2, 2:-2]
    return framed


def palette(indices: np.ndarray, colours: list[int] = VOC) -> Image.Image:
    image = grey(indices)
    image.putpalette(colours)
    return image


def ids(occluded: Occluded) -> np.ndarray:
    """1 the right side of the face, 2 the occluder."""
    return np.where(occluded, 2, np.indices(occluded.shape)[1] > 50)


def in_colour(*colour: int) -> Save:
    return lambda occluded: grey(np.where(occluded[..., None], colour, 0))


def two_colours(occluded: Occluded) -> Image.Image:
    return grey(np.array([(0, 0, 0), (0, 0, 255), (255, 0, 0)])[ids(occluded)])


def with_alpha(colour: Callable[[Occluded], np.ndarray], alpha: Callable[[Occluded], np.ndarray]) -> Save:
    return lambda occluded: Image.merge("RGBA", [*[grey(colour(occluded))] * 3, grey(alpha(occluded))])


def ones(occluded: Occluded) -> np.ndarray:
    return 255 * np.ones(occluded.shape)


def white(occluded: Occluded) -> np.ndarray:
    return 255 * occluded


def masks(root: Path, save: Save, suffix: str = "png", count: int = 4) -> tuple[ImageMaskFolder, list[Occluded]]:
    """A set of three occluded faces, and one or more without occlusion."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    found = []
    for index in range(count):
        occluded = np.zeros((SIDE, SIDE), bool)
        occluded[10 + index : 50, 8:40] = index < 3
        Image.new("RGB", (SIDE, SIDE)).save(root / "images" / f"{index}.png")
        save(occluded).save(root / "masks" / f"{index}.{suffix}", quality=90)
        found.append(occluded)
    return ImageMaskFolder(root), found


READ = {
    "0 and 255": (lambda m: grey(255 * m), MaskRules()),
    "0 and 1": (grey, MaskRules()),
    "0, 1 and a border": (lambda m: grey(bordered(m)), MaskRules()),
    "0, 1 and a border, palette": (lambda m: palette(bordered(m)), MaskRules()),
    "ids": (lambda m: grey(ids(m)), MaskRules((2,))),
    "ids and a border": (lambda m: grey(bordered(ids(m))), MaskRules((2,))),
    "ids and another border": (lambda m: grey(bordered(ids(m), 9)), MaskRules((2,), 9)),
    "ids, palette": (lambda m: palette(ids(m)), MaskRules((2,))),
    "red": (in_colour(255, 0, 0), MaskRules()),
    "blue": (in_colour(0, 0, 255), MaskRules()),
    "grey 100": (lambda m: grey(100 * m), MaskRules()),
    "dark red, palette": (palette, MaskRules()),
    "white first, palette": (lambda m: palette(1 - m, [255, 255, 255, 0, 0, 0]), MaskRules()),
    "red and blue": (two_colours, MaskRules(((255, 0, 0),))),
    "alpha of white": (with_alpha(ones, white), MaskRules()),
    "alpha of black": (with_alpha(lambda m: 0 * m, white), MaskRules()),
    "alpha as colour": (with_alpha(white, white), MaskRules()),
    "opaque": (with_alpha(white, ones), MaskRules()),
    "alpha against colour": (with_alpha(white, lambda m: bordered(ones(m), 0)), MaskRules((255,))),
    "grey and alpha": (lambda m: Image.merge("LA", [grey(ones(m)), grey(255 * m)]), MaskRules()),
    "visible": (lambda m: grey(255 * ~m), MaskRules(invert=True)),
    "white and a border": (lambda m: grey(bordered(255 * m, 128)), MaskRules(void=128)),
    "one bit": (lambda m: grey(255 * m).convert("1"), MaskRules()),
    "16 bits": (lambda m: Image.fromarray((65535 * m).astype(np.uint16)), MaskRules()),
    "nearly 0 and 255": (lambda m: grey(1 + 253 * m), MaskRules()),
    "smoothed": (
        lambda m: grey(255 * m).resize((2 * SIDE,) * 2).resize((SIDE,) * 2, Image.Resampling.BILINEAR),
        MaskRules(),
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_masks_are_read_by_their_values_or_as_declared(kind: str, tmp_path: Path) -> None:
    save, rules = READ[kind]
    layout, occluded = masks(tmp_path / "set", save)
    layout.mask = rules
    labels = replace(OCCLUSION, mask=survey_masks(layout).reading)
    for sample, expected in zip(layout.samples("all"), occluded, strict=True):
        assert sample.label is not None
        read = read_label(sample.label, labels)
        void = bordered(0 * expected, 1) > 0 if "border" in kind else np.zeros_like(expected)
        np.testing.assert_array_equal(read, np.where(void, 255, expected))


@pytest.mark.parametrize(
    ("save", "reading"),
    [
        (lambda m: grey(255 * m), MaskReading()),
        (lambda m: grey(255 * m).convert("RGB"), MaskReading()),
        (lambda m: grey(100 * m), MaskReading(threshold=50)),
        (in_colour(255, 0, 0), MaskReading(brightest=True)),
    ],
    ids=["grey", "white", "dark", "red"],
)
def test_masks_as_jpeg(save: Save, reading: MaskReading, tmp_path: Path) -> None:
    layout, occluded = masks(tmp_path / "set", save, "jpg")
    found = survey_masks(layout).reading
    assert found == reading
    for sample, expected in zip(layout.samples("all"), occluded, strict=True):
        assert sample.label is not None
        assert (read_label(sample.label, replace(OCCLUSION, mask=found)) != expected).mean() < 0.01


AMBIGUOUS = {
    "ids": (lambda m: grey(ids(m)), "png", r"values 0 \(\d+\.\d %\), [12] .*"),
    "ids, palette": (lambda m: palette(ids(m)), "png", r"\[128,0,0\].*palette indices 0"),
    "many ids": (lambda m: grey(np.arange(SIDE)[None] // 4 + 0 * m), "png", "8 more"),
    "three greys": (lambda m: grey(np.array([0, 128, 255])[ids(m)]), "png", "128"),
    "three greys, JPEG": (lambda m: grey(np.array([0, 128, 255])[ids(m)]), "jpg", "a range of 0 to 255"),
    "two colours": (two_colours, "png", r"\[255,0,0\]"),
    "two colours, JPEG": (two_colours, "jpg", "a range of"),
    "alpha against colour": (with_alpha(white, lambda m: bordered(ones(m), 0)), "png", "alpha 255"),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_masks_are_refused_with_their_values(kind: str, tmp_path: Path) -> None:
    save, suffix, message = AMBIGUOUS[kind]
    layout, _ = masks(tmp_path / "set", save, suffix)
    with pytest.raises(AmbiguousMaskError, match=rf"{message}(.|\n)*mask\.occluded=\["):
        survey_masks(layout)


def test_the_set_decides_not_each_mask(tmp_path: Path) -> None:
    """A mask of 0 and 255 alone is void where others hold 0, 1 and 255."""
    layout, _ = masks(tmp_path / "set", lambda m: grey(bordered(m)))
    bare = layout.samples("all")[3].label
    assert bare is not None
    assert read_label(bare, OCCLUSION).max() == 1, "by itself it is occluded"
    assert set(np.unique(read_label(bare, replace(OCCLUSION, mask=survey_masks(layout).reading)))) == {0, 255}
    grey(np.eye(SIDE) * 2).save(bare)
    with pytest.raises(AmbiguousMaskError):
        survey_masks(layout)


@pytest.mark.parametrize(("value", "what"), [(0, "mark no pixel"), (255, "all mark the complete image")])
def test_a_set_that_marks_nothing_gets_a_notice(
    value: int, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout, _ = masks(tmp_path / "set", lambda m: grey(np.full(m.shape, value)), count=10)
    data = OcclusionDataModule(layout, 32, 2, 0, Augmentation(), workers=0)
    data.require_scored_faces()
    assert what in capsys.readouterr().err


def test_void_is_in_batches_packs_and_neither_loss_nor_scores(tmp_path: Path) -> None:
    layout, _ = masks(tmp_path / "set", lambda m: grey(bordered(ids(m))))
    layout.mask = MaskRules((2,))
    cache = Cache("ram", tmp_path, lambda _: "digest")
    for kept in (None, cache):
        data = OcclusionDataModule(layout, 64, 2, 0, Augmentation(), workers=0, cache=kept, tested="all")
        batch = next(iter(data.test_dataloader()))
        assert set(batch["full_label"][0].unique().tolist()) == {0, 1, 255}
        assert set(batch["label"].unique().tolist()) == {0, 1, 255}


def planned(root: Path, output: Path, *words: str, experiment: str = "occlusion_mfsd") -> Run:
    where = (f"datamodule.root={root}", f"output_dir={output}")
    (run,) = plan(check(settings_of(f"experiment={experiment}", *TINY_SEGMENTER, *where, *words)))
    return run


def test_declarations_enter_the_id_only_if_they_are_set(tmp_path: Path) -> None:
    masks(tmp_path / "set", lambda m: grey(ids(m)), count=10)
    root = tmp_path / "set"
    plain = planned(root, tmp_path)
    assert not any("mask." in name for name in plain.identity["settings"])
    with pytest.raises(AmbiguousMaskError, match=r"train\.py: datamodule\.mask\.occluded"):
        plain.stage.data(plain)
    words = [("occluded=[2]",), ("occluded=[1]",), ("occluded=[[255,0,0]]",), ("void=1",), ("invert=true",)]
    runs = [planned(root, tmp_path, *(f"datamodule.mask.{word}" for word in some)) for some in words]
    assert len({plain.id, *(run.id for run in runs)}) == 6
    runs[0].stage.data(runs[0])
    assert runs[0].identity["settings"]["datamodule.mask.occluded"] == [2]


def test_declarations_are_refused_where_they_have_no_effect(masked: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"datamodule\.mask\.invert=true does not go with augmented_celeba"):
        planned(masked, tmp_path, "datamodule.mask.invert=true", experiment="occlusion_celeba")
    with pytest.raises(ConfigError, match=r"datamodule\.mask\.occluded=.*\n.*null or a list"):
        planned(masked, tmp_path, "datamodule.mask.occluded=[300]")
    assert declared(ImageMaskFolder(tmp_path), MaskSettings(void=[1, 2, 3])).mask == MaskRules(void=(1, 2, 3))


def test_void_is_scored_nowhere(tmp_path: Path) -> None:
    """The same scores whatever is predicted there, at the size of the mask and of the input."""
    layout, _ = masks(tmp_path / "set", lambda m: grey(bordered(m)))
    for full in (True, False):
        data = OcclusionDataModule(layout, 64, 2, 0, Augmentation(), workers=0, tested="all", full_labels=full)
        (batch,) = data.test_dataloader()
        label = torch.stack(batch["full_label"]).long() if full else batch["label"]
        found = []
        for void in (-9.0, 9.0):
            logits = torch.where(label == 255, void, torch.where(label == 1, 9.0, -9.0)).unsqueeze(1)
            module = segmenter(lambda_dice=0.0)
            module.model = Constant(logits)
            module.test_step(batch, 0)
            scores = {name: value.item() for name, value in module.scores.compute().items()}
            found.append((scores, module.mean_loss.compute().item()))
        assert found[0] == found[1]
        assert found[0][0]["miou"] == 1
        assert found[0][1] < 0.01


class Constant(torch.nn.Module):
    """A network that predicts the same for all images."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_real_masks_are_read_by_their_brightness(face_data: Path) -> None:
    layout = ImageMaskFolder(face_data / "real" / "MFSD")
    reading = survey_masks(layout).reading
    assert reading == MaskReading()
    for sample in layout.samples("all"):
        assert sample.label is not None
        with Image.open(sample.label) as file:
            expected = np.asarray(file.convert("L")) > 127
        np.testing.assert_array_equal(read_label(sample.label, replace(OCCLUSION, mask=reading)), expected)


@pytest.mark.training
def test_declarations_of_an_evaluation(segmenter_run: Run, tmp_path: Path) -> None:
    masks(tmp_path / "set", lambda m: grey(ids(m)))
    words = (f"checkpoint={segmenter_run.folder.path}", "dataset=image_mask_folder", f"root={tmp_path / 'set'}")

    def run(*more: str) -> Run:
        return plan_evaluation(check_evaluation(config_of(*words, "split=all", f"output_dir={tmp_path}", *more)))

    assert not any("mask." in name for name in run().identity["settings"])
    assert run().id != run("mask.occluded=[2]").id
    assert run("mask.occluded=[2]").layout.mask == MaskRules((2,))
