"""A trained network prepared for export: images of any size in, logits out, in a graph of few operations.

Batch-instance normalisation and attention are rewritten with operations that exporters and runtimes support; outputs
are equal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import BatchInstanceNorm2d, SelfAttention, folded


class Deployed(nn.Module):
    """A network preceded by its preprocessing: resizing and normalisation.

    Args:
        network: maps normalised images (N, 3, size, size) to logits (N, C, size, size); not changed.
        size: side of its input, in pixels.
        mean: of each colour channel, for values in 0..1.
        std: likewise.
        half: keep weights and convolutions in float16; batch-instance normalisation and attention stay in float32.

    Shape: images (N, H, W, 3) uint8 RGB -> logits (N, C, size, size) float32.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, size: int, mean: tuple[float, ...], std: tuple[float, ...], half: bool = False
    ) -> None:
        super().__init__()
        self.network = lean(network)
        if half:
            self.network.half()
            for layer in self.network.modules():
                if isinstance(layer, LeanBatchInstanceNorm2d):
                    layer.float()
        self.size = size
        self.half_precision = half
        deviation = 255 * torch.tensor(std)
        self.register_buffer("scale", (1 / deviation).reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-255 * torch.tensor(mean) / deviation).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        photo = image.permute(0, 3, 1, 2).float()  # [N, 3, H, W]
        photo = F.interpolate(photo, size=(self.size, self.size), mode="bilinear", align_corners=False)
        normalized = photo * self.scale + self.shift  # [N, 3, size, size]
        return self.network(normalized.half() if self.half_precision else normalized).float()


def lean(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose custom layers consist of standard operations; outputs are equal.

    Spectral norm is folded into the weights.
    """
    plain = folded(network)
    forms: dict[type[nn.Module], Callable[..., nn.Module]] = {
        BatchInstanceNorm2d: LeanBatchInstanceNorm2d,
        SelfAttention: LeanSelfAttention,
    }
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if type(child) in forms:
                setattr(module, name, forms[type(child)](child))
    return plain.eval()


class LeanBatchInstanceNorm2d(nn.Module):
    """Batch-instance normalisation in evaluation, with the running statistics folded into one factor and one summand.

    ``y = InstanceNorm(x) (1 - rho) gamma + x rho gamma / sigma + (beta - mean rho gamma / sigma)``, where the last
    summand is the bias of the instance normalisation.
    """

    factor: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, trained: BatchInstanceNorm2d) -> None:
        super().__init__()
        self.eps = trained.eps
        factor = (trained.rho * trained.weight * torch.rsqrt(trained.running_var + trained.eps)).detach()  # [C]
        self.register_buffer("factor", factor.reshape(1, -1, 1, 1))
        self.register_buffer("weight", ((1 - trained.rho) * trained.weight).detach())
        self.register_buffer("bias", trained.bias.detach() - factor * trained.running_mean)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        # Not F.instance_norm, which refuses maps of one pixel.
        by_image = torch.instance_norm(wide, self.weight, self.bias, None, None, True, 0.0, self.eps, False)
        return (by_image + wide * self.factor).to(x.dtype)


class LeanSelfAttention(nn.Module):
    """Self-attention as two matrix products and a softmax."""

    def __init__(self, trained: SelfAttention) -> None:
        super().__init__()
        self.query, self.key, self.value, self.gamma = trained.query, trained.key, trained.value, trained.gamma

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # [N, H W, C / 8]
        key, value = self.key(x).flatten(2), self.value(x).flatten(2).transpose(1, 2)  # [N, C / 8, H W], [N, H W, C]
        attended = torch.softmax(query.float() @ key.float(), dim=-1).to(x.dtype) @ value  # [N, H W, C]
        return x + self.gamma * attended.transpose(1, 2).reshape(x.shape)
