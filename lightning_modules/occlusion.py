"""The occlusion segmenter: binary cross-entropy, noise processing, scores (sections 3.2 and 4.3, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from lightning_modules.annotation_scores import AnnotationScores
from lightning_modules.external import build_external_network, require_logits
from lightning_modules.mask_scores import MaskScores
from lightning_modules.scoring import ScoredModule
from models.comparators import COMPARATORS
from models.layers import BatchInstanceNorm2d, clamp_rho
from models.losses import IGNORE, mean_over_images, occlusion_loss
from models.noise_processing import opened, opening_kernel
from models.unet import BaseUNet, Count, ModifiedUNet

OCCLUDED = 1
"""Label of occluded pixels."""
POWER_ITERATIONS = 15
"""Steps of power iteration that torch does when it initialises spectral norm."""


class OcclusionSegmentation(ScoredModule):
    """Supervised training of an occlusion segmenter.

    Args:
        network: ``modified_unet``, ``base_unet`` or one of :data:`models.comparators.COMPARATORS`; or
            ``{_target_: ...}``, an external network, (N, 3, H, W) -> logits (N, 1, H, W).
        width: channels of its first level; None for the published number.
        bottleneck_convs: see :class:`models.unet.ModifiedUNet`, as for the next three; other networks ignore them.
        kernel: side of the kernels of encoders and bottleneck.
        decoder_kernel: side of the decoders' kernels.
        count: which parameters are trained.
        initialization: of convolutions: torch's ``default``, ``xavier``, ``he`` or ``normal`` (deviation 0.02).
        lambda_dice: see :func:`models.losses.occlusion_loss`.
        noise_kernel: side of the kernel of noise processing, in pixels at 128 px; it scales with the image.
        rho_lr: learning rate of batch-instance normalisation's rho, as a multiple of the others'.
        optimizer: see :class:`lightning_modules.optimization.Optimization`, as are the next two.
        schedule: likewise.
        steps: likewise.
        groups: groups of faces that are scored separately too.
        encoder_state: initial weights of the network's encoder, if it has a published one.

    Batches hold ``image`` and ``label``, 0 where the face is seen and 1 where it is occluded; see
    :mod:`datamodules.occlusion`. Logs ``train/loss``, per epoch ``train/accuracy`` (of networks without additional
    loss terms), ``val/loss`` and the scores of :class:`lightning_modules.mask_scores.MaskScores`, of raw predictions
    (``val/miou``) and after noise processing (``val/cleaned/miou``); in the test those of groups too. Batches without
    ``label`` hold ``occluder`` and ``groups``, see :mod:`datamodules.annotated`, and are scored by
    :class:`lightning_modules.annotation_scores.AnnotationScores`. Where a batch holds ``full_label``, logits are
    interpolated to its size before they are scored.
    """

    def __init__(
        self,
        network: str | dict[str, Any],
        width: int | None,
        bottleneck_convs: int,
        kernel: int,
        decoder_kernel: int,
        count: Count,
        initialization: str,
        lambda_dice: float,
        noise_kernel: int,
        rho_lr: float,
        optimizer: dict[str, Any],
        schedule: dict[str, Any],
        steps: int,
        groups: Sequence[str] = (),
        encoder_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder_state"], logger=False)
        self.model: nn.Module
        if isinstance(network, str):
            self.model = build_network(network, width, bottleneck_convs, kernel, decoder_kernel, count)
            initialize(self.model, initialization)
        else:
            self.model = build_external_network(network, "segment.network")
        if encoder_state is not None:
            self.model.get_submodule("encoder").load_state_dict(dict(encoder_state))
        self.scores = MaskScores(groups)
        self.cleaned = MaskScores()
        self.annotated, self.cleaned_annotated = AnnotationScores(groups), AnnotationScores()
        self.mean_loss = MeanMetric()

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, 3, H, W), normalised -> logits (N, 1, H, W) of "occluded"."""
        return self.model(image)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Binary cross-entropy over pixels that are not ignored; label (N, H, W)."""
        network = self.hparams["network"]
        if not isinstance(network, str):
            require_logits(logits, (len(label), 1, *label.shape[1:]), "segment.network", network["_target_"])
        occluded, valid = (label == OCCLUDED).unsqueeze(1), (label != IGNORE).unsqueeze(1)
        return occlusion_loss(logits, occluded.float(), self.hparams["lambda_dice"], valid)

    def training_loss(self, image: Tensor, label: Tensor) -> Tensor:
        """The loss of a training step: :meth:`loss` plus the network's additional terms."""
        occluded, valid = (label == OCCLUDED).unsqueeze(1), (label != IGNORE).unsqueeze(1)
        own = getattr(self.model, "training_loss", None)
        if own is not None:
            weight = self.hparams["lambda_dice"]
            return own(image, occluded.float(), lambda logits, mask: occlusion_loss(logits, mask, weight, valid))
        logits = self(image)
        loss = self.loss(logits, label)
        accuracy = (((logits > 0) == occluded) & valid).sum() / valid.sum()  # Figure 7 shows it next to validation's
        self.log("train/accuracy", accuracy, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(label))
        return loss

    def clean(self, occluded: Tensor) -> Tensor:
        """Noise processing (section 3.2) of masks (N, H, W), bool."""
        kernel = opening_kernel(occluded.shape[-1], self.hparams["noise_kernel"])
        return opened(occluded.unsqueeze(1), kernel).squeeze(1)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        loss = self.training_loss(batch["image"], batch["label"])
        self.log("train/loss", loss, batch_size=len(batch["id"]))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        clamp_rho(self.model)

    def score(self, batch: dict[str, Any]) -> None:
        logits = self(batch["image"])
        if "label" not in batch:
            occluded = (logits > 0).squeeze(1)
            self.annotated.update(occluded, batch["occluder"], batch["groups"])
            self.cleaned_annotated.update(self.clean(occluded), batch["occluder"], batch["groups"])
            return
        self.mean_loss.update(mean_over_images(self.loss, logits, batch["label"]), weight=len(batch["id"]))
        groups = batch.get("groups")
        if "full_label" not in batch:
            self._count((logits > 0).squeeze(1), batch["label"], groups)
            return
        for place, (single, label) in enumerate(zip(logits.float().split(1), batch["full_label"], strict=True)):
            full = F.interpolate(single, size=tuple(label.shape), mode="bilinear", align_corners=False)
            self._count((full > 0).squeeze(1), label.unsqueeze(0), None if groups is None else [groups[place]])

    def _count(self, occluded: Tensor, label: Tensor, groups: Sequence[Sequence[str]] | None) -> None:
        ground_truth, valid = label == OCCLUDED, label != IGNORE
        self.scores.update(occluded, ground_truth, groups, valid)
        self.cleaned.update(self.clean(occluded), ground_truth, valid=valid)

    def log_scores(self, split: str) -> None:
        if self.annotated.update_called:
            raw, cleaned = self.annotated.compute(), self.cleaned_annotated.compute()
        else:
            self.log(f"{split}/loss", self.mean_loss.compute())
            raw, cleaned = self.scores.compute(), self.cleaned.compute()
        shown = {name: value for name, value in raw.items() if split == "test" or "/" not in name}  # with groups
        self.log_dict({f"{split}/{name}": value for name, value in shown.items()})
        self.log_dict({f"{split}/cleaned/{name}": value for name, value in cleaned.items()})

    def trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        layers = (layer for layer in self.model.modules() if isinstance(layer, BatchInstanceNorm2d))
        mixing = [layer.rho for layer in layers if layer.rho.requires_grad]
        known = {id(rho) for rho in mixing}
        others = [p for p in self.trained_parameters() if id(p) not in known]
        if not mixing:
            return self.optimization(others)
        lr = self.hparams["rho_lr"] * self.hparams["optimizer"]["lr"]
        return self.optimization([{"params": others}, {"params": mixing, "lr": lr, "weight_decay": 0.0}])


