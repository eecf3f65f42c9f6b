"""How wrong a label map probably is, from the network's own probabilities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST = 0.5
"""Expected pixels of a class from which it counts as present."""


def expected_error(logits: Tensor, inside: Tensor | None = None) -> float:
    """1 minus the mean over classes of the IoU that a prediction has if its probabilities are right, 0..1.

    Of class c with the probabilities p: the sum of p where c is predicted, divided by the predicted pixels and the sum
    of p elsewhere. Classes count alike whatever their size, as in the mean IoU. A class enters if :data:`LEAST` pixels
    of it are predicted or expected.

    Args:
        logits: (C, H, W).
        inside: (H, W) bool, the pixels that count; None: all.
    """
    probability = logits.float().flatten(1).softmax(dim=0)  # [C, N]
    if inside is not None:
        probability = probability[:, inside.flatten()]
    if not probability.shape[1]:
        return 0.0
    predicted = F.one_hot(probability.argmax(dim=0), len(probability)).T  # [C, N]
    hits = (probability * predicted).sum(dim=1)
    union = predicted.sum(dim=1) + probability.sum(dim=1) - hits
    present = union >= LEAST
    return float(1 - (hits[present] / union[present]).mean())


def square_inside(box: tuple[int, int, int], shape: tuple[int, ...], size: int) -> Tensor:
    """Which pixels of a square that was scaled to ``size`` pixels lie in the image, (size, size) bool.

    Args:
        box: left, top and side of the square, in pixels of the image.
        shape: (H, W) of the image.
        size: side of the map.
    """
    left, top, side = box
    centres = (torch.arange(size) + 0.5) * side / size
    rows = (centres + top >= 0) & (centres + top < shape[0])
    columns = (centres + left >= 0) & (centres + left < shape[1])
    return rows[:, None] & columns
