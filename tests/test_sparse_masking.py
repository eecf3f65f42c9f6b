"""Sparse masked modelling: an encoder that sees visible pixels alone, and the loss on masked units."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.sparse_encoder import MaskedBatchNorm, see_only_visible
from models.sparse_masking import (
    SparseAutoencoder,
    patchify,
    sample_units,
    unit_loss,
    unit_reconstruction,
    unpatchify,
)

ENCODERS = ("tu-test_efficientnet", "tu-test_convnext", "tu-test_resnet", "resnet18")
"""Inverted residuals with squeeze and excitation, layer normalisation of the last axis, ResNets with max pooling."""
UNITS, SIZE = 8, 64


def masks(count: int = 2, size: int = SIZE) -> Tensor:
    return sample_units(torch.arange(count), UNITS, 0.6, size)


def built(name: str) -> nn.Module:
    torch.manual_seed(1)
    encoder = smp.encoders.get_encoder(name, weights=None)
    for name, value in encoder.named_buffers():
        if name.endswith("running_mean"):
            value.uniform_(-1, 1)
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.bias, -1, 1)  # so that it yields no zero by itself
    return encoder


def test_units_are_masked_completely_in_any_batch() -> None:
    mask = masks(5)
    assert mask.shape == (5, 1, 64, 64)
    values = patchify(mask, UNITS)
    assert torch.equal(values.amin(dim=2), values.amax(dim=2)), "a unit is masked or visible as one"
    assert values[..., 0].sum(dim=1).tolist() == [round(0.6 * 64)] * 5
    assert torch.equal(mask[3:4], sample_units(torch.tensor([3]), UNITS, 0.6, 64))
    assert not torch.equal(mask[0], mask[1])
    often = sample_units(torch.arange(200), UNITS, 0.6, 8).mean(dim=0)
    assert 0.45 < often.min() < often.max() < 0.75, "anywhere in the image"
    assert sample_units(torch.arange(3), 2, 0.99, 32).mean(dim=(1, 2, 3)).tolist() == [0.75] * 3, "one unit is visible"


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_features_do_not_depend_on_masked_pixels(name: str, training: bool) -> None:
    """With the masked pixels replaced, an encoder yields the same maps, zero where they are masked."""
    encoder = built(name).train(training)
    visible = see_only_visible(encoder)
    image, other, mask = torch.randn(2, 3, SIZE, SIZE), 100 * torch.randn(2, 3, SIZE, SIZE), masks()
    with torch.no_grad(), visible.within(1 - mask):
        first = encoder(image)
        second = encoder(torch.where(mask.bool(), other, image))
        (active,) = {maps.shape[-1]: visible.at(maps)[0] for maps in first if maps.shape[-1] == 8}.values()
    assert torch.equal(active, 1 - mask[:, :, ::8, ::8]), "at stride 8 a position is a unit"
    for level, (one, two) in enumerate(zip(first, second, strict=True)):
        assert torch.equal(one, two), level
    for maps in first:
        if maps.shape[1] and maps.shape[-1] >= 8:  # ConvNeXt has no map of stride 2
            inactive = F.interpolate(mask, size=maps.shape[-2:]).expand_as(maps).bool()
            assert not maps[inactive].any()
            assert maps[~inactive].any()


@pytest.mark.parametrize("name", ENCODERS)
def test_with_nothing_masked_it_is_the_dense_encoder(name: str) -> None:
    dense = built(name).eval()
    sparse = copy.deepcopy(dense)
    visible = see_only_visible(sparse)
    image = torch.randn(2, 3, SIZE, SIZE)
    assert sparse.state_dict().keys() == dense.state_dict().keys()
    with torch.no_grad(), visible.within(torch.ones(2, 1, SIZE, SIZE)):
        for one, other in zip(dense(image), sparse(image), strict=True):
            assert torch.equal(one, other)
    with torch.no_grad():
        for one, other in zip(dense.train()(image), sparse.train()(image), strict=True):
            assert torch.equal(one, other), "outside of the block, in training too"


def test_masked_regions_do_not_shrink() -> None:
    """Layers as a sparse convolution defines them: what is computed at a masked position is never read."""
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
    layers = [first, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), last]
    network = nn.Sequential(*layers).eval()
    nn.init.uniform_(layers[1].bias, 1, 2)  # type: ignore[arg-type]
    image, mask = torch.randn(2, 3, 16, 16), sample_units(torch.arange(2), 4, 0.6, 16)
    fine, coarse = 1 - mask, 1 - mask[:, :, ::2, ::2]
    expected = image * fine
    for layer, active in zip(layers, [fine, fine, fine, coarse, coarse], strict=True):
        expected = layer(expected) * active
    visible = see_only_visible(network)
    with torch.no_grad(), visible.within(fine):
        assert torch.equal(network(image), expected)


@pytest.mark.parametrize("name", ["tu-test_convnext", "tu-test_resnet"])
def test_what_stands_at_masked_positions_is_never_read(name: str) -> None:
    """Layers of one position, as of ConvNeXt's blocks, yield something there; it is replaced by noise."""
    encoder, mask = built(name).train(), masks()
    visible = see_only_visible(encoder)

    def disturb(_: nn.Module, __: object, output: Tensor) -> Tensor:
        last = output.ndim == 4 and output.shape[1] == output.shape[2] != output.shape[3]  # channels are last
        maps = output.permute(0, 3, 1, 2) if last else output
        changed = maps + 100 * torch.randn_like(maps) * (1 - visible.at(maps)[0])
        return changed.permute(0, 2, 3, 1) if last else changed

    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad(), visible.within(1 - mask):
        expected = encoder(image)
        for layer in encoder.modules():
            if not list(layer.children()):
                layer.register_forward_hook(disturb)
        for one, other in zip(expected, encoder(image), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_statistics_are_those_of_visible_positions(kind: torch.dtype) -> None:
    """As of a dense normalisation of the visible positions, gathered: values, gradients and running statistics."""
    mask = masks(3, 32)[:, :, ::4, ::4]  # [3, 1, 8, 8]
    places = (mask[:, 0] == 0).nonzero(as_tuple=True)
    maps: Any = (2 * torch.randn(3, 5, 8, 8) + 3).to(kind).requires_grad_()
    gathered: Any = maps.detach()[places[0], :, places[1], places[2]].clone().requires_grad_()  # [visible, 5]
    dense, masked = nn.BatchNorm1d(5), nn.BatchNorm2d(5)
    for layer in (dense, masked):
        nn.init.constant_(layer.weight, 0.7)
        nn.init.constant_(layer.bias, 0.3)
    visible = see_only_visible(masked)
    with visible.within(1 - mask):
        found = masked(maps)
    expected = dense(gathered)
    target = torch.randn(expected.shape).to(kind)
    (found[places[0], :, places[1], places[2]] * target).sum().backward()
    (expected * target).sum().backward()
    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4} if kind == torch.float32 else {"rtol": 0.02, "atol": 0.05}
    torch.testing.assert_close(found[places[0], :, places[1], places[2]], expected, **near)
    assert not found[mask.expand_as(found).bool()].any()
    torch.testing.assert_close(maps.grad[places[0], :, places[1], places[2]], gathered.grad, **near)
    assert not maps.grad[mask.expand_as(maps).bool()].any()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(masked, name), getattr(dense, name), **near)
    torch.testing.assert_close(masked.weight.grad, dense.weight.grad, **near)
    torch.testing.assert_close(masked.bias.grad, dense.bias.grad, **near)


