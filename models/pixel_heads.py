"""Pixel features and the heads that classify them: the hybrid of the paper's Figure 5 as one network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.parser import Trunk
from models.svm.tree import ClassTree

ABSENT = -1e4
"""Logit of a class that a head does not know: below all others, and finite, also in half precision."""
MOST_KERNELS = 2**26
"""Kernel values held in memory at once: a quarter of a gibibyte."""


class PixelFeatures(nn.Module):
    """Features of a trunk at each pixel.

    Args:
        trunk: UNet++.
        which: ``map``, the trunk's full-resolution map, or ``hypercolumns``: it and the levels of the decoder that
            lead to it (x_0_0 to x_0_3, 1/16 to 1/2 of the size), interpolated bilinearly to full resolution.

    Shape: (N, 3, H, W) normalised images -> (N, F, H, W).
    """

    def __init__(self, trunk: Trunk, which: str) -> None:
        super().__init__()
        self.trunk = trunk
        self.levels = [f"x_0_{level}" for level in range(trunk.decoder.depth)] if which == "hypercolumns" else []

    @property
    def count(self) -> int:
        """F."""
        channels = self.trunk.decoder.out_channels
        return sum(channels) if self.levels else channels[-1]

    def forward(self, image: Tensor) -> Tensor:
        levels: list[Tensor] = []
        hooks = [
            self.trunk.decoder.blocks[name].register_forward_hook(lambda _, __, output: levels.append(output))
            for name in self.levels
        ]
        try:
            last = self.trunk(image)  # [N, 16, H, W]
        finally:
            for hook in hooks:
                hook.remove()
        full = [F.interpolate(level, image.shape[-2:], mode="bilinear", align_corners=False) for level in levels]
        return torch.cat([*full, last], dim=1)


class SVMHead(nn.Module):
    """Binary SVMs on the features of each pixel; turns their scores into logits.

    A score is a linear function of the standardised features or, with ``centres``, of RBF kernels around them.

    Args:
        kind: how scores become logits. ``tree``: the minimum score on the path to each class; ``ovr``: one score per
            class; ``ovo``: votes of all pairs, with ties broken by scores, as in scikit-learn. The argmax is the
            predicted class.
        present: ids of the classes that the SVMs know; others get the logit :data:`ABSENT`.
        classes: C, number of all classes.
        features: F, number of features.
        left: of a tree, see :class:`models.svm.tree.ClassTree`; its classes are indices into ``present``.
        right: likewise.
        centres: number of RBF kernels; 0 for none.
        gamma: of the RBF kernels.

    Shape: (N, F, H, W) -> (N, C, H, W).
    """

    def __init__(
        self,
        kind: str,
        present: Sequence[int],
        classes: int,
        features: int,
        left: Sequence[int] = (),
        right: Sequence[int] = (),
        centres: int = 0,
        gamma: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.present = list(present)
        self.classes = classes
        self.gamma = gamma
        self.tree = ClassTree(np.array(left, np.int64), np.array(right, np.int64))
        known = len(self.present)
        self.pairs = list(itertools.combinations(range(known), 2))
        svms = {"tree": known - 1, "ovr": known if known > 2 else known - 1, "ovo": len(self.pairs)}[kind]
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("centres", torch.zeros(centres, features))
        self.register_buffer("weight", torch.zeros(svms, centres or features))
        self.register_buffer("bias", torch.zeros(svms))

    mean: Tensor
    scale: Tensor
    centres: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        known_logits = self._known_logits(features)
        if len(self.present) == self.classes:
            return torch.stack(known_logits, dim=1)
        absent = torch.full_like(known_logits[0], ABSENT)
        places = dict(zip(self.present, known_logits, strict=True))
        return torch.stack([places.get(index, absent) for index in range(self.classes)], dim=1)

    def _known_logits(self, features: Tensor) -> list[Tensor]:
        """Logits (N, H, W) of the classes in ``present``."""
        known = len(self.present)
        if known == 1:
            return [torch.zeros_like(features[:, 0])]
        scores = self.scores(features).unbind(dim=1)
        if self.kind == "tree":
            return self.tree.margins(scores, torch.minimum)
        if self.kind == "ovr":
            return list(scores) if known > 2 else [-scores[0], scores[0]]
        logits = []
        for index in range(known):
            own = [(score, pair) for score, pair in zip(scores, self.pairs, strict=True) if index in pair]
            towards = torch.stack([score if pair[1] == index else -score for score, pair in own])
            votes, sum_ = (towards > 0).sum(dim=0), towards.sum(dim=0)
            logits.append(votes + sum_ / (3 * (sum_.abs() + 1)))
        return logits

    def scores(self, features: Tensor) -> Tensor:
        """(N, F, H, W) -> scores of all M binary SVMs, (N, M, H, W)."""
        if not len(self.centres):  # linear SVMs: the standardisation is folded into the hyperplanes
            weight = self.weight / self.scale
            return F.conv2d(features, weight[:, :, None, None], self.bias - weight @ self.mean)
        scores = []
        for single in features:
            pixels = (single.flatten(1).T - self.mean) / self.scale  # [HW, F]
            parts = []
            for some in pixels.split(max(1, MOST_KERNELS // len(self.centres))):
                kernels = torch.exp(-self.gamma * torch.cdist(some, self.centres).square())  # [some of HW, S]
                parts.append(kernels @ self.weight.T)
            scores.append((torch.cat(parts) + self.bias).T.unflatten(1, single.shape[-2:]))
        return torch.stack(scores)


class PixelClassifier(nn.Module):
    """A trunk and a head on its pixel features.

    Args:
        encoder: see :class:`models.parser.Trunk`, as is ``features``.
        features: channels of the trunk's map.
        which: see :class:`PixelFeatures`.
        classes: C.
        head: arguments of :class:`SVMHead`, or None for a parser's head, a 3 x 3 convolution.

    Shape: (N, 3, H, W) normalised images -> (N, C, H, W) logits.
    """

    def __init__(self, encoder: str, features: int, which: str, classes: int, head: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.features = PixelFeatures(Trunk(encoder, features), which)
        self.head: nn.Module
        if head is None:
            self.head = nn.Conv2d(features, classes, kernel_size=3, padding=1)
        else:
            self.head = SVMHead(**head, classes=classes, features=self.features.count)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))
