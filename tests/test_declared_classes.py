"""``classes.yaml`` and label maps in its colours: what they declare, what is refused, how classes map to other sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from datamodules.coloured_labels import ids_of_colours
from datamodules.declared_classes import read_classes
from datamodules.labels import CELEBAMASK_HQ, IGNORE, LAPA, LabelSet, recorded_classes, shared_classes
from datamodules.layouts import open_layout
from datamodules.layouts.folder import Folder
from datamodules.reading import read_label
from engine.settings import CONF
from foundation.errors import BrokenFileError, ConfigError, DataError

SIDE = 64
CLASSES: list[dict[str, Any]] = [
    {"name": "background", "id": 0, "color": [0, 0, 0]},
    {"name": "face", "id": 1, "color": [204, 0, 0]},
    {"name": "left_eye", "id": 2, "color": "#3333ff"},
    {"name": "right_eye", "id": 3, "color": [204, 0, 204]},
    {"name": "unsure", "id": 255, "color": [128, 128, 128]},
]
TO_LAPA = {"background": "background", "face": "skin", "left_eye": "left_eye", "right_eye": "right_eye"}
DECLARED: dict[str, Any] = {"name": "four", "classes": CLASSES, "pairs": [["left_eye", "right_eye"]]}
PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[[0, 1, 2, 3, 255]] = [[0, 0, 0], [204, 0, 0], [0x33, 0x33, 255], [204, 0, 204], [128, 128, 128]]


def label_map(seed: int) -> np.ndarray:
    """A face with two eyes, and pixels that are ignored."""
    ids = np.zeros((SIDE, SIDE), np.uint8)
    top = 8 + seed % 5
    ids[top : top + 40, 12:52] = 1
    ids[top + 8 : top + 14, 18:26] = 2
    ids[top + 8 : top + 14, 38:46] = 3
    ids[-3:, -3:] = IGNORE
    return ids


def add_face(root: Path, name: str, seed: int, label: str | None = "RGB", suffix: str = ".jpg") -> None:
    """An image, and its label map as ``RGB``, ``L`` or ``P``; None leaves it out."""
    ids = label_map(seed)
    noise = np.random.default_rng(seed).integers(0, 40, (SIDE, SIDE, 3))
    image = root / "images" / f"{name}{suffix}"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((PALETTE[ids] // 2 + noise).astype(np.uint8)).save(image)
    if label is None:
        return
    path = root / "labels" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(PALETTE[ids] if label == "RGB" else ids)
    if label == "P":
        photo = photo.convert("P")
        photo.putdata(ids.ravel().tolist())
        photo.putpalette(PALETTE.ravel().tolist())
    photo.save(path)


def declare(root: Path, **changes: Any) -> Path:
    path = root / "classes.yaml"
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(DECLARED | changes))
    return path


def entries(**changes: Any) -> list[dict[str, Any]]:
    """The classes, the second one changed."""
    return [CLASSES[0], CLASSES[1] | changes, *CLASSES[2:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"classes": None}, "no list of classes"),
        ({"classes": "face"}, "no list of classes"),
        ({"classes": [1]}, "has 1 as class 1"),
        ({"classes": entries(rgb=[1, 2, 3])}, "unknown key 'rgb' in class 2"),
        ({"classes": entries(name=True)}, "the name True in class 2(.|\n)*in quotes"),
        ({"classes": entries(name="a/b")}, "the name 'a/b' in class 2"),
        ({"classes": entries(name="left_eye")}, "the name left_eye twice"),
        ({"classes": entries(id=2)}, "the id 2 twice"),
        ({"classes": entries(id=7)}, r"the ids \[0, 2, 3, 7, 255\]\.\nExpected: 0, 1, 2"),
        ({"classes": entries(id="1")}, "the id '1' for face"),
        ({"classes": entries(color=[0, 0, 0])}, r"the color \[0, 0, 0\] for background and for face"),
        ({"classes": entries(color=[0, 0, 256])}, r"the color \[0, 0, 256\] for face"),
        ({"classes": entries(color=None)}, "no color for face"),
        ({"pairs": [["left_eye", "right_ey"]]}, "unknown class 'right_ey'(.|\n)*Did you mean right_eye"),
        ({"pairs": [["left_eye"]]}, "the pair \\['left_eye'\\]"),
        ({"pairs": [["left_eye", "left_eye"]]}, "left_eye twice in pairs"),
        ({"maps_to": {"LaPaz": TO_LAPA}}, "unknown class set 'LaPaz'(.|\n)*Did you mean lapa"),
        ({"maps_to": {"LaPa": TO_LAPA | {"face": "face"}}}, "of face to the unknown class 'face'"),
        ({"maps_to": {"LaPa": TO_LAPA | {"chin": "skin"}}}, "of the unknown class 'chin'"),
        ({"maps_to": {"LaPa": {"face": "skin"}}}, "without \\['background', 'left_eye', 'right_eye'\\]"),
        ({"left": "mine"}, "left: 'mine'"),
        ({"name": "LaPa"}, "that of a published class set"),
        ({"split_seed": -1}, "split_seed: -1"),
        ({"name": "x" * 70_000}, "larger than 65536 bytes"),
    ],
)
def test_mistakes_in_classes_yaml_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = declare(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as raised:
        Folder(tmp_path)
    assert str(raised.value).startswith(str(path))
    assert "Expected" in str(raised.value)


def test_the_classes_of_a_published_set_are_named(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("classes: LaPa\nname: mine\n")
    labels = Folder(tmp_path).labels
    assert (labels.is_same_as(LAPA), labels.name, labels.mirrored) == (True, "mine", LAPA.mirrored)
    path.write_text("classes: CelebAMask-HQ\n")
    assert Folder(tmp_path).labels.table_to(LAPA)[4] == LAPA.classes.index("right_eye")
    path.write_text("classes: lappa\n")
    with pytest.raises(DataError, match=r"no list of classes, but 'lappa'.\n.*Did you mean lapa"):
        Folder(tmp_path)
    path.write_text("classes: LaPa\npairs: [[left_eye, right_eye]]\n")
    with pytest.raises(DataError, match="has pairs next to classes: LaPa"):
        Folder(tmp_path)


def test_the_example_of_the_documentation_is_valid(tmp_path: Path) -> None:
    text = (CONF.parent / "docs" / "your_own_faces.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "classes.yaml").write_text(text)
    labels = read_classes(tmp_path / "classes.yaml").labels
    assert labels.table_to(LAPA)[:4].tolist() == [0, 1, 4, 5]
    assert labels.ignored_colour == (128, 128, 128)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "it is no YAML"),
        ("split_seed: " + ":".join(["1"] * 400) + ".5", "a number of more than 300 digits"),
        ("classes: [{name: a, id: 0x" + 40_000 * "f" + "}]", "a number of more than 300 digits"),
        ("a: &a [1]\nclasses: *a\n", "aliases"),
        ("!!python/object/apply:os.system ['true']", "it is no YAML"),
        ("[" * 60_000, "nested more than 8 deep"),
        ("just a text", "holds no keys"),
    ],
)
def test_an_invalid_classes_yaml_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        Folder(tmp_path)


def test_without_colours_label_maps_are_ids(tmp_path: Path) -> None:
    declare(tmp_path, classes=[{"name": entry["name"], "id": entry["id"]} for entry in CLASSES])
    labels = read_classes(tmp_path / "classes.yaml").labels
    assert len(set(labels.palette)) == 4
    add_face(tmp_path, "one", 1)
    with pytest.raises(BrokenFileError, match="is a RGB image"):
        read_label(tmp_path / "labels" / "one.png", labels)


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray], mode: str = "L") -> None:
    with Image.open(path) as file:
        pixels = change(np.array(file.convert(mode)))
    Image.fromarray(pixels).save(path)


def put(value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        pixels[5, 7:9] = value
        return pixels

    return change


def test_mistakes_in_label_maps_are_named(tmp_path: Path) -> None:
    declare(tmp_path)
    labels = open_layout("folder", tmp_path).labels

    def refused(message: str) -> None:
        with pytest.raises(BrokenFileError, match=message):
            read_label(path, labels)

    add_face(tmp_path, "one", 1)
    path = tmp_path / "labels" / "one.png"
    edit(path, put([1, 2, 3]), "RGB")
    refused(r"1 undeclared colours in 2 pixels: \[1, 2, 3\] \(2 pixels, first at x=7, y=5\)")
    edit(path, put([0, 0, 0, 9]), "RGBA")
    refused("2 transparent pixels, first at x=7, y=5")
    add_face(tmp_path, "one", 1, "L")
    edit(path, put(4))
    refused(r"class id 4.\nExpected ids 0\.\.3")
    add_face(tmp_path, "one", 1)
    with Image.open(path) as file:
        file.quantize(8).save(path)
    refused(r"index \d in the colour .*\nExpected: indices that are class ids")
    add_face(tmp_path, "one", 1, "L")
    declare(tmp_path, classes=CLASSES[:4])
    labels = open_layout("folder", tmp_path).labels
    refused("class id 255")
    path.write_bytes(path.read_bytes()[:60])
    refused("Cannot read the label map")
    edge = np.zeros((2, 2, 3), np.uint8)
    assert ids_of_colours(path, edge, labels).tolist() == [[0, 0], [0, 0]]


def test_class_sets_are_compared_in_one_that_both_map_to(tmp_path: Path) -> None:
    plain = read_classes(declare(tmp_path)).labels
    mapped = read_classes(declare(tmp_path, maps_to={"LaPa": TO_LAPA}, name="other")).labels
    assert shared_classes(LAPA, LAPA) is LAPA
    assert shared_classes(LAPA, CELEBAMASK_HQ) is shared_classes(CELEBAMASK_HQ, LAPA) is LAPA
    assert shared_classes(mapped, LAPA) is shared_classes(LAPA, mapped) is LAPA
    assert shared_classes(mapped, CELEBAMASK_HQ) is LAPA, "a third set"
    assert shared_classes(plain, mapped) is mapped, "the same classes, whatever they are called"
    assert mapped.table_to(LAPA)[[0, 1, 2, 3, IGNORE]].tolist() == [0, 1, 4, 5, IGNORE]
    for trained, data in ((plain, LAPA), (LAPA, plain), (plain, CELEBAMASK_HQ)):
        with pytest.raises(ConfigError, match=r"no mapping between the two is declared.\nExpected: .*maps_to"):
            shared_classes(trained, data)
    with pytest.raises(ConfigError, match="No mapping is declared from the classes of lapa to those of celebamask_hq"):
        LAPA.table_to(CELEBAMASK_HQ)


def test_a_checkpoint_keeps_its_classes(tmp_path: Path) -> None:
    labels = read_classes(declare(tmp_path, maps_to={"LaPa": TO_LAPA})).labels
    for one in (labels, LAPA, CELEBAMASK_HQ):
        assert LabelSet.from_plain(one.as_plain()) == one
    assert recorded_classes({"dataset": "folder", "class_set": labels.as_plain()}) == labels
    assert recorded_classes({"dataset": "lapa"}) is LAPA, "of a checkpoint from before they were kept"
    assert recorded_classes({"dataset": "folder"}) is None
