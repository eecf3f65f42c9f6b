"""SegFormer (Xie et al. 2021), a strong segmenter of today that the occlusion paper does not compare with.

Through segmentation-models-pytorch: a Mix Transformer and the all-MLP decoder, whose answer at a quarter of the size is
interpolated. A choice: the transformer's size follows the width, MiT-B2 (25 million parameters, as many as a ResNet-50)
as published and MiT-B0 (3.7 million) where less is asked for; random weights unless ImageNet's are asked for.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import Tensor, nn


class SegFormer(nn.Module):
    """SegFormer-B2, or B0 where ``width`` is below 64.

    Args:
        width: channels of the transformer's first stage; what is below 64 takes MiT-B0, whose stage has 32.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 32.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        network = smp.Segformer(encoder_of(width), encoder_weights=None, classes=1)
        self.encoder, self.decoder, self.head = network.encoder, network.decoder, network.segmentation_head

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.decoder(self.encoder(image)))


def encoder_of(width: int) -> str:
    """The transformer that a width stands for, by its name in segmentation-models-pytorch."""
    return "mit_b2" if width >= 64 else "mit_b0"