def build_network(
    network: str, width: int | None, bottleneck_convs: int, kernel: int, decoder_kernel: int, count: Count
) -> nn.Module:
    """The network of a name, see :class:`OcclusionSegmentation`."""
    if network in COMPARATORS:
        return COMPARATORS[network]() if width is None else COMPARATORS[network](width=width)
    if network == "base_unet":
        return BaseUNet(base_width=width or 64)
    return ModifiedUNet(width or 32, bottleneck_convs, kernel, decoder_kernel, count)


@torch.no_grad()
def initialize(model: nn.Module, kind: str) -> None:
    """Re-initialise the weights of convolutions; ``default`` keeps torch's."""
    if kind == "default":
        return
    schemes = {
        "xavier": nn.init.xavier_uniform_,
        "he": lambda weight: nn.init.kaiming_normal_(weight, a=0.2),
        "normal": lambda weight: nn.init.normal_(weight, std=0.02),
    }
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            parametrized = getattr(layer, "parametrizations", None)  # spectral norm keeps the original weight there
            schemes[kind](layer.weight if parametrized is None else parametrized.weight.original)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if parametrized is not None:
                for _ in range(POWER_ITERATIONS):  # the singular vectors are still those of the previous weights
                    layer.weight  # noqa: B018 (in training mode each access is a step of power iteration)
