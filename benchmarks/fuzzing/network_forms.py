"""Checkpoints, exported networks, encoder weights, videos and packs, with what reads them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime  # noqa: F401 (its import opens files; a reader imports it late)

from benchmarks.fuzzing import images, network_files
from benchmarks.fuzzing.form import CANARY, OUTSIDE, Form, WrongResultError
from benchmarks.fuzzing.run_forms import SEGMENTED
from callbacks.checkpoints import AtomicCheckpointIO
from datamodules.cache import Cache, PackedImages
from deploy.predictor import load
from deploy.video import open_clip
from foundation.files import to_json, write_text_atomically
from models.encoders import EncoderError, encoder_state

NAME = "segment-0123456789ab"
RUN = f"runs/{NAME}"
PHOTO = np.zeros((20, 24, 3), np.uint8)


def _predict(checkpoint: Path | str, root: Path) -> None:
    masks = load(str(checkpoint), root, faces="whole").predict(PHOTO)
    if masks.label.shape != PHOTO.shape[:2] or masks.label.dtype != np.uint8:
        raise WrongResultError(f"a label map {masks.label.shape} {masks.label.dtype} of an image {PHOTO.shape}")


def _done(root: Path) -> None:
    (root / RUN / "checkpoints").mkdir(parents=True)
    write_text_atomically(root / RUN / "status.json", to_json(SEGMENTED))


def videos(suffix: str) -> list[bytes]:
    """Eight frames of noise."""
    kinds = {"mp4": ("mp4v",), "avi": ("MJPG", "XVID")}[suffix]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"{kind}.{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*kind), 10, (32, 24))
            for seed in range(8):
                writer.write(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8))
            writer.release()
            found.append(path.read_bytes())
    return found


PLAYLISTS = (
    f"ffconcat version 1.0\nfile '../{OUTSIDE}/{CANARY}.avi'\n",
    f"ffconcat version 1.0\nfile '{CANARY}.avi'\nduration 1e9\n",
    f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n../{OUTSIDE}/{CANARY}.avi\n#EXT-X-ENDLIST\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "RIFF\xff\xff\xff\xffAVI LIST",
)
"""Texts that name another video."""


def _playlist(rng: random.Random, originals: Sequence[bytes]) -> bytes:
    return rng.choice(PLAYLISTS).encode() if rng.random() < 0.1 else rng.choice(originals)


def _video(suffix: str) -> Form:
    def frames(root: Path) -> None:
        for frame in open_clip(root / f"clip.{suffix}").frames:
            if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
                raise WrongResultError(f"a frame {frame.shape} {frame.dtype}")

    return Form(f"video_{suffix}", f"clip.{suffix}", lambda: videos(suffix), {"frames": frames}, _playlist, plain=0.1)


def _pack(root: Path) -> None:
    pack = PackedImages.open(root / "images.pack", np.arange(2))
    for index in range(2 if pack is not None else 0):
        pixels = pack(index).pixels  # type: ignore[misc]
        if pixels.ndim != 3:
            raise WrongResultError(f"pixels {pixels.shape}")


def packs() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, content in zip("ab", images.originals("JPEG", ["RGB", "L"]), strict=True):
            (Path(folder) / f"{name}.jpg").write_bytes(content)
            files.append((name, Path(folder) / f"{name}.jpg"))
        Cache("disk", Path(folder), lambda _: "digest").images(files, 8)
        return [next(Path(folder).glob("*.pack")).read_bytes()]


FORMS = (
    Form(
        "checkpoint_file.ckpt",
        "best.ckpt",
        network_files.checkpoints,
        {"prediction": lambda root: _predict(root / "best.ckpt", root)},
        network_files.checkpoint_file,
    ),
    Form(
        "best.ckpt",
        f"{RUN}/checkpoints/best.ckpt",
        lambda: [network_files.saved(network_files.segmenter())],
        {"prediction": lambda root: _predict(NAME, root)},
        network_files.checkpoint_file,
        _done,
    ),
    Form(
        "last.ckpt",
        f"{RUN}/checkpoints/last.ckpt",
        lambda: [network_files.saved(network_files.resumable())],
        {"resume": lambda root: AtomicCheckpointIO().load_checkpoint(root / RUN / "checkpoints" / "last.ckpt")},
        network_files.checkpoint_file,
        _done,
    ),
    Form(
        "network.onnx",
        "network.onnx",
        network_files.onnx_files,
        {"prediction": lambda root: _predict(root / "network.onnx", root)},
        network_files.onnx_file,
    ),
    Form(
        "network.torchscript",
        "network.torchscript",
        network_files.torchscript_files,
        {"prediction": lambda root: _predict(root / "network.torchscript", root)},
    ),
    Form(
        "encoder.pth",
        "encoder.pth",
        network_files.encoder_files,
        {"weights": lambda root: encoder_state(network_files.ENCODER, root / "encoder.pth")},
        network_files.encoder_file,
        allowed=(EncoderError,),
    ),
    _video("mp4"),
    _video("avi"),
    Form("images.pack", "images.pack", packs, {"pack": _pack}),
)
