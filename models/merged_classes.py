"""A parser that answers in another data set's coarser classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MergedClasses(nn.Module):
    """A parser whose classes are merged: a merged class is as probable as its parts together, or as good as the best.

    Args:
        parser: (N, 3, H, W) pictures -> (N, C, H, W) logits.
        merged: for each of the parser's classes the id, 0..K-1, of the one that it becomes a part of.
        probabilities: whether logits are of probabilities; of margins the greatest part stands for the whole.

    Shape: (N, 3, H, W) pictures -> (N, K, H, W) logits, K the greatest id plus one.

    Example:
        >>> MergedClasses(nn.Identity(), [0, 1, 1])(torch.zeros(1, 3, 1, 1)).flatten().softmax(dim=0)
        tensor([0.3333, 0.6667])

    Raises:
        ValueError: if no class becomes a part of one of the ids in between.
    """

    def __init__(self, parser: nn.Module, merged: Sequence[int], probabilities: bool = True) -> None:
        super().__init__()
        self.parser = parser
        self.probabilities = probabilities
        self.parts = [
            [part for part, whole in enumerate(merged) if whole == target] for target in range(max(merged) + 1)
        ]
        if not all(self.parts):
            raise ValueError(f"nothing is merged into class {self.parts.index([])}")

    def forward(self, image: Tensor) -> Tensor:
        logits = self.parser(image).float()
        joined = torch.logsumexp if self.probabilities else torch.amax
        return torch.stack([joined(logits[:, parts], dim=1) for parts in self.parts], dim=1)
