"""Stage ``segment``: segment what occludes a face, by the occlusion paper's network or one of its comparators."""

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
from engine.settings import Plugin, setting
from engine.stage import Run
from foundation.digests import DigestCache
from foundation.errors import ConfigError
from stages.building import (
    TrainingStage,
    encoder_weights,
    hyperparameters,
    identity_of_weights,
    open_datamodule,
    total_steps,
)
from stages.groups import Augmentation, Optimizer, TrainingSettings

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule

NETWORKS = (
    *("modified_unet", "base_unet", "map_module", "facial_mask_detector", "mask_then_classify"),
    *("unet_id", "maskplus", "yolo", "yolo_ultralytics", "ganmasker", "segformer"),
)
"""Networks that segment occlusions: the occlusion paper's Table 4, and SegFormer."""
DETECTORS = ("maskplus", "yolo", "yolo_ultralytics")
"""Those that detect each mask in its box."""
OWN_LOSS = ("map_module", *DETECTORS)
"""Those that are not trained pixel by pixel."""
LEARNS_MORE = ("mask_then_classify", "unet_id", *DETECTORS)
"""Those whose training is more than the loss of their output."""
WITH_ENCODER = ("facial_mask_detector", "maskplus", "segformer")
"""Those whose encoder has published weights."""
UNETS = NETWORKS[:2]
LOSSES = {"map_module": "adversarial", **dict.fromkeys(DETECTORS, "detection")}
OF_UNET = "network=modified_unet"


class SegmentAugmentation(Augmentation):
    """How training images of occluded faces are changed."""

    shift: float = setting(0.0, "fraction of the side", ge=0, le=0.5)
    degrade: float = setting(0.0, "strength of blur, coarse resolution, grain, JPEG artefacts", ge=0, le=1)
    crop: float = setting(
        0.0, "probability of a close crop of the face; without effect where the data has no landmarks", ge=0, le=1
    )
    recolour: float = setting(0.0, "probability of a recoloured occlusion, plain or printed", ge=0, le=1)


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
    network: (
        Literal[
            "modified_unet",
            "base_unet",
            "map_module",
            "facial_mask_detector",
            "mask_then_classify",
            "unet_id",
            "maskplus",
            "yolo",
            "yolo_ultralytics",
            "ganmasker",
            "segformer",
        ]
        | Plugin
        | None
    ) = setting(
        "modified_unet", "set by model=<one of conf/model>; or your own by _target_, giving logits (N, 1, H, W)"
    )
    width: int | None = setting(None, "channels of the first level; null: as published", ge=2, multiple_of=2)
    encoder_weights: str | None = setting(
        None, "null (random), imagenet, or a file, of facial_mask_detector, maskplus and segformer"
    )
    bottleneck_convs: Literal[1, 2] = setting(
        1, "convolutions of BN1 and BN2 each: 1 as Table 1 and the count of parameters, 2 as the text", only=OF_UNET
    )
    kernel: int = setting(3, "side of the kernels of encoders and bottleneck", ge=1, only=OF_UNET)
    decoder_kernel: int = setting(3, "side of the decoders' kernels; 2 is the text's", ge=1, only=OF_UNET)
    count: Literal["all", "paper"] = setting(
        "all", "what is trained; paper: attention and normalisation frozen, 17,657,825 parameters", only=OF_UNET
    )
    rho_lr: float = setting(
        10.0, "learning rate of batch-instance normalisation's rho, as a multiple of optimizer.lr", ge=0, only=OF_UNET
    )
    initialization: Literal["default", "xavier", "he", "normal"] = setting(
        "default", "of convolutions; normal has deviation 0.02"
    )
    lambda_dice: float = setting(
        0.0, "weight of a Dice term added to binary cross-entropy", ge=0, only="network!=" + "|".join(OWN_LOSS)
    )
    noise_kernel: int = setting(7, "of noise processing, in pixels at 128 px", ge=1)
    validate_every: int = setting(1, "epochs between validations", ge=1)
    on_the_fly: bool = setting(False, "render training masks during training, on the photographs of the set")
    folds: int | None = setting(None, "cross-validation: validate on one of so many parts of the training faces", ge=2)
    fold: int = setting(0, "which one", ge=0, only="folds!=null")
    score_at: Literal["label", "input"] = setting(
        "input", "score at the network's input size (the paper), or the mask's"
    )


