"""The augmented CelebA: face masks drawn on photographs, with their binary masks (section 4.1 of the occlusion paper).

Three passes, each by all cores and continued where it stopped: faces are looked for, in photographs in an order drawn
by lot, until there are enough; masks are drawn; the manifest is written. Sample k depends on the photographs, the
settings and (seed, k) alone.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from rich.box import SIMPLE_HEAD
from rich.table import Table

from datamodules.landmarks import FaceFinder, crop_box, landmark_model, read_landmarks, square
from datamodules.layouts.celeba import Photograph, is_aligned, photographs
from datamodules.layouts.layout import SPLITS
from datamodules.reading import UNREADABLE
from datamodules.synthesis.building import Build
from datamodules.synthesis.masks import FaceMask, MaskChoices, choose_mask, draw_mask
from datamodules.synthesis.published import write_whole
from engine.errors import BrokenFileError, ConfigError, DataError

VERSION = 1
"""Raised by hand whenever the same seed would give other bytes, in this module or in `masks`."""

MANIFEST = "manifest.jsonl"
SUMMARY = "summary.json"
PAPER_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Of the paper's 20,000 faces 14,000 are trained on, 2,000 validated and 4,000 tested."""

CHUNK = 32  # photographs that are looked through as one job


@dataclass(frozen=True)
class MaskedFaces:
    """What is to be built.

    Args:
        source: CelebA's folder, or any folder of photographs; only read.
        count: number of samples, at least 10. Where there are fewer photographs they are used again, with other masks.
        seed: 0 or more.
        choices: what is drawn.
        split: ``paper`` is 70/10/20, no photograph (and, where identities are known, no person) in two splits;
            ``partition`` keeps the source's own.
        size: longer side of a written picture, in pixels; None leaves it as it is.
        crop: ``paper`` crops the largest face and squares it on white; ``none``.
        fallbacks: see :class:`datamodules.landmarks.FaceFinder`; None suits the source.
        landmark_model: see :func:`datamodules.landmarks.landmark_model`.
        form: ``jpg`` (quality 95) or ``png``, of the pictures.

    Raises:
        ConfigError: for a value that cannot be.
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

    def __post_init__(self) -> None:
        for name, allowed in (("split", ("paper", "partition")), ("crop", ("paper", "none")), ("form", ("jpg", "png"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)} cannot be.\nExpected: {' or '.join(allowed)}.")
        for name, least in (("count", 10), ("seed", 0), ("size", 32)):
            value = getattr(self, name)
            if (value is not None or name != "size") and (
                isinstance(value, bool) or not isinstance(value, int) or value < least
            ):
                raise ConfigError(f"{name}={value} cannot be.\nExpected: a whole number of at least {least}.")

    def parameters(self) -> dict[str, Any]:
        """All that decides what is built, as plain data."""
        chosen = asdict(self.choices) | {"templates": self.choices.templates and str(self.choices.templates)}
        plain = {
            name: getattr(self, name)
            for name in ("count", "seed", "split", "size", "crop", "fallbacks", "landmark_model", "form")
        }
        about = {"origin": "augmented", "layout": "augmented_celeba", "version": VERSION}
        whole = about | {"source": str(Path(self.source).resolve())} | plain | chosen
        return json.loads(json.dumps(whole))  # as it comes back from the file


def write_masked_faces(out: Path, wanted: MaskedFaces, workers: int) -> None:
    """Build the set: ``images/``, ``masks/`` (0 and 255), ``manifest.jsonl``, ``summary.json``, ``dataset.json``.

    A manifest's line says of a sample its id, files, split, source, size, crop and, for each face, landmarks, how they
    were found, and what it wears. Photographs that cannot be read and those without a face are listed in the summary.

    Args:
        out: folder of the set; must not exist, or hold this very set.
        wanted: what is to be built.
        workers: number of processes; it does not change the result.

    Raises:
        ConfigError: if there is no landmark model.
        DataError: if the source holds no photographs, or no face, or not the splits that are asked for; or if `out`
            holds something else.
    """
    build = Build(out, wanted.parameters(), what="masked faces")
    if build.is_there():
        build.say(f"{wanted.count} masked faces are there already")
        return
    landmark_model(wanted.landmark_model)
    pictures = photographs(wanted.source)
    orders = _orders(wanted, pictures)
    build.open([build.partial / name for name in ("images", "masks", "found")])
    seen = {split: _find(build, wanted, split, order, count, workers) for split, (order, count) in orders.items()}
    samples: list[Sample] = []
    for split, (_, count) in orders.items():
        usable = seen[split][0]  # each is used again once all others of its split have been
        samples += [Sample(len(samples) + place, split, usable[place % len(usable)]) for place in range(count)]
    jobs = [_Draw(build.partial, wanted, sample) for sample in samples]
    jobs = [job for job in jobs if not job.sample.mask_file(build.partial).is_file()]
    for _ in build.each(_draw, jobs, workers, "drawing masks"):
        pass
    lines = [sample.line(wanted) for sample in samples]
    write_whole(build.partial / MANIFEST, "".join(json.dumps(line) + "\n" for line in lines).encode())
    summary = _summary(wanted, pictures, [row for _, rows in seen.values() for row in rows], lines)
    write_whole(build.partial / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    for file in (build.partial / "found").iterdir():
        file.unlink()
    (build.partial / "found").rmdir()
    build.finish()
    build.console.print(_table(out, summary))


def _orders(wanted: MaskedFaces, pictures: Sequence[Photograph]) -> dict[str, tuple[list[Photograph], int]]:
    """Split -> its photographs in an order drawn by lot, and the number of samples that it is to have."""
    rng = np.random.default_rng([wanted.seed, 0x5917])
    splits: dict[str, list[Photograph]] = {split: [] for split in SPLITS}
    if wanted.split == "partition":
        for picture in pictures:
            if picture.split is not None:
                splits[picture.split].append(picture)
        if not any(splits.values()):
            raise DataError(
                f"split=partition, but no list_eval_partition.txt (or .csv) of {wanted.source} names its pictures.\n"
                f"Expected: CelebA's list beside its pictures; or split=paper, which draws 70/10/20 by lot."
            )
        total = sum(len(members) for members in splits.values())
        shares = {split: len(members) / total for split, members in splits.items()}
    else:
        groups: dict[str, list[Photograph]] = {}
        for picture in pictures:
            groups.setdefault(picture.identity or f"/{picture.id}", []).append(picture)
        names, placed, edges = sorted(groups), 0, np.cumsum([PAPER_SHARES[split] for split in SPLITS])
        for place in rng.permutation(len(names)):
            members = groups[names[place]]
            middle = (placed + len(members) / 2) / len(pictures)
            splits[SPLITS[min(int(np.searchsorted(edges, middle)), 2)]] += members
            placed += len(members)
        shares = PAPER_SHARES
    counts = {split: round(wanted.count * shares[split]) if splits[split] else 0 for split in ("val", "test")}
    counts["train"] = wanted.count - sum(counts.values())
    if not splits["train"] and counts["train"]:
        raise DataError(f"{wanted.source} has no photograph for the split train.\nExpected: more photographs.")
    return {
        split: ([members[place] for place in rng.permutation(len(members))], counts[split])
        for split, members in splits.items()
    }


def _find(
    build: Build, wanted: MaskedFaces, split: str, order: list[Photograph], count: int, workers: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Photographs of a split with faces, as many as there are samples if there are so many; and all looked through."""
    aligned = is_aligned(wanted.source)
    fallbacks = wanted.fallbacks or ("padded", "upsampled", "image" if aligned else "box")  # what suits the source
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    rows: list[dict[str, Any]] = []
    done = 0
    while done < len(chunks) and (lacking := count - sum(bool(row["faces"]) for row in rows)) > 0:
        next_done = min(len(chunks), done + max(1, round(1.05 * lacking / CHUNK)))
        jobs = [
            _Find(
                build.partial / "found" / f"{split}_{place:06d}.json",
                tuple(chunks[place]),
                fallbacks,
                aligned,
                wanted.landmark_model,
            )
            for place in range(done, next_done)
        ]
        for found in build.each(_find_faces, jobs, workers, f"finding faces ({split})", chunk=1):
            rows += found
        done = next_done
    with_faces = [row for row in rows if row["faces"]]
    if count and not with_faces:
        raise DataError(
            f"No face was found in the {len(rows)} photographs of {wanted.source} for the split {split}.\n"
            f"Expected: photographs of faces, 80 px wide or more. Do one of:\n"
            f"  - if each picture is one aligned face: fallbacks=[padded,upsampled,image]\n"
            f"  - if they wear masks already, this detector fails on most of them"
        )
    return with_faces[:count], rows


