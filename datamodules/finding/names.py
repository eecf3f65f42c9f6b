"""Names of the face finders and of their model files."""

from __future__ import annotations

from typing import Literal

FinderName = Literal["auto", "libfacedetection", "yunet", "dlib", "dlib_cnn"]
"""``dlib`` is the paper's: HOG, see :class:`datamodules.landmarks.FaceFinder`; the others search with a network, see
:class:`datamodules.finding.finder.BoxFinder`."""
CNN_MODEL = "mmod_human_face_detector.dat"
YUNET_MODEL = "face_detection_yunet_2023mar.onnx"
SMALLEST = 24
"""Size of the smallest faces that are searched for, in pixels."""
SMALLEST_IN_VIDEOS = 64
"""The same in videos and cameras: a frame of 640x480 takes a seventh of the time."""