class Segmentation(TrainingStage):
    """Training of an occlusion segmenter."""

    name = "segment"
    version = 5
    settings = SegmentSettings
    reads = ("datamodule.dataset", "datamodule.image_size", "datamodule.layout", "segment", "trainer")

    def check(self, settings: Any, config: Mapping[str, Any]) -> None:
        del config
        own = settings.segment
        if own.network is None:
            raise ConfigError(
                f"The model chosen parses faces (model.architecture={settings.model.architecture}), method=segment "
                f"trains an occlusion segmenter.\nIt must be model=<one of {', '.join(NETWORKS)}>."
            )
        if not isinstance(own.network, str):
            require(own.network, "segment.network")
        if settings.trainer.compile and own.network in LEARNS_MORE:
            raise ConfigError(
                f"trainer.compile=true compiles the output of a network, and {own.network} is trained by more.\n"
                f"It must be trainer.compile=false there."
            )
        if own.initialization != "default" and own.network not in UNETS:
            raise ConfigError(
                f"segment.initialization={own.initialization}: {own.network} starts as its authors have it.\n"
                f"It must be default there, or model=<one of {', '.join(UNETS)}>."
            )
        if own.encoder_weights is not None and own.network not in WITH_ENCODER:
            raise ConfigError(
                f"segment.encoder_weights={own.encoder_weights}: {own.network} has no encoder of a published kind.\n"
                f"It must be null there, or model=<one of {', '.join(WITH_ENCODER)}>."
            )
        dataset = settings.datamodule.dataset
        if own.on_the_fly and dataset != AugmentedCelebA.name:
            raise ConfigError(
                f"segment.on_the_fly=true with datamodule.dataset={dataset}, whose masks this project did not render.\n"
                f"It must be false there; or datamodule=augmented_celeba."
            )
        if own.folds is not None and own.fold >= own.folds:
            raise ConfigError(
                f"segment.fold={own.fold} with segment.folds={own.folds}.\nIt must be 0 to {own.folds - 1}."
            )

    def identity(self, run: Run, digests: DigestCache) -> dict[str, Any]:
        entering = identity_of_weights(run, "segment.encoder_weights", run.own.network, digests)
        if not run.layout.knows_faces:  # there is no face to crop to
            entering["segment.augmentation.crop"] = LEFT_OUT
        return entering

    def extra_data(self, run: Run, digests: DigestCache) -> str | None:
        """What decides the masks that are rendered during training: landmarks, templates, and what may be worn."""
        if not run.own.on_the_fly:
            return None
        from synthesis.masked_faces.config import VERSION, choices_of  # image libraries
        from synthesis.masks.templates import read_templates

        layout = run.layout
        assert isinstance(layout, AugmentedCelebA)  # noqa: S101 (for the type checker: refused elsewhere)
        choices = choices_of(layout.parameters())
        files = [(MANIFEST, layout.root / MANIFEST)]
        if choices.templates is not None:
            files.append(("masks.cfg", choices.templates / "masks.cfg"))
            for name, tilts in read_templates(choices.templates).items():
                files += [(f"template/{name}/{tilt}", template.file) for tilt, template in tilts.items()]
        worn = asdict(choices) | {"templates": None}  # what they hold, not where they lie
        return f"{VERSION} {digests.of_files(files)} {json.dumps(worn, sort_keys=True)}"

    def data(self, run: Run) -> LightningDataModule:
        own: dict[str, Any] = {}
        if run.own.on_the_fly:
            from synthesis.masked_faces.on_the_fly import RandomMaskRenderer

            assert isinstance(run.layout, AugmentedCelebA)  # noqa: S101 (for the type checker: refused elsewhere)
            own["render_masks"] = RandomMaskRenderer.as_built(run.layout.parameters())
        return open_datamodule(run, fold=_fold(run), **own)

    def module(self, run: Run) -> LightningModule:
        from lightning_modules.occlusion_comparators import segmentation
        from models.comparators import published_encoder

        own = run.own
        names = (
            *("network", "width", "bottleneck_convs", "kernel", "decoder_kernel", "count", "initialization"),
            *("lambda_dice", "noise_kernel", "rho_lr"),
        )
        encoder = published_encoder(own.network, own.width) if isinstance(own.network, str) else None
        if own.encoder_weights is not None and encoder is None:
            raise ConfigError(
                f"segment.encoder_weights={own.encoder_weights} fits no {own.network} of segment.width={own.width}.\n"
                f"It must be segment.width=null, or segment.encoder_weights=null (random weights)."
            )
        return segmentation(
            **{name: own[name] for name in names},
            **hyperparameters(run),
            steps=total_steps(run, _fold(run)),
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
