"""Cache of decoded images and label maps in one flat store: an epoch decodes nothing.

The cache changes no number. A pack holds exactly what :mod:`datamodules.reading` returns, images shrunk as far as
their training size allows, so samples are the same bit for bit with and without it. Sources are only read.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import PIL
from filelock import FileLock
from joblib import cpu_count

from datamodules.labels import LabelSet
from datamodules.mask_rules import MaskReading
from datamodules.reading import DecodedImage, ImageFiles, LabelFiles
from foundation.errors import BrokenFileError, RunError
from foundation.files import atomic_write, remove_drafts
from foundation.interruption import checked
from foundation.locks import held

VERSION = 3
"""Version of the pack format; raise it when the format changes, or when reading returns other pixels."""

HEADER = np.dtype([("format", "S16"), ("channels", "<i8"), ("count", "<i8"), ("bytes", "<i8")])
ENTRY = np.dtype([("start", "<i8"), ("shape", "<i4", 2), ("size", "<i4", 2), ("extent", "<f8", 2)])
"""A pack on disk is a header, one entry per face, then the pixels of all faces in the same order."""

FORMAT = f"halfmask pack {VERSION}".encode()

MANY = 1000
"""Packing shows a progress bar from this many files on."""

Files = ImageFiles | LabelFiles
Result = TypeVar("Result")


def _fits(entries: np.ndarray, channels: int, pixels: int) -> bool:
    """Whether the entries of a pack describe its pixels: one file's after another's, up to the last byte."""
    shape = entries["shape"].astype(np.int64)
    ends = np.cumsum(shape[:, 0] * shape[:, 1] * channels)
    starts = np.concatenate([np.zeros(1, np.int64), ends])
    in_order = np.array_equal(entries["start"], starts[:-1]) and int(starts[-1]) == pixels
    return in_order and bool((shape > 0).all())


@dataclass(eq=False, repr=False)
class Pack:
    """Decoded pixels of many files in one flat array.

    Args:
        entries: (N,) of :data:`ENTRY`: start and sizes of each file's pixels.
        store: all pixels, flat uint8.
        places: (N,) position in ``entries`` of each index.
        path: the file that ``store`` maps; None in memory. A mapped pack is pickled as its path and mapped again by the
            receiving process; one in memory is shared by forked processes and copied to spawned ones.
    """

    entries: np.ndarray
    store: np.ndarray
    places: np.ndarray
    path: Path | None = None
    channels: ClassVar[int]

    @classmethod
    def open(cls: type[AnyPack], path: Path, places: np.ndarray) -> AnyPack | None:
        """Map a pack on disk; None if it is absent or incomplete."""
        try:
            with path.open("rb") as file:
                header = np.fromfile(file, HEADER, 1)
                if not len(header) or header["format"][0] != FORMAT or header["channels"][0] != cls.channels:
                    return None
                count, pixels = int(header["count"][0]), int(header["bytes"][0])
                start = HEADER.itemsize + count * ENTRY.itemsize
                if count != len(places) or start + pixels != os.fstat(file.fileno()).st_size:
                    return None
                entries = np.fromfile(file, ENTRY, count)
                if not _fits(entries, cls.channels, pixels):
                    return None
                store = np.memmap(file, np.uint8, mode="r", offset=start, shape=(pixels,))
        except FileNotFoundError:
            return None
        return cls(entries, np.asarray(store), places, path)  # slices of a plain array are cheaper than of a memmap

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) if self.path is None else {"path": self.path, "places": self.places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["path"] is not None:
            pack = type(self).open(**state)
            if pack is None:
                raise RunError(f"The pack {state['path']} is missing or damaged.\nRun again; the pack is rebuilt.")
            state = vars(pack)
        vars(self).update(state)

    def pixels(self, index: int) -> np.ndarray:
        """Read-only view of a face's pixels: (H, W, channels), or (H, W) where there is one channel."""
        entry = self.entries[self.places[index]]
        height, width = entry["shape"]
        start = entry["start"]
        shape = (height, width, self.channels) if self.channels > 1 else (height, width)
        return self.store[start : start + height * width * self.channels].reshape(shape)


class PackedImages(Pack):
    """Images by their index, as :class:`ImageFiles` returns them."""

    channels = 3

    def __call__(self, index: int) -> DecodedImage:
        entry = self.entries[self.places[index]]
        return DecodedImage(self.pixels(index), tuple(entry["size"].tolist()), tuple(entry["extent"].tolist()))


class PackedLabels(Pack):
    """Label maps by their index, as :class:`LabelFiles` returns them."""

    channels = 1

    def __call__(self, index: int) -> np.ndarray:
        return self.pixels(index)


AnyPack = TypeVar("AnyPack", bound=Pack)


