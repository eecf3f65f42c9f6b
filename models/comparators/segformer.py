"""SegFormer (Xie et al. 2021), a strong recent segmenter that the occlusion paper does not compare with.

Through segmentation-models-pytorch: a Mix Transformer and the all-MLP decoder, whose logits at 1/4 of the size are
interpolated. Choices: the width selects the transformer, MiT-B2 (25 million parameters, as many as a ResNet-50) as
published or MiT-B0 (3.7 million) for smaller widths; random weights unless ImageNet's are configured.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn


class SegFormer(nn.Module):
    """SegFormer-B2, or B0 where ``width`` is below 64.

    Args:
        width: channels of the transformer's first stage; below 64 it is MiT-B0, whose first stage has 32.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        network = smp.Segformer(encoder_of(width), encoder_weights=None, classes=1)
        self.encoder, self.decoder, self.head = network.encoder, network.decoder, network.segmentation_head

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(image)))


def encoder_of(width: int) -> str:
    """The transformer for a width, by its name in segmentation-models-pytorch."""
    return "mit_b2" if width >= 64 else "mit_b0"
