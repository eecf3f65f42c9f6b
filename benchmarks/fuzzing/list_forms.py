"""Lists and tables of names: splits, mappings, identities, boxes, label manifests."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.fuzzing import images, texts
from benchmarks.fuzzing.annotation_forms import CLASSES, PHOTO, ignored
from benchmarks.fuzzing.form import Form
from datamodules.layouts import CelebAMaskHQ, Folder
from datamodules.layouts.photographs import digest, photographs
from datamodules.subsets import manifest

NAMES = [f"{number:06d}.jpg" for number in range(1, 4)]
PARTITION = "".join(f"{name} {code}\n" for code, name in enumerate(NAMES)).encode()
PARTITION_CSV = b"image_id,partition\n" + PARTITION.replace(b" ", b",")
MAPPING = b"idx orig_idx orig_file proj_md5 final_md5\n" + b"".join(
    f"{number}\t{number + 1}\t{name}\t{'0' * 32}\t{'f' * 32}\n".encode() for number, name in enumerate(NAMES)
)
IDENTITY = "".join(f"{name} {number}\n" for number, name in enumerate(NAMES)).encode()
BOXES = b"3\nimage_id x_1 y_1 width height\n" + "".join(f"{name} 1 2 10 20\n" for name in NAMES).encode()
IDS = ("a", "b", "c", "d")


def _celebamask(root: Path) -> None:
    (root / "CelebA-HQ-img").mkdir()
    (root / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    for number in range(3):
        (root / "CelebA-HQ-img" / f"{number}.jpg").write_bytes(PHOTO)
        mask = root / "CelebAMask-HQ-mask-anno" / "0" / f"{number:05d}_skin.png"
        mask.write_bytes(images.originals("PNG", ["L"])[0])


def _without_mapping(root: Path) -> None:
    _celebamask(root)
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_bytes(MAPPING)


def _without_partition(root: Path) -> None:
    _celebamask(root)
    (root / "list_eval_partition.txt").write_bytes(PARTITION)


def _wild(root: Path) -> None:
    (root / "img_celeba").mkdir()
    for name in NAMES:
        (root / "img_celeba" / name).write_bytes(PHOTO)


def _own(root: Path) -> None:
    (root / "classes.yaml").write_bytes(CLASSES[1])
    for name in IDS:
        for kind, suffix, content in (("images", "jpg", PHOTO), ("labels", "png", images.originals("PNG", ["L"])[0])):
            (root / kind).mkdir(exist_ok=True)
            (root / kind / f"{name}.{suffix}").write_bytes(content)
    for split, name in (("val", "c"), ("test", "d")):
        (root / f"{split}.txt").write_text(f"{name}\n")


def _manifest_file() -> str:
    """Path of the label manifest below its folder, which holds a digest of the ids."""
    with tempfile.TemporaryDirectory() as folder:
        return manifest(Path(folder), "lapa", list(IDS), 0.5, 0).path.relative_to(folder).as_posix()


def _celebamask_readers(root: Path) -> None:
    CelebAMaskHQ(root).samples("train")


def _photographs(root: Path) -> None:
    digest(photographs(root))


def _list_of_celeba(name: str, content: bytes) -> Form:
    return Form(f"celeba_{name}", name, lambda: [content], {"photographs": _photographs}, texts.table(" ,"), _wild)


def _list_of_hq(name: str, content: bytes) -> Form:
    form = name.replace("list_eval", "hq")
    return Form(form, name, lambda: [content], HQ_READERS, texts.table(" ,"), _without_mapping)


HQ_READERS = {
    "samples": _celebamask_readers,
    "survey": lambda root: CelebAMaskHQ(root).survey(ignored),
}
FORMS = (
    Form(
        "hq_mapping",
        "CelebA-HQ-to-CelebA-mapping.txt",
        lambda: [MAPPING],
        HQ_READERS,
        texts.table("\t "),
        _without_partition,
    ),
    _list_of_hq("list_eval_partition.txt", PARTITION),
    _list_of_hq("list_eval_partition.csv", PARTITION_CSV),
    _list_of_celeba("list_eval_partition.txt", PARTITION),
    _list_of_celeba("identity_CelebA.txt", IDENTITY),
    _list_of_celeba("list_bbox_celeba.txt", BOXES),
    Form(
        "split_list",
        "train.txt",
        lambda: [b"a\nb\n", b"\xef\xbb\xbfa\r\nb\r\n"],
        {
            "samples": lambda root: Folder(root).samples("train"),
            "survey": lambda root: Folder(root).survey(ignored),
        },
        texts.table(" "),
        _own,
    ),
    Form(
        "label_manifest",
        _manifest_file(),
        lambda: [b"a\nb\n"],
        {"manifest": lambda root: manifest(root, "lapa", list(IDS), 0.5, 0).digest},
        texts.table(" "),
    ),
)