@pytest.mark.parametrize("affine", [True, False])
def test_gradients_of_the_masked_normalisation(affine: bool) -> None:
    mask = 1 - masks(2, 8)[:, :, ::2, ::2].double()
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    own = [torch.rand(3, dtype=torch.float64, requires_grad=True) for _ in range(2)] if affine else [None, None]
    apply = lambda maps, *own: MaskedBatchNorm.apply(maps, mask, mask.sum(), *own, 1e-5)[0]  # noqa: E731
    assert torch.autograd.gradcheck(apply, (maps, *own))


def test_a_single_visible_position_is_no_error() -> None:
    layer: Any = nn.BatchNorm2d(2)
    visible = see_only_visible(layer)
    pixels = torch.zeros(1, 1, 4, 4)
    pixels[..., 1, 2] = 1
    with visible.within(pixels):
        found = layer(torch.randn(1, 2, 4, 4))
    assert found.isfinite().all()
    assert layer.running_var.isfinite().all()


def test_patches_and_back() -> None:
    image = torch.randn(2, 3, 32, 32)
    values = patchify(image, 8)
    assert values.shape == (2, 64, 48)
    assert torch.equal(values[1, 9].view(3, 4, 4), image[1, :, 4:8, 4:8]), "units row by row, channel by channel"
    assert torch.equal(unpatchify(values, 8), image)


def test_the_loss_is_on_masked_units_with_their_own_mean_and_deviation() -> None:
    image, mask = 3 * torch.randn(2, 3, 32, 32) + 5, masks(2, 32)
    values = patchify(image, UNITS)
    normalised = (values - values.mean(dim=2, keepdim=True)) / (values.var(dim=2, keepdim=True) + 1e-6).sqrt()
    target = unpatchify(normalised, UNITS)
    assert unit_loss(target, image, mask, UNITS) < 1e-10
    wrong_where_visible = torch.where(mask.bool(), target, 99.0)
    assert unit_loss(wrong_where_visible, image, mask, UNITS) < 1e-10
    assert unit_loss(target + 2 * mask, image, mask, UNITS).item() == pytest.approx(4, rel=1e-4)
    one = mask.clone()
    one[:, :, 4:] = 0  # fewer masked units, of the first row; the mean is over these
    assert unit_loss(target + 2 * one, image, one, UNITS).item() == pytest.approx(4, rel=1e-4)
    prediction: Any = torch.randn(2, 3, 32, 32, requires_grad=True)
    unit_loss(prediction, image, mask, UNITS).backward()
    assert not prediction.grad[~mask.expand_as(image).bool()].any()
    restored = unit_reconstruction(wrong_where_visible, image, mask, UNITS)
    torch.testing.assert_close(restored, image, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["tu-test_efficientnet", "tu-test_convnext"])
def test_the_autoencoder_sees_visible_pixels_alone_and_learns_every_part(name: str) -> None:
    network = SparseAutoencoder(name, 32)
    image, mask = torch.randn(2, 3, SIZE, SIZE), masks()
    found = network(image, mask)
    assert found.shape == image.shape
    again = copy.deepcopy(network)(torch.where(mask.bool(), torch.randn_like(image), image), mask)
    assert torch.equal(found, again), "a copy has masks of its own"
    unit_loss(found, image, mask, UNITS).backward()
    idle = {key for key, value in network.named_parameters() if value.grad is not None and not value.grad.any()}
    assert idle == {"densify.0.token"}, "each of the coarsest positions has a visible unit"


@pytest.mark.slow
def test_it_fits_a_few_images() -> None:
    torch.manual_seed(0)
    network = SparseAutoencoder("tu-test_efficientnet", 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    phase = torch.tensor([[0], [1], [2], [3]])
    stripes = (((torch.arange(32) + phase) // 4) % 2).float().view(4, 1, 1, 32).expand(4, 3, 32, 32) - 0.5
    mask, losses = masks(4, 32), []
    for _ in range(30):
        loss = unit_loss(network(stripes, mask), stripes, mask, UNITS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
