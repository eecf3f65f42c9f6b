"""The augmented CelebA of the occlusion paper (section 4.1): photographs with drawn masks, and their binary masks."""

from datamodules.synthesis.masked_faces.dataset import write_masked_faces
from datamodules.synthesis.masked_faces.wanted import MaskedFaces

__all__ = ["MaskedFaces", "write_masked_faces"]
