"""Layers that the occlusion paper adds to UNet (section 3.2): batch-instance and spectral norm, self-attention."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

M = TypeVar("M", bound=nn.Module)


class BatchInstanceNorm2d(nn.Module):
    """Batch-instance normalisation (Nam and Kim 2018): ``y = (rho x_BN + (1 - rho) x_IN) gamma + beta``.

    x_BN is normalised by the statistics of the batch (in evaluation: running ones), x_IN always by those of the image.
    rho is learnt for each channel and must stay in 0..1: call :func:`clamp_rho` after every optimiser step. It starts
    at 1, which is batch normalisation.

    Args:
        features: number of channels C.

    Shape: (N, C, H, W) float -> the same; in training N * H * W > 1.
    """

    running_mean: Tensor
    running_var: Tensor
    eps, momentum = 1e-5, 0.1  # as in torch: added to variances; share of the batch in running statistics

    def __init__(self, features: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.ones(features))
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        # Both normalisations are x * scale + shift, and so is their mixture: x is read twice instead of five times.
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # sums of squares need the range
        variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0)  # [N, C], of each image
        batch_variance, batch_mean = self._batch_statistics(variance, mean, x.shape[2] * x.shape[3])  # [C]
        by_batch = self.rho * torch.rsqrt(batch_variance + self.eps)  # [C]
        by_image = (1 - self.rho) * torch.rsqrt(variance + self.eps)  # [N, C]
        scale = self.weight * (by_batch + by_image)  # [N, C]
        shift = self.bias - self.weight * (by_batch * batch_mean + by_image * mean)  # [N, C]
        return torch.addcmul(shift[:, :, None, None], wide, scale[:, :, None, None]).to(x.dtype)

    def _batch_statistics(self, variance: Tensor, mean: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
        """Variance and mean of each channel: of the batch, computed from those of its images, or the running ones."""
        if not self.training:
            return self.running_var, self.running_mean
        batch_mean = mean.mean(dim=0)
        batch_variance = variance.mean(dim=0) + (mean - batch_mean).square().mean(dim=0)
        with torch.no_grad():
            values = pixels * len(mean)
            unbiased = batch_variance * (values / max(1, values - 1))  # as BatchNorm2d keeps it
            self.running_mean.lerp_(batch_mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        return batch_variance, batch_mean


@torch.no_grad()
def clamp_rho(module: nn.Module) -> None:
    """Clamp every rho in ``module`` to 0..1, after each optimiser step."""
    for layer in module.modules():
        if isinstance(layer, BatchInstanceNorm2d):
            layer.rho.clamp_(0, 1)


class SelfAttention(nn.Module):
    """Self-attention over all positions of a map (Zhang et al. 2019, SAGAN): ``x + gamma softmax(f(x) g(x)^T) h(x)``.

    gamma starts at 0, so that an untrained block is the identity.

    Args:
        channels: C, a multiple of 8; f and g have C / 8.

    Shape: (N, C, H, W) -> the same; cost grows with (H W)^2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 8:
            raise ValueError(f"attention over {channels} channels: must be a multiple of 8")
        self.query = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.key = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (  # [N, H W, C / 8], the same, [N, H W, C]
            projection(x).flatten(2).transpose(1, 2) for projection in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # SAGAN does not scale
        return x + self.gamma * attended.transpose(1, 2).reshape(x.shape)


class ConvBlock(nn.Sequential):
    """A convolution with spectral norm, batch-instance norm and leaky ReLU (Table 1).

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel: side of the kernel; any kernel keeps height and width.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__(
            spectral_norm(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2 if kernel % 2 else "same")),
            BatchInstanceNorm2d(out_channels),
            nn.LeakyReLU(0.2, inplace=True),  # the slope is not in the paper
        )


def folded(module: M) -> M:
    """A copy for inference in which spectrally normalised weights are plain tensors: equal outputs, fewer operations.

    Args:
        module: any module, left unchanged; the copy is in evaluation mode.
    """
    plain = copy.deepcopy(module).eval()
    for layer in list(plain.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            weight = getattr(layer, "weight").detach()  # noqa: B009 (a property of the parametrisation)
            # Not remove_parametrizations: the copy shares its class with the original, which would lose its weight.
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
            layer.weight = nn.Parameter(weight)
    return plain