@dataclass(frozen=True)
class _Find:
    """Photographs to look for faces in; what is found is kept in a file."""

    file: Path
    pictures: tuple[Photograph, ...]
    fallbacks: tuple[str, ...]
    aligned: bool
    model: str | None


def _find_faces(job: _Find) -> list[dict[str, Any]]:
    if not job.file.is_file():
        finder = FaceFinder(job.model, job.fallbacks, job.aligned)
        rows = [_faces_of(picture, finder) for picture in job.pictures]
        write_whole(job.file, json.dumps(rows).encode())
    return json.loads(job.file.read_text())


def _faces_of(picture: Photograph, finder: FaceFinder) -> dict[str, Any]:
    about: dict[str, Any] = {"source": picture.id, "image": str(picture.image), "faces": []}
    try:
        image = read_photograph(picture.image)
        if picture.landmarks is not None:
            found = [(read_landmarks(picture.landmarks), "layout")]
        else:
            found = [(face.landmarks, face.found) for face in finder(image, picture.box)]
    except BrokenFileError as fault:
        return about | {"error": str(fault).splitlines()[0]}
    about["size"] = [image.shape[1], image.shape[0]]
    about["faces"] = [{"landmarks": points.tolist(), "found": how} for points, how in found]
    return about


def read_photograph(path: Path) -> np.ndarray:
    """A picture of any mode, upright, (H, W, 3) uint8 RGB; what is transparent is white.

    Raises:
        BrokenFileError: if it cannot be read.
    """
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                clear = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            return np.asarray(upright.convert("RGB"))
    except UNREADABLE as fault:
        raise BrokenFileError(f"Cannot read the picture {path}: {fault}.\nReplace or remove it.") from fault


