"""Scores of binary masks against scikit-learn and scikit-image, noise processing against OpenCV, and the loss."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score
from torch import Tensor

from lightning_modules.mask_scores import MaskScores
from models.losses import occlusion_loss
from models.noise_processing import opened, opening_kernel


def blobs(seed: int, count: int = 4, size: int = 48) -> Tensor:
    noise = np.random.default_rng(seed).standard_normal((count, size, size)).astype(np.float32)
    return torch.from_numpy(np.stack([cv2.GaussianBlur(one, (0, 0), 3) for one in noise])) > 0.05


def test_scores_agree_with_an_independent_reference() -> None:
    predicted, occluded = blobs(0), blobs(1)
    scores = MaskScores()
    scores.update(predicted[:1], occluded[:1])
    scores.update(predicted[1:], occluded[1:])
    got = {name: value.item() for name, value in scores.compute().items()}
    ground_truth, prediction = occluded.flatten().numpy(), predicted.flatten().numpy()
    expected = {
        "accuracy": accuracy_score(ground_truth, prediction),
        "miou": jaccard_score(ground_truth, prediction, average="macro"),
        "iou": jaccard_score(ground_truth, prediction),
        "dice": f1_score(ground_truth, prediction),
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-6), name
    alike = [
        structural_similarity(
            one.numpy().astype(float),
            other.numpy().astype(float),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            win_size=11,
        )
        for one, other in zip(predicted, occluded, strict=True)
    ]
    assert got["ssim"] == pytest.approx(np.mean(alike), abs=0.03), "borders are treated differently"
    assert "false_area" not in got


def test_scores_of_groups_and_false_area_of_bare_faces() -> None:
    predicted, occluded = blobs(0), blobs(1)
    occluded[3] = False
    scores = MaskScores(("type/n95", "type/scarf", "style/chin"))
    scores.update(predicted, occluded, [["type/n95"], ["type/n95", "style/chin"], ["type/other"], []])
    got = {name: value.item() for name, value in scores.compute().items()}
    first = jaccard_score(occluded[:2].flatten().numpy(), predicted[:2].flatten().numpy())
    assert got["iou/type/n95"] == pytest.approx(first, abs=1e-6)
    assert got["dice/style/chin"] == pytest.approx(f1_score(occluded[1].flatten(), predicted[1].flatten()), abs=1e-6)
    assert "iou/type/scarf" not in got
    assert got["false_area"] == pytest.approx(predicted[3].float().mean().item(), abs=1e-6)


def test_pixels_that_do_not_count_are_neither_right_nor_wrong() -> None:
    predicted, occluded, valid = blobs(0), blobs(1), blobs(4)
    scores, others = MaskScores(), MaskScores()
    scores.update(predicted, occluded, valid=valid)
    others.update(predicted ^ ~valid, occluded, valid=valid)  # another prediction there
    got = {name: value.item() for name, value in scores.compute().items()}
    assert got == {name: value.item() for name, value in others.compute().items()}
    ground_truth, prediction = occluded[valid].numpy(), predicted[valid].numpy()
    assert got["accuracy"] == pytest.approx(accuracy_score(ground_truth, prediction), abs=1e-6)
    assert got["miou"] == pytest.approx(jaccard_score(ground_truth, prediction, average="macro"), abs=1e-6)
    full = MaskScores()
    full.update(predicted, occluded, valid=torch.ones_like(valid))
    without = MaskScores()
    without.update(predicted, occluded)
    assert full.compute() == without.compute()


def test_the_confusion_is_summed_over_processes() -> None:
    predicted, occluded = blobs(0), blobs(1)
    scores = MaskScores()
    assert scores.counted is None
    scores.update(predicted, occluded)
    scores.distributed_available_fn = lambda: True
    scores.dist_sync_fn = lambda state, group: [state, state]  # noqa: ARG005 (two processes with the same faces)
    scores.compute()
    assert scores.counted is not None
    expected = confusion_matrix(occluded.flatten(), predicted.flatten())
    assert np.array_equal(scores.counted.numpy(), 2 * expected)


def test_a_perfect_prediction_scores_1() -> None:
    scores = MaskScores()
    scores.update(blobs(2), blobs(2))
    assert all(value.item() == pytest.approx(1, abs=1e-5) for value in scores.compute().values())


@pytest.mark.parametrize("kernel", [3, 7])
def test_noise_processing_is_opencv_s_opening(kernel: int) -> None:
    mask = blobs(3) ^ (torch.rand(4, 48, 48, generator=torch.Generator().manual_seed(0)) > 0.98)
    square = np.ones((kernel, kernel), np.uint8)
    expected = [cv2.dilate(cv2.erode(one, square), square) for one in mask.numpy().astype(np.uint8)]
    cleaned = opened(mask.unsqueeze(1), kernel)
    assert cleaned.dtype == torch.bool
    assert np.array_equal(cleaned[:, 0].numpy(), np.stack(expected).astype(bool))


def test_the_kernel_scales_with_the_image() -> None:
    assert [opening_kernel(size) for size in (32, 64, 128, 256, 512)] == [1, 3, 7, 13, 29]
    assert all(opening_kernel(size) % 2 for size in range(32, 600, 32))


def test_the_loss_is_binary_cross_entropy_with_optional_dice() -> None:
    logits = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    q = logits.sigmoid()
    entropy = -(mask * q.log() + (1 - mask) * (1 - q).log()).mean()
    assert occlusion_loss(logits, mask).item() == pytest.approx(entropy.item(), abs=1e-6)
    dice = 1 - 2 * (q * mask).sum() / (q.sum() + mask.sum())
    assert occlusion_loss(logits, mask, 0.5).item() == pytest.approx((entropy + 0.5 * dice).item(), abs=1e-6)
    assert occlusion_loss(torch.full_like(logits, -90), torch.zeros_like(mask), 1.0).isfinite()
