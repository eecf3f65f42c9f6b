"""Strong views of a batch for consistency training (FixMatch, UniMatch): colours, blur and CutMix, but no geometry.

Random numbers come from torch's generator of the CPU, which the training seeds at each step
(:class:`callbacks.step_seed.StepSeed`): a resumed run repeats them, on any device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.transforms import MEAN, STD

JITTER, BRIGHTNESS, HUE = 0.8, 0.5, 0.25
"""Probability of colour jitter; largest change of brightness, contrast and saturation; of the hue, in turns."""
GREY, BLUR = 0.2, 0.5
"""Probabilities of a grey and of a blurred image."""
SIGMA = (0.1, 2.0)
"""Smallest and largest standard deviation of the blur, in pixels of an image with a side of 320 px."""
AREA, ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)
"""Smallest and largest area of a CutMix box, as a fraction of the image, and its height by its width."""
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class StrongView:
    """What the student sees, and what it must predict there.

    Args:
        image: (N, 3, H, W) normalised images.
        label: (N, H, W) pseudo-labels, pasted like the images.
        confidence: (N, H, W) the teacher's confidence, pasted likewise.
    """

    image: Tensor
    label: Tensor
    confidence: Tensor


def strong_view(image: Tensor, label: Tensor, confidence: Tensor, cutmix: float = 0.5) -> StrongView:
    """A strong view of weak views and of the teacher's predictions of them.

    Args:
        image: (N, 3, H, W) weak views, normalised.
        label: (N, H, W) class ids.
        confidence: (N, H, W).
        cutmix: probability of CutMix for each image.
    """
    strong = photometric(image)
    height, width = image.shape[-2:]
    inside = cutmix_boxes(len(image), height, width, cutmix).to(image.device)  # [N, H, W]
    return StrongView(
        paste(strong, inside.unsqueeze(1)),
        paste(label, inside),
        paste(confidence, inside),
    )


def paste(values: Tensor, inside: Tensor) -> Tensor:
    """Each sample with the pixels of its partner in the reversed batch inside its box.

    Args:
        values: (N, ...).
        inside: bool, of a shape that expands to that of ``values``.
    """
    return torch.where(inside, values.flip(0), values)


def cutmix_boxes(count: int, height: int, width: int, probability: float) -> Tensor:
    """Random boxes as masks (N, H, W), bool: an empty one with 1 - ``probability``; every box lies in the image."""
    boxes = torch.zeros(count, height, width, dtype=torch.bool)
    for box in boxes:
        happens, size, shape, down, across = torch.rand(5).tolist()
        if happens >= probability:
            continue
        area = AREA[0] + size * (AREA[1] - AREA[0])
        low, high = (math.log(side) for side in (max(ASPECT[0], area), min(ASPECT[1], 1 / area)))  # such that it fits
        aspect = math.exp(low + shape * (high - low))
        rows = min(height, max(1, round(height * math.sqrt(area * aspect))))
        columns = min(width, max(1, round(width * math.sqrt(area / aspect))))
        top, left = round(down * (height - rows)), round(across * (width - columns))
        box[top : top + rows, left : left + columns] = True
    return boxes


def photometric(image: Tensor) -> Tensor:
    """Colour jitter, grey and blur, each by chance for each image: (N, 3, H, W), normalised, to the same."""
    mean, deviation = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = (image.float() * deviation + mean).clamp(0, 1)
    pixels = jitter(pixels)
    pixels = _chosen(GREY, luminance(pixels).expand_as(pixels), pixels)
    sigma = _uniform(len(image), *SIGMA) * max(image.shape[-2:]) / 320
    pixels = _chosen(BLUR, blur(pixels, sigma), pixels)
    return ((pixels - mean) / deviation).to(image.dtype)


def jitter(pixels: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue of images (N, 3, H, W) with values 0..1, by chance for each image."""
    count, device = len(pixels), pixels.device
    brightness, contrast, saturation = (
        _uniform(count, 1 - BRIGHTNESS, 1 + BRIGHTNESS).to(device).view(-1, 1, 1, 1) for _ in range(3)
    )
    changed = (pixels * brightness).clamp(0, 1)
    average = luminance(changed).mean(dim=(2, 3), keepdim=True)
    changed = (average + contrast * (changed - average)).clamp(0, 1)
    grey = luminance(changed)
    changed = (grey + saturation * (changed - grey)).clamp(0, 1)
    changed = turn_hue(changed, _uniform(count, -HUE, HUE))
    return _chosen(JITTER, changed, pixels)


def luminance(pixels: Tensor) -> Tensor:
    """RGB (N, 3, H, W) -> (N, 1, H, W)."""
    return (pixels * torch.tensor(LUMA, device=pixels.device).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def turn_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of images (N, 3, H, W) by a number of turns (N,): a rotation of the colours about grey in YIQ, which
    keeps the luminance."""
    to_yiq = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    angle = 2 * math.pi * turns
    rotation = torch.eye(3).repeat(len(turns), 1, 1)
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2], rotation[:, 2, 1] = -angle.sin(), angle.sin()
    matrix = torch.linalg.inv(to_yiq) @ rotation @ to_yiq  # [N, 3, 3]
    return torch.einsum("nij,njhw->nihw", matrix.to(pixels.device), pixels).clamp(0, 1)


def blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of images (N, 3, H, W) with a standard deviation (N,) in pixels for each."""
    count, channels = pixels.shape[:2]
    radius = max(1, math.ceil(3 * float(sigma.max())))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma.unsqueeze(1)) ** 2)  # [N, 2 r + 1]
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(pixels.device)
    weight = kernel.repeat_interleave(channels, dim=0)[:, None, None, :]  # [3 N, 1, 1, 2 r + 1]
    groups = count * channels
    planes = pixels.reshape(1, groups, *pixels.shape[-2:])
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), weight, groups=groups)
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), weight.mT, groups=groups)
    return planes.reshape(pixels.shape)


def _uniform(count: int, low: float, high: float) -> Tensor:
    """(N,) random numbers, of the CPU's generator on every device."""
    return low + (high - low) * torch.rand(count)


def _chosen(probability: float, changed: Tensor, pixels: Tensor) -> Tensor:
    """Images (N, ...) of which each is changed with a probability."""
    return torch.where((torch.rand(len(pixels)) < probability).to(pixels.device).view(-1, 1, 1, 1), changed, pixels)