@dataclass(frozen=True)
class Sample:
    """One sample: a photograph, its faces, and the number that decides what they wear.

    Args:
        index: k.
        split: where it belongs.
        row: what was found in the photograph.
    """

    index: int
    split: str
    row: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.index:06d}"

    def mask_file(self, root: Path) -> Path:
        """The file that is written last."""
        return root / "masks" / f"{self.id}.png"

    def worn(self, wanted: MaskedFaces) -> list[FaceMask]:
        """What each face wears; chosen before cropping and scaling, so that neither changes it."""
        rng = np.random.default_rng([wanted.seed, self.index])
        return [choose_mask(rng, np.array(face["landmarks"]), wanted.choices) for face in self.row["faces"]]

    def frame(self, wanted: MaskedFaces) -> tuple[list[int] | None, float, list[int]]:
        """Left, top and side of the crop in the photograph, or None; scale; width and height as written."""
        width, height = self.row["size"]
        crop: list[int] | None = None
        if wanted.crop == "paper":
            crop = list(crop_box(np.array(self.row["faces"][0]["landmarks"])))
            width = height = crop[2]
        scale = 1.0 if wanted.size is None else wanted.size / max(width, height)
        return crop, scale, [max(1, round(width * scale)), max(1, round(height * scale))]

    def faces(self, wanted: MaskedFaces) -> list[np.ndarray]:
        """Landmarks (68, 2) of the faces, in pixels of the written picture."""
        crop, scale, _ = self.frame(wanted)
        corner = np.array(crop[:2] if crop else (0, 0))
        return [(np.array(face["landmarks"]) - corner + 0.5) * scale - 0.5 for face in self.row["faces"]]

    def line(self, wanted: MaskedFaces) -> dict[str, Any]:
        """Its line of the manifest."""
        crop, _, size = self.frame(wanted)
        faces = zip(self.row["faces"], self.faces(wanted), self.worn(wanted), strict=True)
        return {
            "id": self.id,
            "image": f"images/{self.id}.{wanted.form}",
            "mask": f"masks/{self.id}.png",
            "split": self.split,
            "source": self.row["source"],
            "size": size,
            "crop": crop,
            "faces": [
                {"landmarks": points.round(2).tolist(), "found": face["found"], **asdict(worn)}
                for face, points, worn in faces
            ],
        }


