"""The face parser, and the transfer of weights between stages."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from models.encoders import EncoderError, encoder_state
from models.losses import parsing_loss
from models.parser import FaceParser, TransferPart, transfer

ENCODER = "tu-test_efficientnet"
"""timm's smallest encoder, made for tests."""


@pytest.fixture(scope="module")
def pretrained() -> FaceParser:
    torch.manual_seed(0)
    return FaceParser(3, ENCODER)


def test_shapes_and_the_single_convolutions(pretrained: FaceParser) -> None:
    parser = FaceParser(11, ENCODER).eval()
    image = torch.randn(2, 3, 64, 96)
    assert parser.trunk(image).shape == (2, 16, 64, 96)
    assert parser(image).shape == (2, 11, 64, 96)
    assert pretrained.head.weight.shape == (3, 16, 3, 3)
    assert parser.head.weight.shape == (11, 16, 3, 3)


@pytest.mark.slow
def test_is_unet_plus_plus_on_resnet50() -> None:
    ours = FaceParser(11)
    theirs = smp.UnetPlusPlus("resnet50", encoder_weights=None, classes=11)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    ours.trunk.encoder.load_state_dict(theirs.encoder.state_dict())
    ours.trunk.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.head.load_state_dict(theirs.segmentation_head[0].state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(image), theirs.eval()(image))


@pytest.mark.training
def test_one_overfitted_batch_to_which_every_parameter_contributes() -> None:
    parser = FaceParser(3, ENCODER)
    image = torch.randn(2, 3, 32, 32)
    label = (image[:, 0] > 0).long() + (image[:, 1] > 0.5).long()
    optimizer = torch.optim.AdamW(parser.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = parsing_loss(parser(image), label)
        loss.backward()
        if not losses:
            for name, parameter in parser.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.abs().sum() > 0, name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert (parser(image).argmax(dim=1) == label).float().mean() > 0.99


def test_saves_and_loads_as_weights_only(tmp_path: Path, pretrained: FaceParser) -> None:
    torch.save(pretrained.state_dict(), tmp_path / "weights.pt")
    other = FaceParser(3, ENCODER)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(other.eval()(image), pretrained.eval()(image))


@pytest.mark.parametrize(("part", "prefix"), [("trunk", "trunk."), ("encoder", "trunk.encoder.")])
def test_transfer_copies_only_its_part(pretrained: FaceParser, part: TransferPart, prefix: str) -> None:
    torch.manual_seed(1)
    target = FaceParser(11, ENCODER)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    source = {name: value + 1 for name, value in pretrained.state_dict().items()}
    matched = sum(name.startswith(prefix) for name in before)
    assert transfer(target, source, part) == f"{matched} tensors matched, 0 missing, 0 unexpected, 0 of another shape"
    for name, value in target.state_dict().items():
        expected = source[name] if name.startswith(prefix) else before[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("error", ["missing", "unexpected", "shape", "empty"])
def test_partial_match_is_refused_and_copies_nothing(pretrained: FaceParser, error: str) -> None:
    target = FaceParser(11, ENCODER)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    source = {name: value + 1 for name, value in pretrained.state_dict().items()}
    name = next(name for name in source if name.startswith("trunk.encoder.") and name.endswith("weight"))
    if error == "missing":
        del source[name]
    elif error == "unexpected":
        source["trunk.encoder.extra"] = torch.zeros(1)
    elif error == "shape":
        source[name] = source[name][:1]
    else:
        source = {}
    with pytest.raises(ValueError, match="does not fit"):
        transfer(target, source)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_encoder_weights_from_a_file(tmp_path: Path) -> None:
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    state = {**encoder.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "resnet18.pth")  # as torchvision publishes it
    loaded = encoder_state("resnet18", tmp_path / "resnet18.pth")
    parser = FaceParser(11, "resnet18", encoder_state=loaded)
    for name, value in parser.trunk.encoder.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name])
    with pytest.raises(EncoderError, match="does not fit resnet50"):
        encoder_state("resnet50", tmp_path / "resnet18.pth")


def test_encoder_weights_that_hold_code_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": print}, tmp_path / "evil.pth")
    with pytest.raises(EncoderError, match="free of code"):
        encoder_state("resnet18", tmp_path / "evil.pth")


def test_imagenet_without_internet_names_alternatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> list:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match=r"encoder_weights=null(.|\n)*encoder_weights=/path"):
        encoder_state("resnet18", "imagenet")


@pytest.mark.parametrize(
    ("architecture", "encoder"), [("deeplabv3plus", "resnet18"), ("segformer", "mit_b0"), ("linknet", "mobilenet_v2")]
)
def test_other_parsers_predict_at_the_size_of_the_image(architecture: Any, encoder: str) -> None:
    network = FaceParser(11, encoder, architecture=architecture)
    logits = network(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, 11, 64, 96)
    logits.square().mean().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    transfer(FaceParser(11, encoder, architecture=architecture), network.state_dict(), "all")