@dataclass(frozen=True)
class Cache:
    """Builds packs, or opens existing ones.

    Args:
        kind: ``ram`` packs for this process and the workers it forks; ``disk`` packs once for all runs and processes,
            which then share the system's page cache.
        folder: folder of the packs on disk, never that of the data. It may be deleted at any time.
        digest: digest of the contents of (name, path) files in any order. Unused for ``ram``.
    """

    kind: Literal["ram", "disk"]
    folder: Path
    digest: Callable[[Iterable[tuple[str, Path]]], str]

    def images(self, files: Sequence[tuple[str, Path]], least: int) -> PackedImages:
        """Pack images.

        Args:
            files: name and path of each, in the order of their indices.
            least: see :func:`datamodules.reading.read_image`.

        Raises:
            BrokenFileError: if a file cannot be read.
            RunError: if memory or disk is too small for the packed pixels.
        """
        return self._pack(PackedImages, f"images-{least}px", files, lambda paths: ImageFiles(paths, least))

    def labels(self, files: Sequence[tuple[str, Path]], labels: LabelSet) -> PackedLabels:
        """Pack label maps, see :meth:`images`; ``labels`` are the classes that may occur."""
        name = f"labels-{len(labels)}classes" + ("-binary" if labels.binary else "")
        if labels.mask is not None and labels.mask != MaskReading():
            name += f"-{labels.mask.digest}"
        if labels.coloured or not labels.ignored:  # reading depends on the declared classes
            name += f"-{labels.digest_of_reading}"
        return self._pack(PackedLabels, name, files, lambda paths: LabelFiles(paths, labels))

    def _pack(
        self,
        kind: type[AnyPack],
        name: str,
        files: Sequence[tuple[str, Path]],
        reader: Callable[[tuple[Path, ...]], Files],
    ) -> AnyPack:
        # Sorted by name: the same files give the same pack in any order.
        order = sorted(range(len(files)), key=lambda index: files[index])
        places = np.argsort(order)
        sources = reader(tuple(files[index][1] for index in order))
        if self.kind == "ram":
            return _pack_in_memory(kind, sources, places)
        # Another Pillow may decode to other pixels.
        path = self.folder / f"{name}-{self.digest(files)}-pillow{PIL.__version__}-v{VERSION}.pack"
        try:
            pack = kind.open(path, places)
            if pack is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                with held(FileLock(self.folder / "build.lock"), f"fills {self.folder}"):
                    pack = kind.open(path, places)
                    if pack is None:
                        remove_drafts(self.folder)  # of killed builds: no other process has the lock
                        _write_pack(path, kind.channels, sources)
                        pack = kind.open(path, places)
        except OSError as error:
            raise RunError(
                f"Cannot keep decoded images in {self.folder}: {error.strerror or error}.\n"
                f"Expected: a writable folder; or datamodule.cache=none."
            ) from error
        if pack is None:
            raise RunError(f"The pack {path} vanished while it was written.\nDo: datamodule.cache=none.")
        return pack


def _pack_in_memory(kind: type[AnyPack], sources: Files, places: np.ndarray) -> AnyPack:
    entries, size = _entries(sources, kind.channels)
    available = _available_memory()
    if available is not None and size > available:
        raise RunError(
            f"Decoded images or label maps need {_megabytes(size)} of memory; {_megabytes(available)} are free.\n"
            f"Do one of: datamodule.cache=disk; datamodule.cache=none."
        )
    store = np.empty(size, dtype=np.uint8)

    def put(entry: np.ndarray, pixels: np.ndarray) -> None:
        store[entry["start"] : entry["start"] + pixels.size] = pixels.reshape(-1)

    _decode(sources, entries, put)
    store.flags.writeable = False
    return kind(entries, store, places)


def _write_pack(path: Path, channels: int, sources: Files) -> None:
    """Write a pack, see :func:`foundation.files.atomic_write`."""
    entries, size = _entries(sources, channels)
    header = np.array([(FORMAT, channels, len(entries), size)], dtype=HEADER)
    try:
        if shutil.disk_usage(path.parent).free < size:  # fail before decoding for an hour
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with atomic_write(path) as file:
            file.write(header.tobytes())
            file.write(entries.tobytes())
            _decode(sources, entries, lambda _, pixels: file.write(np.ascontiguousarray(pixels).data))
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"The disk of {path.parent} is full: decoded images or label maps need {_megabytes(size)} there.\n"
            f"Do one of: free some space; datamodule.cache=none."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries, so that the new name survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entries(sources: Files, channels: int) -> tuple[np.ndarray, int]:
    """Entry of each file's pixels, from the files' headers alone, and the total number of bytes."""
    entries = np.zeros(len(sources.paths), dtype=ENTRY)
    start = 0
    for index in _progress(len(entries), "measuring, for the cache"):
        entry, frame = entries[index], sources.frame(index)
        entry["start"], entry["shape"], entry["size"], entry["extent"] = start, frame.shape, frame.size, frame.extent
        start += frame.shape[0] * frame.shape[1] * channels
    return entries, start


def _decode(sources: Files, entries: np.ndarray, put: Callable[[np.ndarray, np.ndarray], object]) -> None:
    """Decode all files and store their pixels in order."""
    for index, pixels in enumerate(in_threads(sources.pixels, len(entries), "decoding once, for the cache")):
        if pixels.shape[:2] != tuple(entries[index]["shape"]):
            raise BrokenFileError(f"{sources.paths[index]} changed while it was read.\nRun again.")
        put(entries[index], pixels)


def in_threads(work: Callable[[int], Result], count: int, doing: str) -> Iterator[Result]:
    """Results of ``work(0)`` to ``work(count - 1)`` in order, computed by a few threads a few steps ahead.

    ``work`` should spend most of its time without Python's lock; ``doing`` describes it in the progress bar.
    """
    threads = min(8, cpu_count())
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for index in checked(_progress(count, doing)):
            while len(ahead) < 2 * threads and index + len(ahead) < count:
                ahead.append(pool.submit(work, index + len(ahead)))
            yield ahead.popleft().result()


def _progress(count: int, doing: str) -> Iterable[int]:
    if count < MANY:  # without importing rich
        return range(count)
    from rich import get_console
    from rich.progress import track

    return track(range(count), doing, transient=True, disable=not get_console().is_terminal)


def _available_memory() -> int | None:
    """Bytes that a process can take without swapping; None where the system does not report it."""
    try:
        found = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
