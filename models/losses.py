"""The losses of both papers, one function per term.

The parsing paper's Equation 3 has three misprints, corrected here: the cross-entropy weight also multiplies the Dice
term, the Dice term lacks its ``1 -`` (it would be maximised), and the second focal term lacks its minus sign.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255


def mean_over_images(loss: Callable[..., Tensor], *batch: Tensor) -> Tensor:
    """The mean of a loss over single images, which does not depend on how they are batched.

    Args:
        loss: takes one slice (1, ...) of every tensor and returns a scalar.
        batch: tensors (N, ...).
    """
    slices = zip(*(tensor.split(1) for tensor in batch), strict=True)
    return torch.stack([loss(*single) for single in slices]).mean()


def reconstruction_loss(
    prediction: Tensor, target: Tensor, region: Tensor, kind: str = "mse", reduction: str = "mean"
) -> Tensor:
    """Equation 1: the pixel loss between an image and its reconstruction over a region.

    The paper sums over the central box, masked pixels or not, and does not specify the pixel loss L. The default here
    is the mean: with a sum, the right learning rate would depend on the image's size.

    Args:
        prediction: (N, 3, H, W) normalised pixels.
        target: (N, 3, H, W) normalised pixels.
        region: (N, 1, H, W) or (1, 1, H, W), 1 where the loss counts and 0 elsewhere.
        kind: ``mse`` or ``l1``.
        reduction: ``mean`` over the region, or ``sum`` over each image's region, averaged over the batch.
    """
    difference = (prediction - target).float()
    pixel_loss = difference.square() if kind == "mse" else difference.abs()  # [N, 3, H, W]
    total = (pixel_loss * region).sum()
    if reduction == "sum":
        return total / prediction.shape[0]
    return total / (region.expand_as(pixel_loss).sum()).clamp(min=1)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent (Chen et al. 2020, SimCLR): views of one image attract, views of different images repel.

    Args:
        first: (N, D) embeddings of one view of each image.
        second: (N, D) of another view, in the same order.
        temperature: above 0; lower values put more weight on the hardest negatives.
    """
    views = F.normalize(torch.cat([first, second]).float(), dim=1)  # [2N, D]
    likeness = views @ views.T / temperature
    likeness.fill_diagonal_(float("-inf"))
    partner = torch.arange(len(views), device=views.device).roll(len(first))
    return F.cross_entropy(likeness, partner)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Softmax cross-entropy, averaged over labelled pixels; logits (N, C, H, W), label (N, H, W)."""
    valid = (label != IGNORE).sum().clamp(min=1)
    return F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="sum") / valid


def focal_cross_entropy(logits: Tensor, label: Tensor, alpha: float = 0.5, gamma: float = 2.0) -> Tensor:
    """The first term of Equation 3: focal cross-entropy, each class against the rest.

    With p the one-hot ground truth and q the softmax probability of a class at a pixel,
    ``-alpha (1 - q)^gamma p log q - (1 - alpha) q^gamma (1 - p) log(1 - q)``, summed over classes and averaged over
    labelled pixels.

    Args:
        logits: (N, C, H, W).
        label: (N, H, W) class ids; 255 is ignored.
        alpha: weight of the true class against the others, 0..1 (not given in the paper; 0.5 weights them equally).
        gamma: focusing exponent, >= 0 (not given in the paper; 2 is the default of the focal loss paper).
    """
    valid = label != IGNORE
    log_q = F.log_softmax(logits.float(), dim=1)  # [N, C, H, W]
    q = log_q.exp().clamp(1e-6, 1 - 1e-6)  # a power below 1 has no gradient at 0, log(1 - q) no value at q = 1
    p = _one_hot(label, valid, logits.shape[1])
    per_class = -alpha * (1 - q) ** gamma * p * log_q - (1 - alpha) * q**gamma * (~p) * torch.log1p(-q)
    per_pixel = per_class.sum(dim=1)  # [N, H, W]
    return (per_pixel * valid).sum() / valid.sum().clamp(min=1)


def dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """The second term of Equation 3: ``1 - 2 <p, q> / (|p|_1 + |q|_1)``, averaged over classes.

    Sums are over the batch, and the average is over the classes in the batch's ground truth: for an absent class the
    quotient is 0 for any prediction, so the term would be a constant.

    Args:
        logits: (N, C, H, W).
        label: (N, H, W) class ids; 255 is ignored.
    """
    valid = label != IGNORE
    q = logits.float().softmax(dim=1) * valid.unsqueeze(1)
    p = _one_hot(label, valid, logits.shape[1])
    overlap = (q * p).sum(dim=(0, 2, 3))  # [C]
    size = p.sum(dim=(0, 2, 3)) + q.sum(dim=(0, 2, 3))  # [C]
    present = p.sum(dim=(0, 2, 3)) > 0
    dice = 2 * overlap / size.clamp(min=1e-7)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def parsing_loss(
    logits: Tensor,
    label: Tensor,
    kind: str = "focal_dice",
    lambda_ce: float = 0.5,
    lambda_dice: float = 0.5,
    alpha: float = 0.5,
    gamma: float = 2.0,
) -> Tensor:
    """Equations 2 and 3: ``lambda_ce * L_ce + lambda_dice * L_dice``.

    Args:
        logits: (N, C, H, W).
        label: (N, H, W) class ids; 255 is ignored.
        kind: ``focal_dice`` (the paper's combined loss), ``ce_dice``, ``focal`` or ``ce`` (one term alone, weight 1).
        lambda_ce: weight of the cross-entropy term.
        lambda_dice: weight of the Dice term.
        alpha: see :func:`focal_cross_entropy`.
        gamma: see :func:`focal_cross_entropy`.
    """
    entropy, _, dice = kind.partition("_")
    focal = entropy == "focal"
    classification = focal_cross_entropy(logits, label, alpha, gamma) if focal else cross_entropy(logits, label)
    if not dice:
        return classification
    return lambda_ce * classification + lambda_dice * dice_loss(logits, label)


def occlusion_loss(logits: Tensor, mask: Tensor, lambda_dice: float = 0.0, valid: Tensor | None = None) -> Tensor:
    """The occlusion paper's binary cross-entropy (Algorithm 1), averaged over pixels; optionally with a Dice term.

    Args:
        logits: (N, 1, H, W) of "occluded".
        mask: (N, 1, H, W) float, 0 or 1.
        lambda_dice: weight of ``1 - 2 <p, q> / (|p|_1 + |q|_1)`` over the batch, which is not in the paper.
        valid: (N, 1, H, W) bool, the pixels that count; None takes all.
    """
    if valid is None:
        valid = torch.ones_like(mask, dtype=torch.bool)
    entropy = F.binary_cross_entropy_with_logits(logits.float(), mask, reduction="none")
    entropy = (entropy * valid).sum() / valid.sum().clamp(min=1)
    if lambda_dice == 0:
        return entropy
    q, mask = logits.float().sigmoid() * valid, mask * valid
    return entropy + lambda_dice * (1 - 2 * (q * mask).sum() / (q.sum() + mask.sum()).clamp(min=1e-7))


def _one_hot(label: Tensor, valid: Tensor, classes: int) -> Tensor:
    """(N, H, W) ids -> (N, C, H, W) bool; all false where not valid."""
    ids = torch.arange(classes, device=label.device).view(1, -1, 1, 1)
    return (label.unsqueeze(1) == ids) & valid.unsqueeze(1)
