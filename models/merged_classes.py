"""A parser whose logits are those of another, coarser class set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NEVER = -1e4
"""Logit of a class of which the parser knows no part: below all others, and still a number in half precision."""


class MergedClasses(nn.Module):
    """A parser whose classes are merged: a merged class is as probable as its parts together, or as good as the best.

    Args:
        parser: (N, 3, H, W) images -> (N, C, H, W) logits.
        merged: for each of the parser's classes the id, 0..K-1, of the one that it becomes a part of.
        probabilities: whether logits are of probabilities; of margins the greatest part stands for all of them.
        classes: K, where the parser knows no part of some classes: their logits are :data:`NEVER`. None: the greatest
            id plus one, each of which has a part.

    Shape: (N, 3, H, W) images -> (N, K, H, W) logits.

    Example:
        >>> MergedClasses(nn.Identity(), [0, 1, 1])(torch.zeros(1, 3, 1, 1)).flatten().softmax(dim=0)
        tensor([0.3333, 0.6667])

    Raises:
        ValueError: if no class becomes a part of one of the ids in between.
    """

    def __init__(
        self, parser: nn.Module, merged: Sequence[int], probabilities: bool = True, classes: int | None = None
    ) -> None:
        super().__init__()
        self.parser = parser
        self.probabilities = probabilities
        count = max(merged) + 1 if classes is None else classes
        self.parts = [[part for part, joined in enumerate(merged) if joined == target] for target in range(count)]
        if classes is None and not all(self.parts):
            raise ValueError(f"nothing is merged into class {self.parts.index([])}")

    def forward(self, image: Tensor) -> Tensor:
        logits = self.parser(image).float()
        joined = torch.logsumexp if self.probabilities else torch.amax
        never = torch.full_like(logits[:, 0], NEVER)
        return torch.stack([joined(logits[:, parts], dim=1) if parts else never for parts in self.parts], dim=1)
