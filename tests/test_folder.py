"""A folder of one's own images and classes: what it may look like, what is refused, and a training with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.preparation import prepare
from datamodules.cache import Cache
from datamodules.faces import ParsingDataModule
from datamodules.labels import LAPA
from datamodules.layouts import open_layout
from datamodules.reading import read_label
from datamodules.transforms import Augmentation
from deploy import load
from deploy.prediction import overlay
from engine.planning import data_digest, digest_cache
from engine.settings import CONF
from engine.stage import Run
from foundation.digests import DigestCache, digest_of_files
from foundation.errors import BrokenFileError, ConfigError, DataError
from reports.page import write_report
from tests.conftest import PANELS, run_training
from tests.test_declared_classes import CLASSES, PALETTE, SIDE, TO_LAPA, add_face, declare, edit, label_map, put
from tests.test_evaluation import scored


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty labelled images, in colours and as ids, nested, of several formats; ten unlabelled ones. Read only."""
    root = tmp_path_factory.mktemp("data") / "my_faces"
    declare(root, maps_to={"LaPa": TO_LAPA})
    suffixes = (".jpg", ".JPEG", ".png", ".webp", ".BMP")
    for number in range(30):
        add_face(root, f"day{number % 2}/{number:02}", number, ("RGB", "L", "P")[number % 3], suffixes[number % 5])
    for number in range(30, 40):
        add_face(root, f"new/{number}", number, None)
    return root


@pytest.fixture
def copy(faces: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(faces, tmp_path / "copy"))


def ids_of(root: Path, split: str, labelled: bool = True) -> list[str]:
    return [sample.id for sample in open_layout("folder", root).samples(split, labelled)]


def test_labels_are_read_alike_in_colours_and_as_ids(faces: Path, tmp_path: Path) -> None:
    layout = open_layout("folder", faces)
    samples = layout.samples("all")
    assert layout.labels.classes == ("background", "face", "left_eye", "right_eye")
    assert (layout.labels.mirrored, layout.labels.name) == (((2, 3),), "four")
    files = [(sample.id, sample.label) for sample in samples if sample.label is not None]
    cache = Cache("disk", tmp_path, lambda some: digest_of_files(tmp_path / "d.sqlite", some))
    packed = cache.labels(files, layout.labels)
    for index, sample in enumerate(samples):
        assert sample.label is not None
        expected = label_map(int(sample.id[-2:]))
        assert np.array_equal(read_label(sample.label, layout.labels), expected)
        assert np.array_equal(packed(index), expected)
    assert len({Image.open(sample.label).mode for sample in samples if sample.label}) == 3


def test_a_pack_of_other_colours_is_another_pack(faces: Path, copy: Path, tmp_path: Path) -> None:
    def pack(root: Path) -> None:
        layout = open_layout("folder", root)
        files = [(sample.id, sample.label) for sample in layout.samples("test") if sample.label is not None]
        Cache("disk", tmp_path / "packs", lambda _: "same").labels(files, layout.labels)

    pack(faces)
    other = {2: [204, 0, 204], 3: "#3333ff"}
    exchanged = [entry | {"color": other.get(entry["id"], entry["color"])} for entry in CLASSES]
    for path in (copy / "labels").rglob("*.png"):
        Image.fromarray(PALETTE[label_map(int(path.stem))]).save(path)
    declare(copy, classes=exchanged)
    pack(copy)
    assert len(list((tmp_path / "packs").glob("*.pack"))) == 2


def test_the_random_split_is_by_ids_alone_and_stable(faces: Path, copy: Path) -> None:
    splits = {split: set(ids_of(faces, split)) for split in ("train", "val", "test")}
    assert [len(ids) for ids in splits.values()] == [24, 3, 3]
    assert len(set().union(*splits.values())) == 30
    unlabelled = {f"new/{number}" for number in range(30, 40)}
    assert set(ids_of(faces, "train", labelled=False)) == splits["train"] | unlabelled
    assert set(ids_of(faces, "val", labelled=False)) == splits["val"]
    assert {split: set(ids_of(copy, split)) for split in splits} == splits, "wherever it lies"
    add_face(copy, "one_more", 99)
    moved = [name for split, ids in splits.items() for name in ids - set(ids_of(copy, split))]
    assert len(moved) <= 2, "one across each border"
    declare(copy, split_seed=1)
    assert set(ids_of(copy, "test")) != splits["test"]


