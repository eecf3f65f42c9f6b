"""The face parser: one trunk, two one-convolution decoders (Architecture details, Figures 2 and 3).

The paper's "encoder" maps 3 x H x W to n x H x W, and both decoders "use only one convolution layer". That is
UNet++ on a ResNet-50 up to its 16-channel full-resolution map (the paper shows 16 x 512 x 512 activation maps), here
called the *trunk*, followed by a *head* of one 3 x 3 convolution with 3 output channels for reconstruction (R decoder)
or one per class for parsing (FP decoder). The next stage replaces the head and keeps the trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

OWN_ARGUMENTS: dict[str, dict[str, object]] = {"dpt": {"dynamic_img_size": True}}
"""Arguments that an architecture needs to take images of any size."""
TransferPart = Literal["trunk", "encoder", "all"]


class Trunk(nn.Module):
    """UNet++, or any other architecture of segmentation-models-pytorch, without its segmentation head.

    Args:
        encoder: name of an encoder of segmentation-models-pytorch, such as ``resnet50``.
        features: channels of UNet++'s full-resolution map; other architectures have fixed ones.
        architecture: name as :func:`segmentation_models_pytorch.create_model` takes it.

    Shape: (N, 3, H, W) float -> (N, ``channels``, H / r, W / r) float, r is 1 for UNets, 4 for
    DeepLabV3+ and SegFormer; H and W are multiples of 32.
    """

    def __init__(self, encoder: str = "resnet50", features: int = 16, architecture: str = "unetplusplus") -> None:
        super().__init__()
        own = OWN_ARGUMENTS.get(architecture, {})
        if architecture == "unetplusplus":
            own = {"decoder_channels": (256, 128, 64, 32, features)}
        network = smp.create_model(architecture, encoder, encoder_weights=None, in_channels=3, classes=1, **own)
        self.encoder = network.encoder
        self.decoder = network.decoder
        head = network.segmentation_head
        self.channels: int = next(part for part in head.modules() if isinstance(part, nn.Conv2d)).in_channels

    def forward(self, image: Tensor) -> Tensor:
        pyramid = self.encoder(image)  # [N, 3, H, W], [N, C1, H/2, W/2] ... [N, C5, H/32, W/32]
        if isinstance(pyramid, tuple):  # DPT: with the class token of each level
            return self.decoder(*pyramid)
        return self.decoder(pyramid)  # [N, channels, H / r, W / r]


class FaceParser(nn.Module):
    """A trunk and a head of one convolution.

    Args:
        out_channels: 3 to reconstruct an image, the number of classes to parse a face.
        encoder: encoder name, see :class:`Trunk`.
        features: channels of the trunk's full-resolution map (n in the paper).
        encoder_state: weights of the encoder to start from (such as ImageNet's), or None for random ones.
        architecture: see :class:`Trunk`; logits at a lower resolution are interpolated.

    Shape: (N, 3, H, W) normalised image -> (N, out_channels, H, W) pixels or logits.
    """

    def __init__(
        self,
        out_channels: int,
        encoder: str = "resnet50",
        features: int = 16,
        encoder_state: Mapping[str, Tensor] | None = None,
        architecture: str = "unetplusplus",
    ) -> None:
        super().__init__()
        self.trunk = Trunk(encoder, features, architecture)
        self.head = nn.Conv2d(self.trunk.channels, out_channels, kernel_size=3, padding=1)
        if encoder_state is not None:
            self.trunk.encoder.load_state_dict(dict(encoder_state))

    def forward(self, image: Tensor) -> Tensor:
        logits = self.head(self.trunk(image))
        if logits.shape[-2:] == image.shape[-2:]:
            return logits
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


def transfer(target: nn.Module, trained: Mapping[str, Tensor], part: TransferPart = "trunk") -> str:
    """Copy the pre-trained part of ``trained`` into ``target``; the head is copied only with ``part="all"``.

    The paper fine-tunes "the same encoder". Read as all of UNet++ that is ``part="trunk"``; read as UNet++'s own
    encoder, the ResNet, it is ``part="encoder"``, and the UNet++ decoder is re-initialised. Between parsers of the
    same classes it can be ``part="all"``.

    Args:
        target: the network to fine-tune, with the names of a :class:`FaceParser`; changed in place.
        trained: state dictionary of a pre-trained one.
        part: which tensors are copied.

    Returns:
        how many tensors matched, for the log.

    Raises:
        ValueError: unless every tensor of the part is present on both sides in the same shape. Nothing is copied then.
    """
    prefix = {"all": "", "trunk": "trunk.", "encoder": "trunk.encoder."}[part]
    source = {key: value for key, value in trained.items() if key.startswith(prefix)}
    own = {key: value for key, value in target.state_dict().items() if key.startswith(prefix)}
    shared = source.keys() & own.keys()
    kinds = {key for key in shared if source[key].is_floating_point() == own[key].is_floating_point()}
    matched = {key for key in kinds if source[key].shape == own[key].shape}
    unfit = {
        "missing": sorted(own.keys() - shared),
        "unexpected": sorted(source.keys() - shared),
        "of another shape": sorted(kinds - matched),
    }
    if shared != kinds:
        unfit["of another kind of number"] = sorted(shared - kinds)
    report = f"{len(matched)} tensors matched"
    for kind, keys in unfit.items():
        examples = f" ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})" if keys else ""
        report += f", {len(keys)} {kind}{examples}"
    if not matched or any(unfit.values()):
        raise ValueError(f"the pre-trained {part} does not fit this network: {report}")
    with torch.no_grad():
        for key in matched:
            own[key].copy_(source[key])
    return report
