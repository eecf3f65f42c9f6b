"""Mask-then-classify (Kurmann et al. 2021): a mask, and each pixel's offset from the centre of its instance.

From the original: an encoder-decoder that segments instances first and classifies them afterwards from the same
features. Here: one shared encoder; one decoder for the mask and one for the offset of each occluded pixel to the
centroid of its instance, trained with L1 on occluded pixels. Choices: blocks (:mod:`models.comparators.pyramid`); the
offsets' weight of 1, in fractions of the image's side; all occluded pixels of an image are one instance, since a face
has one mask. Left out: the classifier, since there is one class.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.comparators.pyramid import Contracting, Expanding, widths_of

OFFSET_WEIGHT = 1.0


class MaskThenClassify(nn.Module):
    """A shared encoder with two decoders; the prediction is the mask decoder's.

    Args:
        width: channels of the first level; each of four more doubles them.

    Shape: (N, 3, H, W) -> (N, 1, H, W) logits; H and W are multiples of 16.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = widths_of(width)
        self.encoder = Contracting(widths)
        self.mask_decoder, self.offset_decoder = Expanding(widths), Expanding(widths)
        self.mask_head = nn.Conv2d(width, 1, kernel_size=1)
        self.offset_head = nn.Conv2d(width, 2, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.mask_head(self.mask_decoder(self.encoder(image)))

    def training_loss(self, image: Tensor, occluded: Tensor, mask_loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The mask's loss and the offsets' L1; occluded (N, 1, H, W), 0 or 1."""
        maps = self.encoder(image)
        mask = self.mask_head(self.mask_decoder(maps))
        offset = self.offset_head(self.offset_decoder(maps)).float()  # [N, 2, H, W]
        error = (offset - offsets(occluded)).abs() * occluded
        return mask_loss(mask, occluded) + OFFSET_WEIGHT * error.sum() / (2 * occluded.sum()).clamp(min=1)


def offsets(occluded: Tensor) -> Tensor:
    """Offsets from each pixel to the centroid of the occluded pixels, as fractions of the image's sides.

    Shape: (N, 1, H, W) of 0 and 1 -> (N, 2, H, W), x and y; 0 for an image without occluded pixels.
    """
    height, width = occluded.shape[-2:]
    rows = torch.linspace(0.5 / height, 1 - 0.5 / height, height, device=occluded.device)
    columns = torch.linspace(0.5 / width, 1 - 0.5 / width, width, device=occluded.device)
    places = torch.stack([columns.expand(height, width), rows.view(-1, 1).expand(height, width)])  # [2, H, W]
    area = occluded.sum(dim=(2, 3), keepdim=True)  # [N, 1, 1, 1]
    centroid = (occluded * places).sum(dim=(2, 3), keepdim=True) / area.clamp(min=1)  # [N, 2, 1, 1]
    return (centroid - places) * (area > 0)
