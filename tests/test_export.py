"""Exported files: same predictions as the trained network, metadata, loading; foreign files are refused."""

from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from callbacks.checkpoints import load as load_checkpoint
from datamodules.labels import OCCLUSION
from deploy.export import EQUAL, LOSS, Agreement, _require_equal, export
from deploy.predictor import load
from engine.settings import CONF
from engine.stage import Run
from foundation.errors import ConfigError, DataError, RunError
from lightning_modules.exported import METADATA, load_exported
from models.deployed import Deployed, lean
from models.layers import BatchInstanceNorm2d, SelfAttention
from models.unet import Decoder, Encoder, ModifiedUNet
from tests.conftest import ROOT, copied
from tests.test_evaluation import scored


def run_export(*words: str) -> Path:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return export(compose("export", overrides=["rounds=0", "workers=0", *words]))


def paths_in(file: Path) -> list[str]:
    """Absolute paths of this machine in a file or in a record of an archive."""
    contents = {file.name: file.read_bytes()}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            contents |= {name: archive.read(name) for name in archive.namelist()}
    folders = {str(folder).encode() for folder in (ROOT, Path.home(), Path(torch.__file__).parent.parent, file.parent)}
    return [f"{name}: {folder!r}" for name, content in contents.items() for folder in folders if folder in content]


def metrics(*words: str) -> dict[str, float]:
    return scored(*words, "panels=0").status["metrics"]


class Small(nn.Module):
    """Every layer type of the modified UNet at least once; exported in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner = Encoder(3, 8, attention=False, kernel=3), Encoder(8, 8, attention=True, kernel=3)
        self.decoder, self.head = Decoder(8, 8, 3), nn.Conv2d(8, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip, x = self.outer(image)  # [N, 8, S, S], [N, 8, S/2, S/2]
        deep, _ = self.inner(x)  # [N, 8, S/2, S/2]
        return self.head(self.decoder(deep, skip))


@pytest.fixture(scope="module")
def small_run(segmenter_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A segmenter run whose network is a :class:`Small` one."""
    (run,) = copied([segmenter_run], tmp_path_factory.mktemp("small"))
    content = load_checkpoint(run.folder.best)
    network = as_if_trained(Small())
    content["state_dict"] = {f"model.{name}": weights for name, weights in network.state_dict().items()}
    torch.save(content, run.folder.best)
    return run


