"""ImageNet weights of EfficientNet-Lite0 out of a package: names, logits, normalisation, id and messages."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from datamodules.transforms import MEAN, STD
from foundation.errors import ConfigError
from models.encoders import EncoderError, encoder_state
from models.packaged_weights import PACKAGED, Packaged, PackageError, packaged_file, renamed
from models.weights import read_weights
from tests.conftest import skip
from tests.training_runs import planned

NAME, ENCODER = "imagenet_lite0", "tu-tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def file() -> Path:
    try:
        return packaged_file(NAME, ENCODER)
    except PackageError as error:
        skip(str(error))
        raise


def test_logits_are_those_of_the_packages_own_network(file: Path) -> None:
    """timm's network with the renamed weights, and the implementation that the file was written for."""
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        skip("the package efficientnet-lite-pytorch, of the extra dev, is not installed")
    implementation = importlib.import_module("efficientnet_lite_pytorch")
    state = read_weights(file, before_zip=True)
    own = implementation.EfficientNet.from_name("efficientnet-lite0").eval()
    own.load_state_dict(state)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(renamed(state, list(network.state_dict())))
    image = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected, found = own(image), network(image)
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_encoder_is_that_network_up_to_its_last_map(file: Path) -> None:
    network: Any = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(renamed(read_weights(file, before_zip=True), list(network.state_dict())))
    encoder = smp.encoders.get_encoder(ENCODER, weights=None).eval()
    encoder.load_state_dict(encoder_state(ENCODER, NAME))
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps = network.blocks(network.bn1(network.conv_stem(image)))
        assert torch.equal(encoder(image)[-1], maps)


@pytest.mark.usefixtures("file")
def test_it_sees_the_projects_normalisation() -> None:
    """An image in the project's normalisation gives the maps of the same image in that of the weights."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    colours = torch.rand(2, 3, 64, 64)
    as_trained, fitted = (smp.encoders.get_encoder(ENCODER, weights=None).eval() for _ in range(2))
    as_trained.load_state_dict(encoder_state(ENCODER, NAME))
    fitted.load_state_dict(encoder_state(ENCODER, NAME, normalization=(MEAN, STD)))
    stems = [
        encoder.model.bn1(encoder.model.conv_stem(image))
        for encoder, image in ((as_trained, (colours - 0.5) / 0.5), (fitted, (colours - mean) / std))
    ]
    torch.testing.assert_close(stems[1][..., :-1, :-1], stems[0][..., :-1, :-1], rtol=1e-4, atol=1e-4)
    # The convolution of stride 2 pads the last row and column: with zero, which is grey there and the mean colour here.
    mean_colour = ((mean - 0.5) / 0.5).expand(2, 3, 66, 66).clone()
    mean_colour[..., :64, :64] = (colours - 0.5) / 0.5
    padded = as_trained.model.bn1(as_trained.model.conv_stem(mean_colour))[..., :32, :32]
    torch.testing.assert_close(stems[1], padded, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("file")
def test_it_enters_the_id_by_content(lapa: Path, tmp_path: Path) -> None:
    own = {"model.encoder": ENCODER, "model.encoder_weights": NAME}
    pretrain, finetune = planned(lapa, tmp_path, **own)
    entry = pretrain.identity["settings"]["model.encoder_weights"]
    assert entry.startswith(f"{NAME} ")
    assert len(entry) > len(NAME) + 10
    assert "model.encoder_weights" not in finetune.identity["settings"]
    state = {
        key.removeprefix("model.trunk.encoder."): value
        for key, value in pretrain.stage.module(pretrain).state_dict().items()
    }
    expected = encoder_state(ENCODER, NAME, normalization=(MEAN, STD))
    assert expected is not None
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_another_encoder_is_refused(lapa: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"imagenet_lite0 are weights of tu-tf_efficientnet_lite0, not of resnet18"):
        planned(lapa, tmp_path, **{"model.encoder": "resnet18", "model.encoder_weights": NAME})


def test_a_missing_package_is_one_message(lapa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Packaged("no-such-model", "no_such_model", "weights.pth", ENCODER)
    monkeypatch.setitem(PACKAGED, NAME, absent)
    own = {"model.encoder": ENCODER, "model.encoder_weights": NAME}
    with pytest.raises(ConfigError, match=r"no-such-model is not installed\.\n.*halfmask\[imagenet\]"):
        planned(lapa, tmp_path, **own)
    with pytest.raises(EncoderError, match="is not installed"):
        encoder_state(ENCODER, NAME)


def test_a_damaged_file_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "damaged_model"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(PACKAGED, NAME, Packaged("damaged-model", "damaged_model", "weights.pth", ENCODER))
    with pytest.raises(EncoderError, match=r"has no weights\.pth"):
        encoder_state(ENCODER, NAME)
    for content in ({"_conv_stem.weight": torch.zeros(3)}, [1]):
        torch.save(content, folder / "weights.pth")
        with pytest.raises(EncoderError, match="does not fit tu-tf_efficientnet_lite0"):
            encoder_state(ENCODER, NAME)
    (folder / "weights.pth").write_bytes(b"rubbish")
    with pytest.raises(EncoderError, match="cannot be read"):
        encoder_state(ENCODER, NAME)
