"""The occlusion paper's layers against their definitions, its networks against its number of parameters.

tests/test_comparators.py checks that every parameter is trained and that weights can be saved and loaded.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.occlusion import initialize
from models.layers import BatchInstanceNorm2d, ConvBlock, SelfAttention, clamp_rho, folded
from models.unet import BaseUNet, ModifiedUNet

NETWORKS = {"modified": ModifiedUNet, "base": BaseUNet}


def trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(3, 16, 7, 5, generator=torch.Generator().manual_seed(0)) * 3 + 10


def test_the_published_number_of_parameters_block_by_block() -> None:
    network = ModifiedUNet(count="paper")
    expected = {
        "encoders": (10_144, 55_424, 221_440, 295_168, 1_180_160),  # EN1-EN5
        "bottleneck": (2_359_808, 2_359_808),  # BN1, BN2
        "decoders": (8_128_000, 2_294_528, 573_824, 143_552, 35_936),  # DEC5-DEC1
    }
    for name, counts in expected.items():
        assert tuple(trainable(block) for block in network.get_submodule(name).children()) == counts, name
    assert trainable(network.head) == 33
    assert trainable(network) == 17_657_825


def test_number_of_parameters_of_other_configurations() -> None:
    network = ModifiedUNet()
    for kind, count in ((SelfAttention, 102_882), (BatchInstanceNorm2d, 12_672)):
        assert sum(trainable(layer) for layer in network.modules() if isinstance(layer, kind)) == count
    assert trainable(network) == 17_657_825 + 102_882 + 12_672 == 17_773_379
    second = 512 * 512 * 9 + 512 + 3 * 512
    assert trainable(ModifiedUNet(bottleneck_convs=2)) == 17_773_379 + 2 * second
    kernels = sum(value.numel() for value in network.decoders.parameters() if value.shape[2:] == (3, 3))
    assert trainable(ModifiedUNet(decoder_kernel=2)) == 17_773_379 - kernels * 5 // 9
    assert trainable(BaseUNet()) == 31_031_745  # Ronneberger et al., one class


def test_at_rho_1_it_is_batch_norm(maps: Tensor) -> None:
    ours, reference = BatchInstanceNorm2d(16), nn.BatchNorm2d(16)
    for _ in range(3):
        assert torch.allclose(ours(maps), reference(maps), atol=1e-5)
    for name in ("running_mean", "running_var"):
        assert torch.allclose(ours.get_buffer(name), reference.get_buffer(name), atol=1e-4)
    assert torch.allclose(ours.eval()(maps), reference.eval()(maps), atol=1e-5)


def test_at_rho_0_it_is_instance_norm(maps: Tensor) -> None:
    ours = BatchInstanceNorm2d(16)
    nn.init.zeros_(ours.rho)
    for layer in (ours.train(), ours.eval()):
        assert torch.allclose(layer(maps), F.instance_norm(maps), atol=1e-5)


def test_in_between_it_is_the_published_mixture(maps: Tensor) -> None:
    ours = BatchInstanceNorm2d(16)
    for parameter in (ours.rho, ours.weight, ours.bias):
        nn.init.uniform_(parameter)
    rho, gamma, beta = (parameter.view(1, -1, 1, 1) for parameter in (ours.rho, ours.weight, ours.bias))
    batch = F.batch_norm(maps, None, None, training=True)
    expected = (rho * batch + (1 - rho) * F.instance_norm(maps)) * gamma + beta
    assert torch.allclose(ours(maps), expected, atol=1e-5)


def test_gradients_are_correct() -> None:
    layer = BatchInstanceNorm2d(4).double()
    nn.init.uniform_(layer.rho)
    maps = torch.randn(2, 4, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (maps,))


def test_rho_stays_within_0_and_1() -> None:
    block = ConvBlock(3, 4)
    rho = block.get_parameter("1.rho")
    with torch.no_grad():
        rho.copy_(torch.tensor([-0.5, 0.25, 1.5, 1.0]))
    clamp_rho(block)
    assert rho.tolist() == [0.0, 0.25, 1.0, 1.0]


def test_attention_is_that_of_sagan(maps: Tensor) -> None:
    layer = SelfAttention(16)
    assert torch.equal(layer(maps), maps), "gamma is 0 at first"
    nn.init.constant_(layer.gamma, 0.5)
    f, g, h = (projection(maps).flatten(2) for projection in (layer.query, layer.key, layer.value))  # [N, C', HW]
    weights = torch.einsum("ncq,nck->nqk", f, g).softmax(dim=-1)
    expected = maps + 0.5 * torch.einsum("nqk,nck->ncq", weights, h).reshape(maps.shape)
    assert torch.allclose(layer(maps), expected, atol=1e-4)
    with pytest.raises(ValueError, match="multiple of 8"):
        SelfAttention(12)


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_a_convolution_has_spectral_norm_1_and_keeps_the_size(kernel: int) -> None:
    torch.manual_seed(0)  # power iteration is slow where two singular values are close
    block = ConvBlock(4, 6, kernel)
    images = torch.randn(2, 4, 9, 8)
    for _ in range(100):  # a step of power iteration each
        assert block(images).shape == (2, 6, 9, 8)
    weight = folded(block).get_parameter("0.weight")
    norm = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    assert norm.item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("kind", ["xavier", "he", "normal"])
def test_spectral_norm_follows_reinitialised_weights(kind: str) -> None:
    block = ConvBlock(4, 6)
    initialize(block, kind)
    norm = torch.linalg.matrix_norm(folded(block).get_parameter("0.weight").flatten(1), ord=2)
    assert norm.item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_any_multiple_of_32(name: str, size: tuple[int, int]) -> None:
    network = NETWORKS[name](8).eval()
    assert network(torch.randn(2, 3, *size)).shape == (2, 1, *size)
    with pytest.raises(ValueError, match="100x96 pixels"):
        network(torch.randn(1, 3, 96, 100))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_prediction_does_not_depend_on_its_batch(name: str) -> None:
    network = NETWORKS[name](8)
    images = torch.randn(4, 3, 64, 64)
    network(images)  # running statistics
    network.eval()
    with torch.no_grad():
        assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-5)


def test_folding_keeps_outputs_and_the_original() -> None:
    network = ModifiedUNet(base_width=8)
    images = torch.randn(2, 3, 64, 64)
    network(images)
    network.eval()
    plain = folded(network)
    with torch.no_grad():
        assert torch.allclose(network(images), plain(images), atol=1e-6)
    assert not any("parametrizations" in key for key in plain.state_dict())
    assert any("parametrizations" in key for key in network.state_dict())
    network.train()(images).sum().backward()  # the original can still be trained with its norm
    assert all(parameter.grad is not None for parameter in network.parameters())
