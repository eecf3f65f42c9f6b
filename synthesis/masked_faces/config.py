"""The configuration of a masked-face data set: everything that determines its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from datamodules.landmarks import NETWORKS
from foundation.errors import ConfigError
from synthesis.dataset_build import LARGEST, require_flag, require_integer
from synthesis.masks.choices import MaskChoices

VERSION = 4
"""Raise it whenever the same seed gives other bytes, in this package or in `masks`."""


@dataclass(frozen=True)
class MaskedFacesConfig:
    """Configuration of a set of masked faces.

    Args:
        source: CelebA's folder, or any folder of photographs; only read.
        count: number of samples, at least 10. If there are fewer photographs, they are reused with other masks.
        seed: 0 or more.
        choices: mask types, textures and wearing styles, and how often each is rendered.
        split: ``paper`` is 70/10/20, no photograph (and, where identities are known, no person) in two splits;
            ``partition`` keeps the source's own.
        size: longer side of a written image, in pixels; None leaves it as it is.
        crop: ``paper`` crops the largest face and squares it on white; ``none``.
        fallbacks: see :class:`datamodules.landmarks.FaceFinder`; None chooses by the source.
        finder: another detector that is tried where dlib's HOG finds no face, of
            :data:`datamodules.landmarks.NETWORKS`; ``dlib``: none, as in the paper.
        finder_model: the file of its model, see :func:`datamodules.finding.finder.box_finder`.
        landmark_model: see :func:`datamodules.landmarks.landmark_model`.
        form: ``jpg`` (quality 95) or ``png``, of the images.
        photographs: keep the training images without masks too, so that other masks can be rendered during training.

    Raises:
        ConfigError: for an invalid value.
    """

    source: Path
    count: int
    seed: int
    choices: MaskChoices
    split: str = "paper"
    size: int | None = None
    crop: str = "none"
    fallbacks: tuple[str, ...] | None = None
    landmark_model: str | None = None
    form: str = "jpg"
    photographs: bool = False
    finder: str = "dlib"
    finder_model: str | None = None

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("split", self.split, ("paper", "partition")),
            ("crop", self.crop, ("paper", "none")),
            ("format", self.form, ("jpg", "png")),
            ("finder", self.finder, ("dlib", *NETWORKS)),
        ):
            if value not in allowed:
                raise ConfigError(f"{name}={value} is invalid.\nIt must be {' or '.join(allowed)}.")
        require_flag("photographs", self.photographs)
        require_integer("count", self.count, 10)
        require_integer("seed", self.seed, 0)
        if self.size is not None:
            require_integer("size", self.size, 32, LARGEST)

    def parameters(self) -> dict[str, Any]:
        """Everything that determines the content, as plain data."""
        plain = asdict(self) | {"source": str(self.source.resolve())}
        chosen = plain.pop("choices")
        chosen["templates"] = chosen["templates"] and str(chosen["templates"])
        if not self.photographs:  # absent by default: older sets do not have the key
            del plain["photographs"]
        del plain["finder_model"]
        if self.finder == "dlib":  # likewise
            del plain["finder"]
        elif self.finder_model is not None:
            plain["finder_model"] = hashlib.sha256(Path(self.finder_model).read_bytes()).hexdigest()
        about = {"origin": "augmented", "layout": "augmented_celeba", "version": VERSION}
        return json.loads(json.dumps(about | plain | chosen))  # as read from the file


def choices_of(parameters: Mapping[str, Any]) -> MaskChoices:
    """The choices in a built set's parameters, see :meth:`MaskedFacesConfig.parameters`.

    Raises:
        ConfigError: if its templates no longer exist.
    """
    chosen = {choice.name: parameters[choice.name] for choice in fields(MaskChoices)}
    chosen |= {name: tuple(chosen[name]) for name in ("types", "textures")}
    return MaskChoices(**chosen | {"templates": chosen["templates"] and Path(chosen["templates"])})
