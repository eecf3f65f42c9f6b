"""Stage 2: fine-tune the trunk for face parsing with a new FP decoder (Fine-tuning stage, Equations 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import MeanMetric

from lightning_modules.external import build_external_loss, build_external_network, require_logits, require_scalar
from lightning_modules.metrics import SegmentationScores
from lightning_modules.scoring import ScoredModule
from models.averaging import WeightAverage
from models.losses import mean_over_images, parsing_loss
from models.parser import FaceParser

FROZEN = {"all": (), "decoder": ("trunk.encoder",), "head": ("trunk",)}
"""Value of ``trained`` -> submodules that are frozen."""


class FaceParsing(ScoredModule):
    """Supervised training of the face parser; baseline and fine-tuning differ only in the initial weights.

    Args:
        classes: class names by id.
        encoder: encoder name.
        features: channels of the trunk's full-resolution map.
        loss: see :func:`models.losses.parsing_loss`, as for the next four; or ``{_target_: ...}``, an
            external function (logits (N, C, H, W), label (N, H, W) with 255 to ignore) -> scalar.
        lambda_ce: weight of the cross-entropy term.
        lambda_dice: weight of the Dice term.
        alpha: focal weight of the true class.
        gamma: focal exponent.
        optimizer: see :class:`lightning_modules.optimization.Optimization`, as are the next two.
        schedule: likewise.
        steps: likewise.
        encoder_state: initial weights of the encoder.
        trained: what is trained: ``all``, the ``decoder`` (UNet++'s, and the head) or the ``head`` alone. Frozen parts
            keep their weights and the statistics of their normalisation.
        trunk_lr: learning rate of the trunk, as a multiple of the head's.
        frozen_epochs: the trunk is frozen, weights and statistics, for this number of epochs at the start.
        statistics: of the trunk's batch normalisation: ``adapt`` to the labelled faces, or ``keep`` as pre-trained.
        architecture: see :class:`models.parser.Trunk`.
        network: ``{_target_: ...}``, an external parser, built with ``classes``: (N, 3, H, W) -> logits (N, C, H, W).
        background: whether it enters the means, see :class:`lightning_modules.metrics.SegmentationScores`.
        ema_decay: decay of an average of the weights, see :class:`models.averaging.WeightAverage`, which is then what
            is validated, tested and kept; None: the weights of the last step are.

    Logs ``train/loss``, ``val/loss`` and the scores of :class:`lightning_modules.metrics.SegmentationScores`, with
    the ground truth's pixels ``test/count/<class>`` in the test, exact up to 2^24. Where a batch holds ``full_label``,
    logits are interpolated to its size before they are scored.
    """

    def __init__(
        self,
        classes: Sequence[str],
        encoder: str,
        features: int,
        loss: str | dict[str, Any],
        lambda_ce: float,
        lambda_dice: float,
        alpha: float,
        gamma: float,
        optimizer: dict[str, Any],
        schedule: dict[str, Any],
        steps: int,
        encoder_state: dict[str, Tensor] | None = None,
        trained: str = "all",
        trunk_lr: float = 1.0,
        frozen_epochs: int = 0,
        statistics: str = "adapt",
        background: str = "literature",
        architecture: str | None = "unetplusplus",
        network: dict[str, Any] | None = None,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder_state"], logger=False)
        if network is None:
            self.model = FaceParser(len(classes), encoder, features, encoder_state, str(architecture))
        else:
            self.model = build_external_network(network, "model.network", classes=len(classes))
        self.average: WeightAverage | None = None
        self.own_loss = None if isinstance(loss, str) else build_external_loss(loss, "finetune.loss")
        self.frozen = [self.model.get_submodule(name).requires_grad_(False).eval() for name in FROZEN[trained]]
        self.scores = SegmentationScores(classes, background=background)
        self.mean_loss = MeanMetric()  # Lightning's mean over processes rounds the mean number of faces

    def train(self, mode: bool = True) -> FaceParsing:
        super().train(mode)
        frozen = [*self.frozen, self.model.trunk] if self._trunk_is_frozen() else self.frozen
        for module in frozen:
            module.eval()  # keeps the statistics of its normalisation
        if self.hparams["statistics"] == "keep" and self.hparams["network"] is None:
            for module in self.model.trunk.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.hparams["ema_decay"] is not None:
            self.average = WeightAverage(self.model, self.hparams["ema_decay"])
            if self.model._compiled_call_impl is not None:
                self.average.network.compile()

    def on_fit_end(self) -> None:
        self.average = None  # what is kept of it is in best.ckpt

    def optimizer_step(self, *args: Any, **arguments: Any) -> None:
        super().optimizer_step(*args, **arguments)
        if self.average is not None:
            self.average.update(self.model)

    def tested_state_dict(self) -> dict[str, Tensor]:
        """The weights that are validated, tested and kept, as a module without an average has them."""
        state = self.state_dict()
        if self.average is None:
            return state
        own = {name: value for name, value in state.items() if not name.startswith("average.")}
        return own | {f"model.{name}": value for name, value in self.average.network.state_dict().items()}

    def _trunk_is_frozen(self) -> bool:
        return self._trainer is not None and self.current_epoch < self.hparams["frozen_epochs"]

    def on_train_epoch_start(self) -> None:
        self.train()  # unfreezes the trunk after frozen_epochs

    def on_before_optimizer_step(self, _: Any) -> None:
        if self._trunk_is_frozen():
            for parameter in self.model.trunk.parameters():
                parameter.grad = None  # not requires_grad: DDP expects a gradient of every parameter

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W), normalised -> logits (N, C, H, W); outside training of the average, if there is one."""
        return self.model(image) if self.training or self.average is None else self.average(image)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Equations 2 and 3, or the external loss."""
        network = self.hparams["network"]
        if network is not None:
            shape = (len(label), len(self.hparams["classes"]), *label.shape[1:])
            require_logits(logits, shape, "model.network", network["_target_"])
        if self.own_loss is not None:
            loss = self.own_loss(logits, label)
            require_scalar(loss, "finetune.loss", self.hparams["loss"]["_target_"])
            return loss
        names = ("lambda_ce", "lambda_dice", "alpha", "gamma")
        return parsing_loss(logits, label, self.hparams["loss"], **{name: self.hparams[name] for name in names})

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        loss = self.loss(self(batch["image"]), batch["label"])
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def score(self, batch: dict[str, Any]) -> None:
        logits = self(batch["image"])
        self.mean_loss.update(mean_over_images(self.loss, logits, batch["label"]), weight=len(batch["id"]))
        score_batch(self.scores, logits, batch)

    def log_scores(self, split: str) -> None:
        self.log(f"{split}/loss", self.mean_loss.compute())
        self.log_dict(self.scores.named(split))

    def configure_optimizers(self) -> Any:
        if self.hparams["network"] is not None:
            return self.optimization(self.model.parameters())
        parts = {module: [p for p in module.parameters() if p.requires_grad] for module in self.model.children()}
        trunk, head = parts[self.model.trunk], parts[self.model.head]
        if self.hparams["trunk_lr"] == 1.0 or not trunk:
            return self.optimization([*trunk, *head])
        slow = {"params": trunk, "lr": self.hparams["trunk_lr"] * self.hparams["optimizer"]["lr"]}
        return self.optimization([{"params": head}, slow])


def score_batch(scores: SegmentationScores, logits: Tensor, batch: dict[str, Any]) -> None:
    """Score a batch's logits (N, C, H, W), at the size of each label map where the batch holds ``full_label``."""
    if "full_label" not in batch:
        scores.update(logits.argmax(dim=1), batch["label"])
        return
    for single, label in zip(logits.split(1), batch["full_label"], strict=True):
        full = F.interpolate(single.float(), size=label.shape[-2:], mode="bilinear", align_corners=False)
        scores.update(full[0].argmax(dim=0), label)