@pytest.fixture
def small(small_run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("lightning_modules.occlusion.build_network", lambda *_: Small())
    return small_run


def as_if_trained(network: nn.Module) -> nn.Module:
    """The network in evaluation mode, with random values instead of the initial zeros and ones."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, BatchInstanceNorm2d):
            for values in (layer.rho, layer.weight, layer.running_mean, layer.running_var):
                nn.init.uniform_(values, 0.2, 1)
            nn.init.normal_(layer.bias)
        if isinstance(layer, SelfAttention):
            nn.init.constant_(layer.gamma, 0.7)
    return network.eval()


def test_exported_layers_equal_the_trained_ones() -> None:
    network = as_if_trained(ModifiedUNet(base_width=8))
    image = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(lean(network)(image), network(image), rtol=1e-4, atol=1e-4)
    kinds = {type(module) for module in lean(network).modules()}
    assert not kinds & {BatchInstanceNorm2d, SelfAttention}
    assert any(isinstance(module, SelfAttention) for module in network.modules()), "the original stays"


def test_images_of_any_size_are_resized() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    network = nn.Conv2d(3, 2, 1)
    image = torch.randint(0, 256, (2, 50, 40, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits = Deployed(network, 32, mean, std)(image)
        resized = nn.functional.interpolate(image.permute(0, 3, 1, 2) / 255, size=(32, 32), mode="bilinear")
        expected = network((resized - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.training
@pytest.mark.parametrize(
    ("network", "form", "precision"),
    [
        ("modified UNet", "onnx", "fp32"),
        ("small", "onnx", "int8"),
        ("small", "onnx", "fp16"),
        ("small", "torchscript", "fp32"),
    ],
)
def test_a_segmenter_is_exported_and_loaded(
    network: str,
    form: str,
    precision: str,
    masked: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if network == "small":
        run: Run = request.getfixturevalue("small")
    else:
        (run,) = copied([request.getfixturevalue("segmenter_run")], tmp_path)
    monkeypatch.setitem(LOSS, precision, 1.0)  # two steps of training decide nothing
    monkeypatch.setitem(EQUAL, precision, 0.9)
    data = (f"root={masked}", f"output_dir={run.folder.output_dir}")
    trained = f"checkpoint={run.folder.name}"
    loud = logging.getLogger().level
    file = run_export(trained, *data, f"format={form}", f"precision={precision}")
    assert logging.getLogger().level == loud, "exporters are silenced for as long as they work"
    stated = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert stated["classes"] == list(OCCLUSION.classes)
    assert stated["agreement"]["equal"] > 0.9
    assert [path for path in file.parent.iterdir() if path.name.startswith(".")] == [], "nothing half-made stays"
    assert not paths_in(file), "no path of the machine that exported"
    image = np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)
    if form == "torchscript":
        with pytest.raises(ConfigError, match="is a TorchScript file"):
            load(str(file), faces="whole")
        return
    faces = ("dataset=augmented_celeba", *data)
    ours, theirs = metrics(trained, *faces), metrics(f"checkpoint={file}", *faces)
    assert abs(ours["test/accuracy"] - theirs["test/accuracy"]) < (0.05 if precision == "int8" else 0.01)
    masks = load(str(file), faces="whole").predict(image)
    assert masks.label.shape == (80, 60)
    with pytest.raises(ConfigError, match="is an exported file"):
        run_export(f"checkpoint={file}", *data)
    with pytest.raises(ConfigError, match="was exported for"):
        load(str(file), faces="whole", image_size=96).predict(image)


def test_a_parser_is_exported_with_its_classes(parser_runs: list[Run], lapa: Path, tmp_path: Path) -> None:
    parser = parser_runs[-1]
    file = run_export(
        f"checkpoint={parser.folder.path}", f"root={lapa}", f"output_dir={tmp_path}", f"out={tmp_path / 'p.onnx'}"
    )
    content = load_exported(file)
    assert content["dataset"] == "lapa"
    stated = json.loads(file.with_name("p.onnx.json").read_text())
    assert len(stated["classes"]) == 11
    assert stated["agreement"]["equal"] > 0.9999
    ours, theirs = (
        metrics(f"checkpoint={path}", "dataset=lapa", f"root={lapa}", f"output_dir={tmp_path}")
        for path in (parser.folder.path, file)
    )
    assert abs(ours["test/pixel_accuracy"] - theirs["test/pixel_accuracy"]) < 1e-4
    with pytest.raises(ConfigError, match="classes of lapa"):
        run_export(f"checkpoint={parser.folder.path}", "dataset=celebamask_hq", f"output_dir={tmp_path}")


def test_an_export_with_other_predictions_is_refused(
    small: Run, masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = Deployed.forward
    monkeypatch.setattr(Deployed, "forward", lambda self, image: -true(self, image))
    words = (f"checkpoint={small.folder.path}", f"root={masked}", f"output_dir={tmp_path}")
    with pytest.raises(RunError, match="predictions of the exported network differ"):
        run_export(*words, f"out={tmp_path / 'wrong.torchscript'}", "format=torchscript")
    with pytest.raises(ConfigError, match=r"ends in \.torchscript"):
        run_export(*words, f"out={tmp_path / 'wrong.onnx'}", "format=torchscript")
    assert list(tmp_path.glob("wrong*")) == []


@pytest.mark.parametrize(("equal", "miou", "fine"), [(0.99, 0.496, True), (0.99, 0.494, False)])
def test_int8_may_cost_half_a_point(equal: float, miou: float, fine: bool) -> None:
    found = Agreement(faces=70, difference=1.0, equal=equal, trained_miou=0.5, miou=miou)
    if fine:
        _require_equal(found, "int8")
    else:
        with pytest.raises(RunError, match=r"falls by 0\.60 points"):
            _require_equal(found, "int8")


@pytest.mark.process
def test_latencies_are_measured_in_separate_processes(
    segmenter_run: Run, masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forking = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("forkserver"))  # spawning takes long
    monkeypatch.setattr("deploy.latency.multiprocessing", forking)
    monkeypatch.setattr("deploy.latency.THREADS", (1,))
    monkeypatch.setattr("deploy.latency.BATCHES", (8,))
    words = (f"checkpoint={segmenter_run.folder.path}", f"root={masked}", f"output_dir={tmp_path}", "rounds=2")
    file = run_export(*words, "format=torchscript")
    rows = json.loads(file.with_name(f"{file.name}.json").read_text())["latency"]
    assert {(row["network"], row["batch"]) for row in rows} == {
        (name, 8) for name in ("PyTorch, as trained", file.name)
    }
    assert all(row["median_ms"] > 0 and row["p95_ms"] >= row["median_ms"] for row in rows)


def test_other_files_are_refused_and_not_run(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Identity", ["image"], ["logits"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "logits")]
    model = helper.make_model(helper.make_graph(nodes, "other", ends[:1], ends[1:]), ir_version=10)
    model.opset_import[0].version = 17
    onnx.save_model(model, tmp_path / "other.onnx")
    with pytest.raises(DataError, match="no metadata of this project"):
        load(str(tmp_path / "other.onnx"), faces="whole")
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x0a")
    with pytest.raises(DataError, match=r"torn\.onnx"):
        load(str(tmp_path / "torn.onnx"), faces="whole")
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (ran,)  # type: ignore[return-value]

    (tmp_path / "trap.ckpt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"trap\.ckpt"):
        load(str(tmp_path / "trap.ckpt"), faces="whole")
    assert not ran.exists()
    assert METADATA == "halfmask"


class Intruder(nn.Module):
    """As TorchScript, it overwrites a file as it is loaded. TorchScript reads no annotations that are strings."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.register_buffer("taken", torch.zeros(4, dtype=torch.uint8))

    @torch.jit.export
    def __getstate__(self):
        return self.path

    @torch.jit.export
    def __setstate__(self, state):
        # type: (str) -> None
        self.path = state
        self.training = False
        self.taken = torch.from_file(self.path, True, 4, dtype=torch.uint8).fill_(0)

    def forward(self, image):
        return image


@pytest.mark.parametrize("name", ["other.torchscript", "best.ckpt", "other.pt", "other"])
def test_torchscript_is_refused_and_not_run(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    torch.jit.save(torch.jit.script(Intruder(str(victim))), tmp_path / name)
    for load_it in (
        lambda: load(str(tmp_path / name), faces="whole"),
        lambda: load_checkpoint(tmp_path / name),
        lambda: metrics(f"checkpoint={tmp_path / name}", "dataset=lapa", f"output_dir={tmp_path}"),
        lambda: run_export(f"checkpoint={tmp_path / name}", f"output_dir={tmp_path}"),
    ):
        with pytest.raises(ConfigError, match=r"is a TorchScript file.*\nIt must be the run"):
            load_it()
    assert victim.read_bytes() == b"mine"
    torch.jit.load(tmp_path / name)
    assert victim.read_bytes() == bytes(4), "the file is dangerous indeed"


def test_nothing_loads_torchscript() -> None:
    sources = [file for file in ROOT.rglob("*.py") if not {".venv", "tests"} & {*file.relative_to(ROOT).parts}]
    assert len(sources) > 100
    assert [file.name for file in sources if "jit.load" in file.read_text(encoding="utf-8")] == []


def test_drafts_of_a_killed_export_are_removed(small: Run, masked: Path, tmp_path: Path) -> None:
    (tmp_path / ".net.torchscript.1.tmp").mkdir()
    (tmp_path / ".net.torchscript.1.tmp" / "network.torchscript").touch()
    (tmp_path / ".net.torchscript.json.1.tmp").touch()
    (tmp_path / ".net.torchscript.lock").touch()
    out = tmp_path / "net.torchscript"
    words = (f"checkpoint={small.folder.path}", f"root={masked}", f"output_dir={tmp_path}", "format=torchscript")
    with FileLock(tmp_path / ".net.torchscript.lock"), pytest.raises(ConfigError, match="is in use by another command"):
        run_export(*words, f"out={out}")
    run_export(*words, f"out={out}")
    assert sorted(path.name for path in tmp_path.glob("*net*")) == ["net.torchscript", "net.torchscript.json"]


def test_int8_needs_onnx(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format=onnx"):
        run_export("checkpoint=x", "format=torchscript", "precision=int8", f"output_dir={tmp_path}")
