"""Equations 1-3, each against its formula written out pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch

from models.losses import (
    contrastive_loss,
    cross_entropy,
    dice_loss,
    focal_cross_entropy,
    parsing_loss,
    reconstruction_loss,
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 5, generator=generator) * 2
    label = torch.randint(0, 3, (2, 3, 5), generator=generator)  # class 3 is absent
    label[0, 0, :2] = 255
    return logits, label


def written_out_focal(logits: torch.Tensor, label: torch.Tensor, alpha: float, gamma: float) -> float:
    total, pixels = 0.0, 0
    for n, i, j in torch.nonzero(label != 255).tolist():
        q = logits[n, :, i, j].double().softmax(0).tolist()
        for c, value in enumerate(q):
            p = float(label[n, i, j] == c)
            total += -alpha * (1 - value) ** gamma * p * math.log(value)
            total += -(1 - alpha) * value**gamma * (1 - p) * math.log(1 - value)
        pixels += 1
    return total / pixels


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 2.0), (0.25, 1.0), (0.9, 0.0), (0.5, 0.5)])
def test_focal_cross_entropy(batch: tuple[torch.Tensor, torch.Tensor], alpha: float, gamma: float) -> None:
    assert focal_cross_entropy(*batch, alpha, gamma).item() == pytest.approx(
        written_out_focal(*batch, alpha, gamma), rel=1e-4
    )


def test_dice(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, label = batch
    losses = []
    for c in (0, 1, 2):  # the classes present
        overlap = p_sum = q_sum = 0.0
        for n, i, j in torch.nonzero(label != 255).tolist():
            q = float(logits[n, :, i, j].double().softmax(0)[c])
            p = float(label[n, i, j] == c)
            overlap, p_sum, q_sum = overlap + p * q, p_sum + p, q_sum + q
        losses.append(1 - 2 * overlap / (p_sum + q_sum))
    assert dice_loss(logits, label).item() == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_cross_entropy_averages_over_labelled_pixels(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    expected = torch.nn.functional.cross_entropy(*batch, ignore_index=255)
    assert cross_entropy(*batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_combination(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    both = parsing_loss(*batch, "focal_dice", lambda_ce=0.3, lambda_dice=0.7, alpha=0.4, gamma=1.5)
    assert both.item() == pytest.approx(
        0.3 * focal_cross_entropy(*batch, 0.4, 1.5).item() + 0.7 * dice_loss(*batch).item(), rel=1e-6
    )
    assert parsing_loss(*batch, "ce") == cross_entropy(*batch)
    assert parsing_loss(*batch, "focal") == focal_cross_entropy(*batch)
    assert parsing_loss(*batch, "ce_dice").item() == pytest.approx(
        0.5 * cross_entropy(*batch).item() + 0.5 * dice_loss(*batch).item(), rel=1e-6
    )


@pytest.mark.parametrize("kind", ["focal_dice", "ce_dice", "focal", "ce"])
def test_gradient_descent_reaches_the_ground_truth(batch: tuple[torch.Tensor, torch.Tensor], kind: str) -> None:
    """With the equation's misprints, Dice and the second focal term would be optimised in the wrong direction."""
    logits, label = batch
    logits = logits.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    first = parsing_loss(logits, label, kind).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = parsing_loss(logits, label, kind)
        loss.backward()
        optimizer.step()
    valid = label != 255
    assert loss.item() < 0.05 * first
    assert torch.equal(logits.argmax(1)[valid], label[valid])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("kind", "gamma"), [("focal_dice", 2.0), ("focal", 0.5), ("focal", 0.0), ("ce", 2.0)])
def test_finite_at_the_extremes(kind: str, gamma: float) -> None:
    for predicted in (0, 1):
        logits = torch.zeros(1, 2, 2, 2)
        logits[:, predicted] = 1e4
        logits.requires_grad_()
        loss = parsing_loss(logits, torch.zeros(1, 2, 2, dtype=torch.long), kind, gamma=gamma)
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


def test_the_loss_is_0_without_labelled_pixels() -> None:
    label = torch.full((1, 2, 2), 255)
    assert parsing_loss(torch.randn(1, 3, 2, 2), label) == 0


def test_reconstruction_loss_counts_only_the_region() -> None:
    target = torch.zeros(2, 3, 6, 6)
    region = torch.zeros(1, 1, 6, 6)
    region[..., 1:5, 1:5] = 1
    prediction = torch.full_like(target, 7.0)
    prediction[..., 1:5, 1:5] = 2.0
    assert reconstruction_loss(prediction, target, region).item() == pytest.approx(4)
    assert reconstruction_loss(prediction, target, region, "l1").item() == pytest.approx(2)
    assert reconstruction_loss(prediction, target, region, "mse", "sum").item() == pytest.approx(4 * 3 * 16)
    mask = torch.zeros(2, 1, 6, 6)
    mask[0, 0, 2, 2] = 1
    prediction[0, :, 2, 2] = 5
    assert reconstruction_loss(prediction, target, mask).item() == pytest.approx(25)


def test_contrastive_loss_is_that_of_simclr() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 7, generator=generator)
    views = torch.cat([first, second]) / torch.cat([first, second]).norm(dim=1, keepdim=True)
    terms = []
    for i in range(10):
        likeness = torch.exp(views @ views[i] / 0.2)
        terms.append(-torch.log(likeness[(i + 5) % 10] / (likeness.sum() - likeness[i])))
    assert contrastive_loss(first, second, 0.2) == pytest.approx(float(torch.stack(terms).mean()), abs=1e-6)
    assert contrastive_loss(first, first, 0.05) < contrastive_loss(first, second, 0.05)
