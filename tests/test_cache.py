"""The cache changes no number, is built once, and never looks finished when it is not."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import cache as caching
from datamodules.cache import Cache, PackedImages
from datamodules.faces import ParsingDataModule
from datamodules.labels import LAPA
from datamodules.layouts import open_layout
from datamodules.reading import ImageFiles, read_image, read_label
from datamodules.transforms import Augmentation
from foundation.digests import DigestCache
from foundation.errors import DataError, RunError
from models.masking import PatchSampling

MOVES = Augmentation(rotation=30, scale=(0.75, 1.25), flip=0.5, color=0.5)


def digest(files: Iterable[tuple[str, Path]]) -> str:
    """Of contents, with nothing remembered."""
    return DigestCache(Path("unused")).of_files(files)


def disk(folder: Path) -> Cache:
    return Cache("disk", folder, digest)


def faces_of(root: Path, split: str = "train") -> list[tuple[str, Path]]:
    return [(sample.id, sample.image) for sample in open_layout("lapa", root).samples(split)]


def label_maps_of(root: Path, split: str = "train") -> list[tuple[str, Path]]:
    return [(sample.id, sample.label) for sample in open_layout("lapa", root).samples(split) if sample.label]


def packs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pack"))


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Modification times and sizes of files."""
    found = {str(path.relative_to(folder)): path.stat() for path in sorted(folder.rglob("*"))}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in found.items()}


@pytest.fixture
def copy(lapa: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lapa, tmp_path / "LaPa"))


@pytest.fixture
def large(tmp_path: Path) -> list[tuple[str, Path]]:
    """Images that are shrunk as they are decoded, by factors that do not divide their sizes."""
    rng = np.random.default_rng(0)
    files = []
    for index, (height, width) in enumerate([(301, 203), (150, 150), (407, 999), (64, 64)]):
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        for suffix in ("jpg", "png"):
            path = tmp_path / f"{index}.{suffix}"
            Image.fromarray(pixels).save(path)
            files.append((path.name, path))
    return files


@pytest.mark.parametrize(("masked", "workers"), [(True, 0), (False, 2)])
def test_samples_are_identical_with_and_without(lapa: Path, tmp_path: Path, masked: bool, workers: int) -> None:
    """Without a cache, samples are the same for any number of workers, see test_sampling."""

    def batches(cache: Cache | None, workers: int = 0) -> list[dict[str, Any]]:
        masking = PatchSampling(count=16, sides=(2, 5), region=(5, 27)) if masked else None
        chosen = [name for name, _ in faces_of(lapa)][:12]
        data = ParsingDataModule(
            open_layout("lapa", lapa),
            image_size=32,
            batch_size=4,
            seed=1,
            augmentation=MOVES,
            masking=masking,
            train_ids=None if masked else chosen,
            workers=workers,
            cache=cache,
        )
        return [*data.train_dataloader(), *data.val_dataloader()]

    expected = batches(None)
    for cache in (disk(tmp_path), Cache("ram", tmp_path / "unused", digest)):
        for batch, reference in zip(batches(cache, workers), expected, strict=True):
            assert batch.keys() == reference.keys()
            assert batch["id"] == reference["id"]
            for name, value in reference.items():
                for one, other in zip(batch[name], value, strict=True):
                    assert one == other if name == "id" else torch.equal(one, other), name
    assert len(packs(tmp_path)) == (2 if masked else 4), "train and val, images and label maps"
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_pack_returns_what_reading_returns(
    lapa: Path, tmp_path: Path, large: list[tuple[str, Path]], kind: Any
) -> None:
    cache = Cache(kind, tmp_path / "cache", digest)
    for files in (large, large[::-1]):
        images = cache.images(files, 60)
        assert len(images) == len(files)
        for index, (_, path) in enumerate(files):
            packed, read = images(index), read_image(path, 60)
            assert (packed.size, packed.extent) == (read.size, read.extent)
            assert np.array_equal(packed.pixels, read.pixels)
            assert not packed.pixels.flags.writeable
    maps = label_maps_of(lapa)
    labels = cache.labels(maps, LAPA)
    assert all(np.array_equal(labels(index), read_label(path, LAPA)) for index, (_, path) in enumerate(maps))


