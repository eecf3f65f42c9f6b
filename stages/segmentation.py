"""Stage ``segment``: occlusion segmentation with the occlusion paper's network or one of its comparators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from datamodules.layouts import AugmentedCelebA
from datamodules.layouts.augmented_celeba import MANIFEST
from engine.planning import LEFT_OUT
from engine.plugins import require
from engine.settings import PathText, Plugin, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from stages.building import TrainingStage, encoder_weights, hyperparameters, identity_of_weights, open_datamodule
from stages.groups import Augmentation, Optimizer, TrainingSettings

NETWORKS = (
    *("modified_unet", "base_unet", "map_module", "facial_mask_detector", "mask_then_classify"),
    *("unet_id", "maskplus", "yolo", "yolo_ultralytics", "ganmasker", "segformer"),
)
"""Networks for occlusion segmentation: Table 4 of the occlusion paper, and SegFormer."""

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule

    Network = str
else:
    Network = Literal[NETWORKS]

DETECTORS = ("maskplus", "yolo", "yolo_ultralytics")
"""Networks that detect each mask with a box."""
OWN_LOSS = ("map_module", *DETECTORS)
"""Networks without a pixel-wise loss."""
SEVERAL_LOSSES = ("mask_then_classify", "unet_id", *DETECTORS)
"""Networks trained with losses on more than their output."""
WITH_ENCODER = ("facial_mask_detector", "maskplus", "segformer")
"""Networks whose encoder has published weights."""
UNETS = NETWORKS[:2]
LOSSES = {"map_module": "adversarial", **dict.fromkeys(DETECTORS, "detection")}
UNET_ONLY = "network=modified_unet"


class SegmentAugmentation(Augmentation):
    """Augmentation of training images of occluded faces."""

    shift: float = setting(0.0, "largest shift, as a fraction of the side", ge=0, le=0.5)
    degrade: float = setting(0.0, "strength of blur, downsampling, noise and JPEG artefacts", ge=0, le=1)
    crop: float = setting(0.0, "probability of a close crop of the face; no effect without landmarks", ge=0, le=1)
    recolour: float = setting(0.0, "probability of colour augmentation of the occlusion, plain or printed", ge=0, le=1)


class SegmentOptimizer(Optimizer):
    """The optimiser of the occlusion paper."""

    name: Literal["sgd", "adam", "adamw"] = setting("adam", "update rule")
    lr: float = setting(2e-4, "peak learning rate", gt=0)
    beta1: float = setting(0.5, "of Adam", ge=0, le=0.9999, only="name!=sgd")


class SegmentSettings(TrainingSettings):
    """Occlusion segmentation."""

    batch_size: int = setting(8, "images in a batch, over all devices together", ge=1)
    epochs: int = setting(250, "number of epochs", ge=1)
    augmentation: SegmentAugmentation = Field(default_factory=SegmentAugmentation)
    optimizer: SegmentOptimizer = Field(default_factory=SegmentOptimizer)
    network: Network | Plugin | None = setting(
        "modified_unet", "set by model=<one of conf/model>; or your own by _target_, with logits (N, 1, H, W)"
    )
    width: int | None = setting(None, "channels of the first level; null: as published", ge=2, multiple_of=2)
    encoder_weights: PathText | None = setting(
        None, "null (random), imagenet, or a file; for facial_mask_detector, maskplus and segformer"
    )
    bottleneck_convs: Literal[1, 2] = setting(
        1, "convolutions of BN1 and BN2 each: 1 as in Table 1 and the parameter count, 2 as in the text", only=UNET_ONLY
    )
    kernel: int = setting(3, "side of the kernels of encoders and bottleneck", ge=1, only=UNET_ONLY)
    decoder_kernel: int = setting(3, "side of the decoders' kernels; 2 as in the text", ge=1, only=UNET_ONLY)
    count: Literal["all", "paper"] = setting(
        "all", "trained parameters; paper: attention and normalisation frozen, 17,657,825 parameters", only=UNET_ONLY
    )
    rho_lr: float = setting(
        10.0, "learning rate of batch-instance normalisation's rho, as a multiple of optimizer.lr", ge=0, only=UNET_ONLY
    )
    initialization: Literal["default", "xavier", "he", "normal"] = setting(
        "default", "initialisation of convolutions; normal has standard deviation 0.02"
    )
    lambda_dice: float = setting(
        0.0, "weight of a Dice term added to binary cross-entropy", ge=0, only="network!=" + "|".join(OWN_LOSS)
    )
    noise_kernel: int = setting(7, "kernel size of noise processing, in pixels at 128 px", ge=1)
    validate_every: int = setting(1, "epochs between validations", ge=1)
    on_the_fly: bool = setting(False, "render masks on the set's unmasked training photographs during training")
    folds: int | None = setting(None, "cross-validation: number of folds of the training faces; null: none", ge=2)
    fold: int = setting(0, "validation fold", ge=0, only="folds!=null")
    score_at: Literal["label", "input"] = setting(
        "input", "score at the size of the network's input (the paper), or of the mask"
    )


class Segmentation(TrainingStage):
    """Training of an occlusion segmenter."""

    name = "segment"
    version = 5
    settings = SegmentSettings
    reads = (
        "datamodule.dataset",
        "datamodule.image_size",
        "datamodule.layout",
        "datamodule.mask",
        "segment",
        "trainer",
    )

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        own = settings.segment
        if own.network is None:
            raise ConfigError(
                f"The model is a face parser (model.architecture={settings.model.architecture}); method=segment "
                f"trains an occlusion segmenter.\nIt must be model=<one of {', '.join(NETWORKS)}>."
            )
        if not isinstance(own.network, str):
            require(own.network, "segment.network")
        if settings.trainer.compile and own.network in SEVERAL_LOSSES:
            raise ConfigError(
                f"trainer.compile=true does not go with {own.network}, whose loss uses more than its output.\n"
                f"It must be trainer.compile=false."
            )
        if own.initialization != "default" and own.network not in UNETS:
            raise ConfigError(
                f"segment.initialization={own.initialization}: {own.network} uses the initialisation of its authors.\n"
                f"It must be default, or model=<one of {', '.join(UNETS)}>."
            )
        if own.encoder_weights is not None and own.network not in WITH_ENCODER:
            raise ConfigError(
                f"segment.encoder_weights={own.encoder_weights}: {own.network} has no encoder with published weights.\n"
                f"It must be null, or model=<one of {', '.join(WITH_ENCODER)}>."
            )
        dataset = settings.datamodule.dataset
        if own.on_the_fly and dataset != AugmentedCelebA.name:
            raise ConfigError(
                f"segment.on_the_fly=true with datamodule.dataset={dataset}, which has no rendered masks.\n"
                f"It must be false; or datamodule=augmented_celeba."
            )
        if own.folds is not None and own.fold >= own.folds:
            raise ConfigError(
                f"segment.fold={own.fold} with segment.folds={own.folds}.\nIt must be 0 to {own.folds - 1}."
            )

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        entering = identity_of_weights(run, "segment.encoder_weights", run.own.network, digests)
        if not run.layout.knows_faces:  # without landmarks crop has no effect
            entering["segment.augmentation.crop"] = LEFT_OUT
        return entering

    def extra_data(self, run: Run, digests: DigestCache) -> str | None:
        """With on_the_fly: digest of landmarks, templates and mask choices, which determine the rendered masks."""
        if not run.own.on_the_fly:
            return None
        from synthesis.masked_faces.config import VERSION, choices_of  # image libraries
        from synthesis.masks.templates import read_templates

        layout = run.layout
        assert isinstance(layout, AugmentedCelebA)  # noqa: S101 (for the type checker: checked above)
        choices = choices_of(layout.parameters())
        files = [(MANIFEST, layout.root / MANIFEST)]
        if choices.templates is not None:
            files.append(("masks.cfg", choices.templates / "masks.cfg"))
            for name, tilts in read_templates(choices.templates).items():
                files += [(f"template/{name}/{tilt}", template.file) for tilt, template in tilts.items()]
        mask_choices = asdict(choices) | {"templates": None}  # the content of templates enters, not their path
        return f"{VERSION} {digests.of_files(files)} {json.dumps(mask_choices, sort_keys=True)}"

    def data(self, run: Run) -> LightningDataModule:
        own: dict[str, Any] = {}
        if run.own.on_the_fly:
            from synthesis.masked_faces.on_the_fly import RandomMaskRenderer

            assert isinstance(run.layout, AugmentedCelebA)  # noqa: S101 (for the type checker: checked above)
            own["render_masks"] = RandomMaskRenderer.as_built(run.layout.parameters())
        return open_datamodule(run, fold=_fold(run), **own)

    def module(self, run: Run) -> LightningModule:
        from lightning_modules.occlusion_comparators import segmentation
        from models.comparators import published_encoder

        own = run.own
        encoder = published_encoder(own.network, own.width) if isinstance(own.network, str) else None
        if own.encoder_weights is not None and encoder is None:
            raise ConfigError(
                f"segment.encoder_weights={own.encoder_weights} does not fit segment.width={own.width}.\n"
                f"It must be segment.width=null, or segment.encoder_weights=null (random weights)."
            )
        names = (
            *("network", "width", "bottleneck_convs", "kernel", "decoder_kernel", "count", "initialization"),
            *("lambda_dice", "noise_kernel", "rho_lr"),
        )
        return segmentation(
            **{name: own[name] for name in names},
            **hyperparameters(run, _fold(run)),
            groups=sorted({group for sample in run.layout.samples("test") for group in sample.groups}),
            encoder_state=None if encoder is None else encoder_weights(run, "segment.encoder_weights", encoder),
        )

    def results(self, run: Run, network: Any) -> dict[str, Any]:
        from models.cost import flops, megabytes, milliseconds

        size = run.settings.datamodule.image_size
        return {
            "flops": flops(network, size),
            "size_mb": round(megabytes(network), 2),
            "latency_ms": round(milliseconds(network, size), 2),
        }

    def method_description(self, run: Run) -> dict[str, Any]:
        network = run.own.network
        named = network if isinstance(network, str) else network["_target_"]
        return {"loss": LOSSES.get(named, "bce"), "network": named}


def _fold(run: Run) -> tuple[int, int] | None:
    return None if run.own.folds is None else (run.own.fold, run.own.folds)
