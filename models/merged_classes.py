"""A parser whose logits are converted to another, coarser class set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.pixel_heads import ABSENT


class MergedClasses(nn.Module):
    """A parser with merged classes: the logit of a class is the log-sum-exp or the maximum of those of its parts.

    Args:
        parser: (N, 3, H, W) images -> (N, C, H, W) logits.
        merged: for each of the parser's classes the id, 0..K-1, of the class that it is merged into.
        probabilities: whether logits are log-probabilities (log-sum-exp) or margins (maximum).
        classes: K; classes without a part get the logit :data:`ABSENT`.

    Shape: (N, 3, H, W) images -> (N, K, H, W) logits.

    Example:
        >>> MergedClasses(nn.Identity(), [0, 1, 1], True, 2)(torch.zeros(1, 3, 1, 1)).flatten().softmax(dim=0)
        tensor([0.3333, 0.6667])
    """

    def __init__(self, parser: nn.Module, merged: Sequence[int], probabilities: bool, classes: int) -> None:
        super().__init__()
        self.parser = parser
        self.probabilities = probabilities
        self.parts = [[part for part, joined in enumerate(merged) if joined == target] for target in range(classes)]

    def forward(self, image: Tensor) -> Tensor:
        logits = self.parser(image).float()
        joined = torch.logsumexp if self.probabilities else torch.amax
        absent = torch.full_like(logits[:, 0], ABSENT)
        return torch.stack([joined(logits[:, parts], dim=1) if parts else absent for parts in self.parts], dim=1)