def test_a_split_by_lists(copy: Path) -> None:
    for split, numbers in (("train", range(20)), ("val", range(20, 24)), ("test", range(24, 28))):
        (copy / f"{split}.txt").write_text("".join(f"day{number % 2}/{number:02}\n" for number in numbers) + "\n")
    assert [len(ids_of(copy, split)) for split in ("train", "val", "test", "all")] == [20, 4, 4, 28]
    assert len(ids_of(copy, "train", labelled=False)) == 30, "unlabelled images need no list"
    (copy / "train.txt").write_text("new/30\n")
    with pytest.raises(DataError, match="has 10 images of the split train, none with a label map"):
        ids_of(copy, "train")


def test_a_split_by_folders(tmp_path: Path) -> None:
    declare(tmp_path)
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        for number in range(count):
            add_face(tmp_path / split, str(number), number)
    add_face(tmp_path / "train", "nobody", 5, None)
    assert [len(ids_of(tmp_path, split)) for split in ("train", "val", "test", "all")] == [3, 1, 1, 5]
    assert len(ids_of(tmp_path, "train", labelled=False)) == 4
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(DataError, match=r"no image of the split val.\n.*<split>/images"):
        ids_of(tmp_path, "val")


def digest(root: Path, cache: Path, labelled: bool = True) -> str:
    with DigestCache(digest_cache(cache)) as digests:
        return data_digest(open_layout("folder", root), ("train", "val", "test"), labelled, digests)


def test_identity_holds_classes_and_labels(faces: Path, copy: Path, tmp_path: Path) -> None:
    before, unlabelled = digest(faces, tmp_path), digest(faces, tmp_path, labelled=False)
    assert digest(copy, tmp_path) == before
    declare(copy, maps_to={"lapa": TO_LAPA}, name="renamed")
    assert digest(copy, tmp_path) == before, "names and mappings change no training"
    declare(copy, pairs=[])
    changed = {digest(copy, tmp_path)}
    declare(copy, classes=[entry | {"name": entry["name"].upper()} for entry in CLASSES], pairs=[])
    changed.add(digest(copy, tmp_path))
    assert digest(copy, tmp_path, labelled=False) == unlabelled, "pre-training reads no labels"
    declare(copy)
    path = next((copy / "labels").rglob("*.png"))
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(path)
    changed.add(digest(copy, tmp_path))
    assert len(changed | {before}) == 4


def test_mirror_images_exchange_declared_pairs(faces: Path) -> None:
    layout = open_layout("folder", faces)
    data = ParsingDataModule(layout, SIDE, 4, 0, Augmentation(flip=1.0), workers=0)
    item = data.train_dataloader().dataset[(0, 0, 0)]
    expected = label_map(int(item["id"][-2:]))[:, ::-1]
    label = item["label"].numpy()
    assert np.array_equal(label == 2, expected == 3)
    assert np.array_equal(label == 3, expected == 2)


def test_mistakes_in_a_folder_are_named(copy: Path, tmp_path: Path) -> None:
    def refused(message: str, split: str = "train") -> None:
        with pytest.raises(DataError, match=message):
            ids_of(copy, split)

    with pytest.raises(DataError, match=r"nowhere does not exist(.|\n)*classes\.yaml, images"):
        open_layout("folder", tmp_path / "nowhere")
    (copy / "images" / "day0" / "00.png").write_bytes((copy / "images" / "day0" / "00.jpg").read_bytes())
    refused(r"Two files of one name in .*day0: 00\.jpg and 00\.png")
    (copy / "images" / "day0" / "00.png").unlink()
    (copy / "val.txt").write_text("day0/00\n")
    refused(r"train\.txt cannot be read(.|\n)*one id a line")
    for split, name in (("train", "day1/01"), ("test", "day0/nobody")):
        (copy / f"{split}.txt").write_text(f"{name}\n")
    refused(r"test\.txt, line 1: 'day0/nobody' names no image")
    (copy / "test.txt").write_text("day0/00\n")
    refused(r"test\.txt, line 1: 'day0/00' is in val\.txt already")
    (copy / "test.txt").write_text("")
    refused("no image of the split test", "test")
    (copy / "train" / "images").mkdir(parents=True)
    refused("folders for the splits and images and train.txt and val.txt and test.txt")
    shutil.rmtree(copy / "train")
    for split in ("train", "val", "test"):
        (copy / f"{split}.txt").unlink()
    (copy / "labels" / "day0" / "00_mask.png").write_bytes((copy / "labels" / "day0" / "00.png").read_bytes())
    refused(r"1 of 31 label maps in .* have no image, the first is 00_mask\.png")
    (copy / "labels" / "day0" / "00_mask.png").rename(copy / "labels" / "day0" / "00.jpg")
    refused(r"00\.jpg is no PNG")
    (copy / "classes.yaml").unlink()
    refused(r"classes\.yaml cannot be read \(No such file")


