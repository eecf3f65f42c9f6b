"""Self-training with an averaged teacher: learn from few labelled and many unlabelled faces.

Mean teacher (Tarvainen and Valpola 2017) with the weak and strong views of FixMatch (Sohn et al. 2020) and UniMatch
(Yang et al. 2023): the teacher predicts the weak view of an unlabelled face, the student learns to predict the same in
strong views. A weak view has the geometry that all views share, so pseudo-labels need no warp. After each step of the
student the teacher follows it (:meth:`lightning_modules.parsing.FaceParsing.optimizer_step`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datamodules.strong_views import StrongView, strong_view
from lightning_modules.parsing import FaceParsing
from lightning_modules.pseudo_labels import PseudoLabelWatch
from models.losses import IGNORE


class SelfTraining(FaceParsing):
    """Self-training of the face parser; the teacher is what is validated, tested and kept.

    Args:
        ema_decay: of the teacher, see :class:`models.averaging.WeightAverage`.
        threshold: least confidence of a pseudo-label, 0..1; pixels below it are ignored.
        weight: of the unlabelled loss, after its ramp.
        wait: fraction of the steps without an unlabelled loss, at the start.
        ramp: fraction of the steps over which its weight then grows from 0.
        views: strong views of each unlabelled image; their losses are averaged.
        cutmix: probability of CutMix for each strong view.
        parsing: arguments of :class:`lightning_modules.parsing.FaceParsing`.

    Batches: ``image``, ``label`` and ``unlabelled``, see :class:`datamodules.self_training.SelfTrainingDataModule`.

    Logs next to :class:`lightning_modules.parsing.FaceParsing` ``train/supervised``, ``train/consistency``,
    ``train/weight``, ``train/confidence`` (the teacher's mean) and ``train/confident`` (the share of pixels above the
    threshold); at the end of an epoch each class's share of the labels and of the pseudo-labels, see
    :class:`lightning_modules.pseudo_labels.PseudoLabelWatch`.
    """

    def __init__(
        self,
        *,
        ema_decay: float,
        threshold: float,
        weight: float,
        wait: float,
        ramp: float,
        views: int,
        cutmix: float,
        **parsing: Any,
    ) -> None:
        super().__init__(ema_decay=ema_decay, **parsing)
        self.watch = PseudoLabelWatch(self.hparams["classes"])

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        image, label = batch["image"], batch["label"]  # [B, 3, H, W], [B, H, W]
        weak, outside = batch["unlabelled"]["image"], batch["unlabelled"]["outside"]  # [U, 3, H, W], [U, H, W]
        weight = self.unlabelled_weight(self.global_step)
        if weight == 0:
            loss = self.loss(self(image), label)
            self.watch.count(label, None)
            return self._logged(batch, loss, {"supervised": loss, "weight": weight})

        pseudo, confidence = self.teach(weak, outside)  # [U, H, W], [U, H, W]
        views = [strong_view(weak, pseudo, confidence, self.hparams["cutmix"]) for _ in range(self.hparams["views"])]
        logits = self(torch.cat([image, *(view.image for view in views)]))  # [B + V U, C, H, W]
        labelled, *strong = logits.split([len(image), *[len(weak)] * len(views)])  # [B, C, H, W], V times [U, C, H, W]
        supervised = self.loss(labelled, label)
        losses = [self.consistency(student, view) for student, view in zip(strong, views, strict=True)]
        consistency = torch.stack(losses).mean()
        loss = supervised + weight * consistency

        valid = pseudo != IGNORE
        confident = valid & (confidence >= self.hparams["threshold"])
        self.watch.count(label, pseudo.where(confident, IGNORE))
        parts = {"supervised": supervised, "consistency": consistency, "weight": weight}
        shares = {"confidence": confidence[valid].mean(), "confident": confident.sum() / valid.sum()}
        return self._logged(batch, loss, parts | shares)

    def unlabelled_weight(self, step: int) -> float:
        """Weight of the unlabelled loss at an optimiser step: 0 for the first steps, then a linear ramp."""
        steps = self.hparams["steps"]
        waiting, rising = round(self.hparams["wait"] * steps), max(1, round(self.hparams["ramp"] * steps))
        return self.hparams["weight"] * min(1.0, max(0.0, (step - waiting) / rising))

    @torch.no_grad()
    def teach(self, weak: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's pseudo-labels of weak views (U, 3, H, W), and its confidence, both (U, H, W).

        Pixels outside the image (U, H, W) are ignored.
        """
        assert self.average is not None  # noqa: S101 (for the type checker: setup has made it)
        probability = self.average(weak).float().softmax(dim=1)  # [U, C, H, W]
        confidence, pseudo = probability.max(dim=1)
        return pseudo.masked_fill(outside, IGNORE), confidence

    def consistency(self, logits: Tensor, view: StrongView) -> Tensor:
        """The parsing loss of the student's logits (U, C, H, W) of a strong view, times the share of confident pixels,
        which is FixMatch's mean over all pixels."""
        valid = view.label != IGNORE
        confident = valid & (view.confidence >= self.hparams["threshold"])
        if not confident.any():
            return 0 * logits.sum()
        return self.loss(logits, view.label.where(confident, IGNORE)) * confident.sum() / valid.sum()

    def _logged(self, batch: dict[str, Any], loss: Tensor, parts: dict[str, Any]) -> Tensor:
        size = len(batch["id"])
        self.log("train/loss", loss, batch_size=size)
        self.log_dict({f"train/{name}": value for name, value in parts.items()}, batch_size=size)
        if self.trainer.is_last_batch:
            trusted = parts["weight"] == self.hparams["weight"] > 0
            self.log_dict(self.watch.end_epoch(trusted), batch_size=size)
        return loss

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.watch.start_epoch()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.watch.validated(float(self.scores.compute()["miou"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["watch"] = self.watch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.watch.load_state_dict(checkpoint["watch"])
