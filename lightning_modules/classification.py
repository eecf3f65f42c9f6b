"""Scores a pixel classifier whose head was fitted to features (:mod:`models.head_fitting`); trains nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lightning_modules.metrics import SegmentationScores
from lightning_modules.parsing import score_batch
from lightning_modules.scoring import ScoredModule
from models.pixel_heads import PixelClassifier


class PixelClassification(ScoredModule):
    """The hybrid of the parsing paper: a trunk's features, classified by a head of binary SVMs.

    Args:
        classes: class names by id.
        encoder: encoder name.
        features: channels of the trunk's full-resolution map.
        which: see :class:`models.pixel_heads.PixelFeatures`.
        head: see :class:`models.pixel_heads.PixelClassifier`.
        background: see :class:`lightning_modules.metrics.SegmentationScores`.

    Logs the scores of a parser, by the same confusion matrix, see :class:`lightning_modules.parsing.FaceParsing`.
    """

    def __init__(
        self,
        classes: Sequence[str],
        encoder: str,
        features: int,
        which: str,
        head: Mapping[str, Any] | None,
        background: str = "literature",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.model = PixelClassifier(encoder, features, which, len(classes), head)
        self.scores = SegmentationScores(classes, background=background)

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W), normalised -> logits (N, C, H, W)."""
        return self.model(image)

    def score(self, batch: dict[str, Any]) -> None:
        score_batch(self.scores, self(batch["image"]), batch)

    def log_scores(self, split: str) -> None:
        self.log_dict(self.scores.named(split))
