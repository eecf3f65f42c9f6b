"""Strong views: what CutMix pastes, what stays, and what the colours do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules import strong_views
from datamodules.labels import LAPA
from datamodules.strong_views import blur, cutmix_boxes, jitter, luminance, paste, photometric, strong_view, turn_hue
from datamodules.transforms import MEAN, STD, Augmentation, FaceTransform


def test_cutmix_pastes_the_partner_of_the_reversed_batch() -> None:
    label = torch.arange(3).view(3, 1, 1).expand(3, 2, 2)
    inside = torch.zeros(3, 2, 2, dtype=torch.bool)
    inside[0, 0, 0] = inside[2, 1, :] = True
    expected = [[[2, 0], [0, 0]], [[1, 1], [1, 1]], [[2, 2], [0, 0]]]
    assert paste(label, inside).tolist() == expected
    images = label.unsqueeze(1).expand(3, 3, 2, 2)
    assert torch.equal(paste(images, inside.unsqueeze(1)), torch.tensor(expected).unsqueeze(1).expand(3, 3, 2, 2))


def test_image_pseudo_label_and_confidence_are_pasted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strong_views, "photometric", lambda image: image)
    value = torch.arange(6.0).view(6, 1, 1, 1)
    view = strong_view(
        value.expand(6, 3, 16, 16), value[:, 0].long().expand(6, 16, 16), value[:, 0].expand(6, 16, 16), 1.0
    )
    assert torch.equal(view.image[:, 0], view.label.float())
    assert torch.equal(view.confidence, view.label.float())
    for index, label in enumerate(view.label):
        assert set(label.unique().tolist()) == {index, 5 - index}


def test_cutmix_boxes_have_the_published_area_and_aspect() -> None:
    assert not cutmix_boxes(8, 64, 64, 0.0).any()
    for box in cutmix_boxes(200, 64, 64, 1.0):
        rows, columns = box.any(dim=1), box.any(dim=0)
        height, width = int(rows.sum()), int(columns.sum())
        assert int(box.sum()) == height * width, "one rectangle"
        assert 0.015 < height * width / 64**2 < 0.42
        assert 0.27 < height / width < 3.7
    filled = cutmix_boxes(400, 8, 8, 0.5).flatten(1).any(dim=1).float().mean()
    assert 0.4 < filled < 0.6


def test_views_repeat_with_the_seed() -> None:
    images = torch.randn(4, 3, 32, 32)
    label, confidence = torch.randint(0, 5, (4, 32, 32)), torch.rand(4, 32, 32)

    def seeded(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        view = strong_view(images, label, confidence)
        return [view.image, view.label, view.confidence]

    assert all(map(torch.equal, seeded(1), seeded(1)))
    assert not torch.equal(seeded(1)[0], seeded(2)[0])


def test_colours_move_and_geometry_stays() -> None:
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = torch.rand(16, 3, 1, 1).expand(16, 3, 8, 8)
    images = photometric((pixels - mean) / deviation)
    assert torch.allclose(images, images[..., :1, :1].expand_as(images), atol=1e-4), "a plain image stays plain"
    back = images * deviation + mean
    assert float(back.min()) > -1e-4
    assert float(back.max()) < 1 + 1e-4
    assert (back - pixels).abs().amax(dim=(1, 2, 3)).gt(0.05).sum() > 8


def test_hue_turns_about_grey() -> None:
    pixels = 0.3 + 0.2 * torch.rand(3, 3, 4, 4)
    turned = turn_hue(pixels, torch.tensor([0.0, 1.0, 0.1]))
    assert torch.allclose(turned[:2], pixels[:2], atol=1e-3)
    assert not torch.allclose(turned[2], pixels[2], atol=1e-3)
    assert torch.allclose(luminance(turned), luminance(pixels), atol=2e-3)
    grey = torch.full((1, 3, 2, 2), 0.4)
    assert torch.allclose(turn_hue(grey, torch.tensor([0.2])), grey, atol=1e-3)


def test_blur_keeps_the_mean_and_follows_each_images_sigma() -> None:
    image = torch.zeros(2, 3, 17, 17)
    image[:, :, 8, 8] = 1
    blurred = blur(image, torch.tensor([0.1, 2.0]))
    assert torch.allclose(blurred[0], image[0], atol=1e-4)
    assert torch.allclose(blurred[1].sum(dim=(1, 2)), torch.ones(3), atol=1e-2)
    assert blurred[1, 0, 8, 8] == pytest.approx(1 / (2 * np.pi * 4), rel=0.02)
    assert torch.allclose(blurred[1, 0], blurred[1, 0].T, atol=1e-6)


def test_jitter_leaves_some_images() -> None:
    pixels = torch.rand(64, 3, 2, 2)
    same = (jitter(pixels) == pixels).flatten(1).all(dim=1).float().mean()
    assert 0.05 < same < 0.4


def test_photometric_augmentation_changes_colours_alone() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    label = rng.integers(0, 11, (64, 64), dtype=np.uint8)
    plain = FaceTransform(64, Augmentation(rotation=20), LAPA, 3)
    strong = FaceTransform(64, Augmentation(rotation=20, photometric=1.0), LAPA, 3)
    changes = []
    for position in range(12):
        image, moved = plain(photo, label, 0, position)
        other, same = strong(photo, label, 0, position)
        assert np.array_equal(moved, same)  # type: ignore[arg-type]
        assert np.array_equal(other, strong(photo, label, 0, position)[0]), "a function of seed, epoch and position"
        changes.append(float(np.abs(image - other).mean()))
    assert min(changes) > 0.05
    assert max(changes) > 2 * min(changes)