def test_too_few_images_for_a_random_split(tmp_path: Path) -> None:
    declare(tmp_path)
    with pytest.raises(DataError, match="images does not exist"):
        ids_of(tmp_path, "train")
    add_face(tmp_path, "one", 1)
    with pytest.raises(DataError, match=r"no image of the split val.\n.*at least 3 labelled images"):
        ids_of(tmp_path, "val")


def test_a_label_map_of_another_size_is_named(copy: Path) -> None:
    layout = open_layout("folder", copy)
    path = layout.samples("test")[0].label
    assert path is not None
    Image.new("L", (SIDE, SIDE - 1)).save(path)
    data = ParsingDataModule(layout, SIDE, 4, 0, Augmentation(), workers=0)
    with pytest.raises(BrokenFileError, match=rf"{path} is 64x63 pixels, its image 64x64"):
        data.require_scored_faces()


def test_the_audit_finds_broken_files(copy: Path, tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    broken = {"unreadable_image": copy / "images/new/33.jpg", "unreadable_label": copy / "labels/day0/02.png"}
    for path in broken.values():
        path.write_bytes(path.read_bytes()[:50])
    edit(copy / "labels/day1/01.png", put(9))
    edit(copy / "labels/day1/03.png", put([9, 9, 9]), "RGB")
    words = ("task=audit", "dataset=folder", f"root={copy}", f"out={tmp_path / 'audit'}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        prepare(compose("prepare", overrides=list(words)))
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["unreadable_image"] == ["new/33"]
    assert sorted(found["unreadable_label"]) == ["day0/02", "day1/03"]
    assert found["unknown_ids"] == ["day1/01"]
    assert (found["faces"], found["missing_label"]) == (40, [])
    assert set(found["classes"]) == {"background", "face", "left_eye", "right_eye"}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def runs(faces: Path, output: Path) -> list[Run]:
    """A pre-training and a fine-tuning on a folder, done."""
    return run_training("mtl_folder", faces, output, "label_fraction=0.5", "datamodule.cache=ram", *PANELS)


@pytest.mark.training
def test_training_prediction_and_report(runs: list[Run], faces: Path, output: Path, tmp_path: Path) -> None:
    pretrain, finetune = runs
    assert len(finetune.manifest.ids if finetune.manifest else ()) == 12
    status = finetune.folder.status
    assert status["state"] == pretrain.folder.status["state"] == "done"
    assert {"test/iou/face", "test/iou/left_eye"} <= status["metrics"].keys()
    assert (status["dataset"], status["data_name"]) == ("folder", "four")
    assert len(list((finetune.folder.panels / "test").glob("*.prediction.png"))) == 3
    (again,) = run_training("mtl_folder", faces, output, "label_fraction=0.5")[1:]
    assert again.folder.path == finetune.folder.path

    moved = shutil.copy(finetune.folder.best, tmp_path / "moved.ckpt")
    for checkpoint in (finetune.folder.path, moved):
        predictor = load(str(checkpoint), faces="whole")
        assert predictor.labels.classes == ("background", "face", "left_eye", "right_eye")
        assert predictor.labels.palette[1] == (204, 0, 0)
        image = np.zeros((40, 40, 3), np.uint8)
        masks = predictor.predict(image)
        masks.label[:] = 1
        assert overlay(image, masks)[0, 0].tolist() == [102, 0, 0], "in the declared colour"

    report = write_report(output)
    page = report.read_text() if isinstance(report, Path) else (output / "report" / "index.html").read_text()
    assert "IoU by class, four (real)" in page
    assert "#3333ff" in page, "the legend has the declared colours"


@pytest.mark.training
def test_a_baseline_of_another_experiment_takes_the_folder(faces: Path, output: Path) -> None:
    words = ("datamodule=folder", "finetune.epochs=1")
    (run,) = run_training("baseline_lapa_10pct", faces, output, *words)
    assert run.folder.done
    assert run.folder.status["labelled"] == 2


@pytest.mark.training
def test_evaluation_in_its_own_and_in_mapped_classes(
    runs: list[Run], faces: Path, lapa: Path, output: Path, tmp_path: Path, parser_runs: list[Run]
) -> None:
    parser = (f"checkpoint={runs[-1].folder.path}", f"output_dir={output}")
    own = scored(*parser, "dataset=folder", f"root={faces}").status
    its = {name: value for name, value in runs[-1].folder.status["metrics"].items() if name.startswith("test/")}
    assert own["metrics"] == pytest.approx(its, abs=1e-6, nan_ok=True)
    assert (own["classes"], own["data_name"], own["trained_data_name"]) == ("four", "four", "four")
    other = scored(*parser, "dataset=lapa", f"root={lapa}").status
    assert (other["classes"], other["dataset"]) == ("lapa", "lapa")
    assert {f"test/iou/{name}" for name in LAPA.classes} <= other["metrics"].keys()
    assert other["metrics"]["test/iou/nose"] == 0, "the network has no such class"
    lapas = f"checkpoint={parser_runs[-1].folder.path}"
    back = scored(lapas, f"output_dir={output}", "dataset=folder", f"root={faces}")
    assert (back.status["classes"], back.status["trained_dataset"]) == ("lapa", "lapa")

    elsewhere = declare(tmp_path, maps_to={"lapa": TO_LAPA | {"face": "hair"}})
    changed = scored(*parser, "dataset=lapa", f"root={lapa}", f"classes={elsewhere}").status
    assert changed["id"] != other["id"]
    assert changed["metrics"]["test/iou/skin"] == 0
    declare(tmp_path, classes=CLASSES[:2], pairs=[])
    with pytest.raises(ConfigError, match=r"declares background, face; finetune-\w+ has background, face, left_eye"):
        scored(*parser, "dataset=lapa", f"root={lapa}", f"classes={elsewhere}")


@pytest.mark.training
def test_classes_without_a_mapping_are_refused(
    runs: list[Run], copy: Path, celebamask: Path, output: Path, parser_runs: list[Run]
) -> None:
    declare(copy)
    words = (f"checkpoint={parser_runs[-1].folder.path}", f"output_dir={output}", "dataset=folder", f"root={copy}")
    before = sorted((output / "runs").iterdir())
    message = r"finetune-\w+ does not go with .*11 classes of lapa, .*4 classes of four(.|\n)*\{lapa: \{<class of four>"
    with pytest.raises(ConfigError, match=message):
        scored(*words)
    declare(copy, classes=[*CLASSES[:3], CLASSES[3] | {"name": "other"}], pairs=[])
    with pytest.raises(ConfigError, match="no mapping between the two is declared"):
        scored(f"checkpoint={runs[-1].folder.path}", f"output_dir={output}", "dataset=folder", f"root={copy}")
    assert sorted((output / "runs").iterdir()) == before
    start = (f"finetune.start_from={runs[-1].folder.path}", "finetune.transfer=all", "label_fraction=0.5")
    with pytest.raises(ConfigError, match="The classes must be equal, so that the"):
        run_training("baseline_folder", copy, output, "method=transfer", *start)
    # Both map to LaPa's classes, which are a third set.
    words = (
        f"checkpoint={runs[-1].folder.path}",
        f"output_dir={output}",
        "dataset=celebamask_hq",
        f"root={celebamask}",
    )
    assert scored(*words, "dataset=celebamask_hq").status["classes"] == "lapa"