@dataclass(frozen=True)
class _Draw:
    """One sample to be drawn and written."""

    root: Path
    wanted: MaskedFaces
    sample: Sample


def _draw(job: _Draw) -> None:
    wanted, sample = job.wanted, job.sample
    image = framed(read_photograph(Path(sample.row["image"])), *sample.frame(wanted)[::2])
    truth = np.zeros(image.shape[:2], np.uint8)
    for landmarks, worn in zip(sample.faces(wanted), sample.worn(wanted), strict=True):
        image, hidden = draw_mask(image, landmarks, worn, wanted.choices)
        truth |= hidden
    options = {"format": "JPEG", "quality": 95} if wanted.form == "jpg" else {"format": "PNG"}
    write_whole(job.root / "images" / f"{sample.id}.{wanted.form}", _encoded(image, **options))
    write_whole(sample.mask_file(job.root), _encoded(truth, format="PNG"))


def framed(image: np.ndarray, crop: Sequence[int] | None, size: Sequence[int]) -> np.ndarray:
    """A photograph (H, W, 3) as a sample shows it: cropped, white beyond its borders, and scaled to (width, height)."""
    import cv2

    if crop is not None:
        image = square(image, *crop)
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    smaller = size[0] < image.shape[1]
    return cv2.resize(image, tuple(size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _encoded(pixels: np.ndarray, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, **options)
    return content.getvalue()


def _summary(
    wanted: MaskedFaces,
    pictures: Sequence[Photograph],
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What became of the photographs and what the samples are, as plain data."""
    unreadable = [row["source"] for row in rows if "error" in row]
    faceless = [row["source"] for row in rows if not row["faces"] and "error" not in row]
    faces = [face for line in lines for face in line["faces"]]
    looked = len(rows) - len(unreadable)
    return {
        "samples": len(lines),
        "photographs": {
            "there": len(pictures),
            "looked_at": len(rows),
            "used": len({line["source"] for line in lines}),
        },
        "no_face_rate": len(faceless) / looked if looked else 0.0,
        "several_faces": sum(len(row["faces"]) > 1 for row in rows),
        "split": dict(Counter(line["split"] for line in lines)),
        **{
            name: dict(sorted(Counter(str(face[name]) for face in faces).items()))
            for name in ("found", "type", "texture", "style", "tilt", "distractor")
        },
        "unreadable": sorted(unreadable),
        "no_face": sorted(faceless),
        "without_split": sum(picture.split is None for picture in pictures) if wanted.split == "partition" else 0,
    }


def _table(out: Path, summary: Mapping[str, Any]) -> Table:
    table = Table(title=f"{out}: {summary['samples']} masked faces", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("what")
    table.add_column("how many")
    seen = summary["photographs"]
    table.add_row("photographs", f"{seen['used']} used, {seen['looked_at']} looked at, {seen['there']} there")
    share = f"{100 * summary['no_face_rate']:.1f} %"
    table.add_row("no face found", f"{len(summary['no_face'])} ({share}){_first(summary['no_face'])}")
    table.add_row("unreadable", f"{len(summary['unreadable'])}{_first(summary['unreadable'])}")
    table.add_row("several faces", f"{summary['several_faces']} photographs")
    for name in ("split", "found", "type", "style", "tilt", "distractor"):
        table.add_row(name, ", ".join(f"{key} {count}" for key, count in summary[name].items()))
    table.caption = f"all lists: {SUMMARY}"
    return table


def _first(names: Sequence[str]) -> str:
    return f": {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" if names else ""
