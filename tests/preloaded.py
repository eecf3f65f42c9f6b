"""Libraries that the server of forked commands imports once; none of the project's code.

They are excluded from garbage collection: each training ends with a collection, which took half a second, and would
copy the pages that forked processes share.
"""

import gc

import albumentations  # noqa: F401
import cv2  # noqa: F401
import hydra  # noqa: F401
import matplotlib.figure  # noqa: F401
import omegaconf  # noqa: F401
import pytorch_lightning  # noqa: F401
import rich.progress  # noqa: F401
import segmentation_models_pytorch  # noqa: F401
import skimage.measure  # noqa: F401
import sklearn.svm  # noqa: F401
import torch  # noqa: F401
import torchmetrics  # noqa: F401
import torchvision  # noqa: F401
import wandb  # noqa: F401

gc.collect()
gc.freeze()