def test_built_once_and_shared_in_any_order_and_folder(lapa: Path, copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    files = faces_of(lapa)
    disk(folder).images(files, 32)
    before = state(folder)
    for again in (files, files[::-1], faces_of(copy)):
        assert np.array_equal(disk(folder).images(again, 32)(3).pixels, read_image(again[3][1], 32).pixels)
    assert state(folder) == before


def test_other_content_size_or_faces_are_another_pack(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    files = faces_of(copy)
    disk(folder).images(files, 32)
    disk(folder).images(files, 20)
    disk(folder).images(files[:5], 32)
    assert len(packs(folder)) == 3
    Image.new("RGB", (64, 64)).save(files[0][1])
    assert disk(folder).images(files, 32)(0).pixels.max() == 0
    assert len(packs(folder)) == 4


def test_a_pack_on_disk_pickles_as_its_path(lapa: Path, tmp_path: Path) -> None:
    files = faces_of(lapa)
    pack = disk(tmp_path).images(files, 32)
    pickled = pickle.dumps(pack)
    assert len(pickled) < 2000
    arrived = pickle.loads(pickled)  # noqa: S301
    assert isinstance(arrived, PackedImages)
    assert np.array_equal(arrived(7).pixels, pack(7).pixels)
    assert arrived(7).extent == pack(7).extent
    data = ParsingDataModule(
        open_layout("lapa", lapa),
        image_size=32,
        batch_size=4,
        seed=1,
        augmentation=MOVES,
        workers=0,
        cache=disk(tmp_path),
    )
    faces: Any = data.train_dataloader().dataset
    sent = pickle.loads(pickle.dumps(faces))  # noqa: S301
    assert torch.equal(sent[(1, 2, 3)]["image"], faces[(1, 2, 3)]["image"])
    in_memory = pickle.loads(pickle.dumps(Cache("ram", tmp_path, digest).images(files, 32)))  # noqa: S301
    assert np.array_equal(in_memory(7).pixels, pack(7).pixels)
    assert pickle.loads(pickle.dumps(disk(tmp_path))) == disk(tmp_path)  # noqa: S301


def start_build(folder: Path, files: list[tuple[str, Path]]) -> multiprocessing.process.BaseProcess:
    """Another process that builds, with what is patched here patched there too."""
    process = multiprocessing.get_context("fork").Process(target=disk(folder).images, args=(files, 32))
    process.start()
    return process


def test_a_killed_build_leaves_nothing_finished(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = faces_of(lapa)
    pixels = ImageFiles.pixels

    def kill(self: ImageFiles, index: int) -> np.ndarray:
        if index == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return pixels(self, index)

    with monkeypatch.context() as patched:
        patched.setattr(ImageFiles, "pixels", kill)
        killed = start_build(tmp_path, files)
        killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert packs(tmp_path) == []
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    assert np.array_equal(disk(tmp_path).images(files, 20)(9).pixels, read_image(files[9][1], 20).pixels)
    assert list(tmp_path.glob(".*.tmp")) == [], "the next build cleans up, whatever it builds"
    assert np.array_equal(disk(tmp_path).images(files, 32)(9).pixels, read_image(files[9][1], 32).pixels)


def test_one_of_several_processes_builds(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = faces_of(lapa)
    write = caching._write_pack

    def slowly(*arguments: Any) -> None:
        (tmp_path / f"built by {os.getpid()}").touch()
        time.sleep(0.1)
        write(*arguments)

    monkeypatch.setattr(caching, "_write_pack", slowly)
    processes = [start_build(tmp_path, files) for _ in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("built by *"))) == 1
    assert len(packs(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["truncated", "longer", "empty", "foreign", "count", "shape", "start"])
def test_a_damaged_pack_is_built_again(lapa: Path, tmp_path: Path, damage: str) -> None:
    files = faces_of(lapa)
    disk(tmp_path).images(files, 32)
    [path] = packs(tmp_path)
    content = path.read_bytes()
    damaged = {
        "truncated": content[:-1],
        "longer": content + b"\0",
        "empty": b"",
        "foreign": b"x" * len(content),
        "shape": content[:48] + (8).to_bytes(4, "little") + content[52:],
        "start": content[:80] + (8).to_bytes(8, "little") + content[88:],
        "count": content[:24] + (31).to_bytes(8, "little") + content[32:],
    }[damage]
    path.write_bytes(damaged)
    assert np.array_equal(disk(tmp_path).images(files, 32)(31).pixels, read_image(files[31][1], 32).pixels)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_broken_file_is_named_as_without_a_cache(copy: Path, tmp_path: Path, kind: Any) -> None:
    folder = tmp_path / "cache"
    files, maps = faces_of(copy), label_maps_of(copy)
    files[20][1].write_bytes(files[20][1].read_bytes()[:900])
    Image.fromarray(np.full((64, 64), 11, dtype=np.uint8)).save(maps[3][1])
    for pack, read, path in (
        (lambda: Cache(kind, folder, digest).images(files, 32), lambda: read_image(files[20][1], 32), files[20][1]),
        (lambda: Cache(kind, folder, digest).labels(maps, LAPA), lambda: read_label(maps[3][1], LAPA), maps[3][1]),
    ):
        with pytest.raises(DataError, match=path.name) as without:
            read()
        with pytest.raises(DataError) as packing:
            pack()
        assert str(packing.value) == str(without.value)
    assert not folder.exists() or {path.name for path in folder.iterdir()} <= {"build.lock"}


def test_a_label_map_of_another_size_than_its_image_is_named(copy: Path, tmp_path: Path) -> None:
    path = label_maps_of(copy)[2][1]
    Image.fromarray(np.array(Image.open(path))[:-1]).save(path)
    data = ParsingDataModule(
        open_layout("lapa", copy),
        image_size=32,
        batch_size=4,
        seed=1,
        augmentation=MOVES,
        workers=0,
        cache=disk(tmp_path / "cache"),
    )
    with pytest.raises(DataError, match=rf"{path.name} is 64x63 pixels, its image 64x64"):
        list(data.train_dataloader())


def test_sources_are_only_read(copy: Path, tmp_path: Path) -> None:
    before = state(copy)
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        disk(tmp_path / "cache").images(faces_of(copy), 32)
        disk(tmp_path / "cache").labels(label_maps_of(copy), LAPA)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert state(copy) == before


@pytest.mark.parametrize("early", [True, False])
def test_a_full_disk_is_reported(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early: bool) -> None:
    """Before decoding where the system knows, and else by the write that fails."""
    reference = rf"{tmp_path}.* 0\.4 MB(.|\n)*free some space; datamodule.cache=none"
    if early:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    else:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=reference):
        disk(tmp_path).images(faces_of(lapa), 64)
    assert {path.name for path in tmp_path.iterdir()} <= {"build.lock"}


def test_an_unwritable_folder_is_reported(lapa: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"cache(.|\n)*datamodule.cache=none"):
        disk(tmp_path / "cache").images(faces_of(lapa), 32)


def test_too_little_memory_is_reported(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "_available_memory", lambda: 300_000)
    with pytest.raises(RunError, match=r"0\.4 MB(.|\n)*0\.3 MB(.|\n)*datamodule.cache=disk"):
        Cache("ram", tmp_path, digest).images(faces_of(lapa), 64)


def test_available_memory_is_plausible() -> None:
    available = caching._available_memory()
    assert available is None or 1e7 < available < 1e14


def test_test_faces_are_not_packed_and_packs_in_memory_are_built_once(lapa: Path, tmp_path: Path) -> None:
    data = ParsingDataModule(
        open_layout("lapa", lapa),
        image_size=32,
        batch_size=4,
        seed=1,
        augmentation=MOVES,
        workers=0,
        cache=Cache("ram", tmp_path, digest),
    )
    assert data.train_dataloader().dataset is data.train_dataloader().dataset
    faces: Any = data.test_dataloader().dataset
    assert not isinstance(faces.images, PackedImages)
