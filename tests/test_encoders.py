"""Encoders: which ones serve an architecture at a size, and which files hold their weights."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor

from foundation.errors import ConfigError
from models.encoders import EncoderError, encoder_state, require_encoder, require_usable
from models.parser import FaceParser
from tests.conftest import run_training

State = dict[str, Tensor]
TINY = "tu-test_efficientnet"


@pytest.fixture(scope="module")
def resnet() -> State:
    torch.manual_seed(1)
    return dict(smp.encoders.get_encoder("resnet18", weights=None).state_dict())


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


SPELLINGS: dict[str, Callable[[State], Any]] = {
    "module.": lambda state: under("module.", state),
    "backbone. and a head": lambda state: under("backbone.", state) | {"head.weight": torch.zeros(9, 512)},
    "encoder. and a decoder": lambda state: under("encoder.", state) | {"decoder.weight": torch.zeros(9)},
    "model. within state_dict": lambda state: {"state_dict": under("model.", state), "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "a run's own best.ckpt": lambda state: {"state_dict": under("model.trunk.encoder.", state), "id": "x"},
    "compiled on several devices": lambda state: {"model": {"state_dict": under("module._orig_mod.", state)}},
    "a classifier": lambda state: state | {"fc.weight": torch.zeros(9, 512), "classifier.0.bias": torch.zeros(9)},
    "no counters": lambda state: {name: one for name, one in state.items() if not name.endswith("batches_tracked")},
    "half precision": lambda state: {name: one.half() if one.ndim else one for name, one in state.items()},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_weights_are_found_under_other_names(spelling: str, resnet: State, tmp_path: Path) -> None:
    torch.save(SPELLINGS[spelling](resnet), tmp_path / "weights.pth")
    loaded = encoder_state("resnet18", tmp_path / "weights.pth")
    found = FaceParser(2, "resnet18", encoder_state=loaded).trunk.encoder.state_dict()
    assert found.keys() == resnet.keys()
    for name, value in resnet.items():
        expected = torch.zeros_like(value) if name.endswith("batches_tracked") else value
        assert torch.allclose(found[name].float(), expected.float(), atol=1e-3), name


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_weights_of_timm_itself(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    own = timm.create_model(name).state_dict()
    torch.save(own, tmp_path / "timm.pth")
    loaded = encoder_state(f"tu-{name}", tmp_path / "timm.pth")
    assert loaded is not None
    weight = next(key for key, value in own.items() if value.ndim == 4)
    assert any(value.shape == own[weight].shape and torch.equal(value, own[weight]) for value in loaded.values())


def test_what_does_not_fit_is_counted(resnet: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(under("other.", resnet), path)
    with pytest.raises(EncoderError, match=r"0 of 120 tensors fit: 120 missing .*holds other\.bn1"):
        encoder_state("resnet18", path)
    names = ("layer1.0.conv1.weight", "layer1.0.conv2.weight")
    torch.save({name: value for name, value in resnet.items() if name not in names}, path)
    with pytest.raises(
        EncoderError, match=r"118 of 120 tensors fit: 2 missing \(such as layer1.0.conv1.weight, layer1"
    ):
        encoder_state("resnet18", path)
    torch.save(resnet | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    with pytest.raises(EncoderError, match=r"119 of 120 tensors fit: 1 of another shape .*\(64, 1, 7, 7\), not"):
        encoder_state("resnet18", path)


def test_a_deeper_network_is_not_cut_short(tmp_path: Path) -> None:
    torch.save(dict(smp.encoders.get_encoder("resnet34", weights=None).state_dict()), tmp_path / "resnet34.pth")
    with pytest.raises(EncoderError, match=r"120 of 120 tensors fit: 96 unexpected \(such as layer1.2"):
        encoder_state("resnet18", tmp_path / "resnet34.pth")


@pytest.mark.parametrize("content", [[1], {}, {"state_dict": 3}, {1: torch.zeros(2)}, {"conv1.weight": "x"}])
def test_a_file_without_weights(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match="does not hold encoder weights"):
        encoder_state("resnet18", tmp_path / "weights.pth")


@pytest.mark.slow
def test_invalid_values_and_a_file_that_inflates(resnet: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(resnet | {"conv1.weight": resnet["conv1.weight"] * torch.nan}, path)
    with pytest.raises(EncoderError, match=r"conv1\.weight are NaN"):
        encoder_state("resnet18", path)
    torch.save(resnet | {"more": torch.zeros(2**22)}, tmp_path / "plain.pth")
    small = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, small:
        for member in plain.infolist():
            small.writestr(member.filename, plain.read(member))
    with pytest.raises(EncoderError, match="would inflate"):
        encoder_state("resnet18", path)


def test_weights_from_before_zip_files(resnet: State, tmp_path: Path) -> None:
    torch.save(resnet, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    loaded = encoder_state("resnet18", tmp_path / "old.pth")
    assert loaded is not None
    assert torch.equal(loaded["conv1.weight"], resnet["conv1.weight"])


@pytest.mark.parametrize(
    ("encoder", "architecture", "size", "message"),
    [
        ("tu-test_vit", "unetplusplus", 64, r"does not work in unetplusplus at 64 px(.|\n)*model.encoder=resnet50"),
        pytest.param(
            *("tu-swin_tiny_patch4_window7_224", "unetplusplus", 64, r"(.|\n)*image_size=224 is the size that tu-swin"),
            marks=pytest.mark.slow,
        ),
        ("tu-vit_tiny_patch16_224", "linknet", 64, r"linknet at 64 px(.|\n)*architecture=dpt takes tu-vit_tiny"),
        ("tu-hf-hub:someone/x", "unetplusplus", 64, "does not exist"),
    ],
)
def test_an_encoder_that_cannot_serve(encoder: str, architecture: str, size: int, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        require_usable(encoder, architecture, size)


@pytest.mark.parametrize(
    ("encoder", "architecture", "size"),
    [(TINY, "unetplusplus", 32), ("mit_b0", "segformer", 64), ("tu-vit_tiny_patch16_224", "dpt", 64)],
)
def test_an_encoder_that_serves_changes_no_random_state(encoder: str, architecture: str, size: int) -> None:
    require_usable.cache_clear()
    before = torch.get_rng_state()
    require_usable(encoder, architecture, size)
    assert torch.equal(before, torch.get_rng_state())
    require_encoder(encoder, architecture)


def test_the_command_says_so_before_anything_is_trained(lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not work in unetplusplus at 32 px"):
        run_training("mtl_lapa_10pct", lapa, tmp_path, "model.encoder=tu-test_vit", "model.encoder_weights=null")
    assert not (tmp_path / "runs").exists()
