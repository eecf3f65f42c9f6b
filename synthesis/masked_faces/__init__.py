"""The augmented CelebA of the occlusion paper (section 4.1): photographs with rendered masks, and binary masks."""

from synthesis.masked_faces.config import MaskedFacesConfig
from synthesis.masked_faces.dataset import write_masked_faces

__all__ = ["MaskedFacesConfig", "write_masked_faces"]
