"""All occlusion segmenters by the same tests, and properties of single ones."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F

from callbacks.checkpoints import load
from deploy.export import export
from deploy.predictor import load as load_predictor
from engine.settings import CONF, group_options
from foundation.errors import ConfigError
from lightning_modules.occlusion_comparators import TRAINED_BY, segmentation
from models import parser
from models.comparators import COMPARATORS, published_encoder
from models.comparators.instances import boxes_of, union
from models.comparators.mask_then_classify import offsets
from models.comparators.unet_id import targets
from models.comparators.yolo_loss import Predictions, assign_positions, detection_losses, mask_loss
from models.cost import flops, megabytes, milliseconds
from stages.command import check, plan
from stages.finetuning import ARCHITECTURES
from stages.segmentation import DETECTORS, NETWORKS, OWN_LOSS, WITH_ENCODER
from tests.conftest import run_training, settings_of
from tests.segmenters import segmenter

INSTALLED = [name for name in NETWORKS if name != "yolo_ultralytics" or find_spec("ultralytics")]
COMPARED = [name for name in INSTALLED if name in COMPARATORS]
"""Without the UNets, which tests/test_unet.py covers."""
ADAM = {"name": "adam", "lr": 2e-3, "beta1": 0.9, "weight_decay": 0.0}


def module(network: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    changes = {"optimizer": ADAM} | changes
    built = segmentation(**dict(segmenter().hparams) | {"network": network} | changes)
    built.log_dict = built.log = lambda *_, **__: None  # type: ignore[method-assign, assignment] # there is no trainer
    return built


def faces(count: int = 4, size: int = 32) -> tuple[Tensor, Tensor]:
    """Noise with a brighter box, and the box as its label; the last image has none."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, 3, size, size, generator=generator)
    label = torch.zeros(count, size, size, dtype=torch.long)
    side = size // 16
    for place in range(count - 1):
        label[place, (4 + place) * side : 14 * side, 2 * side : (10 + place) * side] = 1
        image[place] += 2 * label[place]
    return image, label


def test_the_names_in_the_schema_exist() -> None:
    assert set(COMPARATORS) | {"modified_unet", "base_unet"} == set(NETWORKS)
    assert set(OWN_LOSS) == set(TRAINED_BY)
    assert {name for name in NETWORKS if published_encoder(name, 64)} == set(WITH_ENCODER)
    assert set(ARCHITECTURES) <= set(parser.smp.MODEL_ARCHITECTURES_MAPPING)
    assert set(group_options("model")) == set(NETWORKS) | set(ARCHITECTURES)


@pytest.mark.parametrize("network", COMPARED)
def test_any_multiple_of_32_and_no_dependence_on_the_batch(network: str) -> None:
    built = module(network).eval()
    for height, width in ((32, 32), (64, 96)):
        images = torch.randn(3, 3, height, width)
        with torch.no_grad():
            together, alone = built(images), built(images[1:2])
        assert together.shape == (3, 1, height, width)
        assert torch.isfinite(together).all()
        assert torch.allclose(together[1:2], alone, atol=1e-3)


LEARNT: dict[str, dict[str, Any]] = {
    "map_module": {"width": 4, "iou": 0.85},
    "modified_unet": {"lr": 5e-3},
    "unet_id": {"lr": 5e-3, "iou": 0.9},
    "maskplus": {"iou": 0.8},
    "segformer": {"size": 64},  # at smaller sizes a query has one key
    "yolo": {"size": 64, "lr": 5e-3, "iou": 0.8},
    "yolo_ultralytics": {"size": 64, "iou": 0.8, "steps": 400},
}
"""Settings with which a network overfits a batch quickly; predicting only the interiors has an IoU of 0.79."""


@pytest.mark.training
@pytest.mark.parametrize("network", INSTALLED)
def test_one_overfitted_batch_to_which_every_parameter_contributes(network: str) -> None:
    setup = {"size": 32, "width": 8, "lr": 2e-3, "iou": 0.95, "steps": 200} | LEARNT.get(network, {})
    built = module(network, width=setup["width"], optimizer=ADAM | {"lr": setup["lr"]})
    optimizer = built.configure_optimizers()["optimizer"]
    image, label = faces(3, setup["size"])
    fixed = "dfl.conv.weight"  # of the package ultralytics: the numbers 0 to 15
    trained = {name: value for name, value in built.named_parameters() if not name.endswith(fixed)}
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in trained.values()}
    moved: set[str] = set()

    def differentiated() -> float:
        """Compute the loss of the batch and its gradients."""
        optimizer.zero_grad()
        loss = built.training_loss(image, label)
        loss.backward()
        moved.update(name for name, value in trained.items() if value.grad is not None and value.grad.any())
        return loss.item()

    losses: list[float] = []
    iou = 0.0
    while iou < setup["iou"] and len(losses) < setup["steps"]:
        for _ in range(5):
            losses.append(differentiated())
            optimizer.step()
            built.on_train_batch_end(None, None, 0)
        with torch.no_grad():
            found, expected = built.eval()(image).squeeze(1) > 0, label == 1
        built.train()
        iou = float((found & expected).sum() / (found | expected).sum())
    assert iou >= setup["iou"]
    assert losses[-1] < losses[0]
    for assigned in range(3) if "yolo" in network else ():  # only the level whose boxes fit best is assigned
        for place, level in enumerate(built.model.box if network == "yolo" else built.model.network.model[-1].cv2):
            wide = round(20 / 8 / 2**place) if place == assigned else 0
            level[-1].bias.data.copy_(20 * F.one_hot(torch.full((4,), max(wide, int(place == assigned))), 16).flatten())
        differentiated()
    assert trained.keys() - moved == set()


@pytest.mark.parametrize("network", INSTALLED)
def test_a_batch_without_occlusion_can_be_trained_on(network: str) -> None:
    image, label = faces()
    loss = module(network).training_loss(image[-1:].repeat(2, 1, 1, 1), label[-1:].repeat(2, 1, 1))
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.slow
@pytest.mark.parametrize("network", INSTALLED)
def test_weights_come_back_from_a_file_without_code(network: str, tmp_path: Path) -> None:
    built, other = module(network).eval(), module(network, initialization="he").eval()
    torch.save(built.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    image, _ = faces(1)
    with torch.no_grad():
        assert torch.equal(built(image), other(image))


@pytest.mark.slow
@pytest.mark.parametrize("network", [name for name in INSTALLED if name not in (*DETECTORS, "modified_unet")])
def test_pixel_by_pixel_networks_can_be_exported(network: str) -> None:
    """The modified UNet is exported in full in test_export."""
    built, (image, _) = module(network).model.eval(), faces(2)
    with torch.no_grad():
        program = torch.export.export(built, (image,)).module()
        assert torch.allclose(program(image), built(image), atol=1e-4)


@pytest.mark.slow
def test_published_weights_fit_their_encoders() -> None:
    for network in WITH_ENCODER:
        encoder = published_encoder(network, None)
        assert encoder is not None
        with torch.device("cpu" if network == "segformer" else "meta"):  # only shapes are compared
            published = parser.smp.encoders.get_encoder(encoder, weights=None).state_dict()
            own = COMPARATORS[network]().get_submodule("encoder").state_dict()
        assert {name: value.shape for name, value in own.items()} == {
            name: value.shape for name, value in published.items()
        }
    assert published_encoder("facial_mask_detector", 8) is None


def test_settings_that_do_not_go_with_a_network_are_refused() -> None:
    words = ("experiment=occlusion_celeba", "model=unet_id")
    with pytest.raises(ConfigError, match="does not go with unet_id"):
        check(settings_of(*words, "trainer.compile=true"))
    with pytest.raises(ConfigError, match="uses the initialisation of its authors"):
        check(settings_of(*words, "segment.initialization=he"))


@pytest.mark.slow
def test_weights_of_vgg_at_another_width_are_refused(masked: Path, tmp_path: Path) -> None:
    words = ("model=facial_mask_detector", "segment.encoder_weights=imagenet", "segment.width=8")
    where = (f"datamodule.root={masked}", f"output_dir={tmp_path}")
    (run,) = plan(check(settings_of("experiment=occlusion_celeba", *where, *words)))
    with pytest.raises(ConfigError, match=r"does not fit segment\.width=8"):
        run.stage.module(run)


def test_the_generator_is_not_moved_by_the_discriminators_loss() -> None:
    built, (image, label) = module("map_module"), faces()
    built.training_loss(image, label).backward()
    together = [p.grad.clone() for p in built.discriminator.parameters()]
    built.zero_grad()
    real = (2.0 * (label == 1).unsqueeze(1)) - 1
    generated = torch.tanh(built(image) / 2).detach()
    for logits, target in ((built.discriminator(real), 1.0), (built.discriminator(generated), 0.0)):
        F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target)).backward()
    for found, expected in zip(together, built.discriminator.parameters(), strict=True):
        assert expected.grad is not None
        assert torch.allclose(found, expected.grad, atol=1e-6)


def test_boxes_offsets_borders_and_unions() -> None:
    occluded = torch.zeros(2, 1, 32, 32)
    occluded[0, 0, 8:16, 4:24] = 1
    assert boxes_of(occluded)[0].tolist() == [[4.0, 8.0, 24.0, 16.0]]
    assert boxes_of(occluded)[1].shape == (0, 4)
    offset = offsets(occluded)
    assert offset[0, :, 12, 4].tolist() == pytest.approx(
        [9.5 / 32, -0.5 / 32]
    )  # the centre is (14, 12), this is (4.5, 12.5)
    assert not offset[1].any()
    found = targets(occluded)
    assert found["mask"] is occluded
    assert found["border"].sum() == 10 * 22 - 6 * 18
    assert found["interior"].sum() == 6 * 18
    two = torch.stack([torch.full((4, 4), -3.0), torch.full((4, 4), 2.0)])
    assert (union(two, (4, 4)) == 2).all()
    assert (union(two[:0], (4, 4)) < 0).all()


def test_the_yolo_losses_equal_those_of_ultralytics() -> None:
    pytest.importorskip("ultralytics", reason="ultralytics, which is under AGPL-3.0, is not installed")
    theirs, (image, label) = module("yolo_ultralytics").model, faces()
    label[0, 42:58, 6:42] = 1  # cuts cells of 4 px in half
    occluded = (label == 1).unsqueeze(1).float()
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.9
    with torch.no_grad():
        for _ in range(5):
            theirs(image)  # with initial statistics all positions would be alike
        theirs.eval()
        expected = theirs.losses(image, occluded)
        found = detection_losses(theirs._predict(image), occluded, boxes_of(occluded))
    for name, their_name in (("box", "box_loss"), ("mask", "seg_loss"), ("score", "cls_loss"), ("sides", "dfl_loss")):
        assert float(found[name]) == pytest.approx(float(expected[their_name]), rel=1e-4), name
    assert found["mask"] > 10, "the masks are not trivial"


def test_the_mask_loss_averages_over_the_pixels_of_the_box() -> None:
    occluded = torch.zeros(1, 64, 64)
    occluded[0, 42:58, 6:42] = 1  # in cells of 4 px, edges at 1.5, 10.5, 10.5 and 14.5: half cells count
    box = torch.tensor([6.0, 42, 42, 58])
    ground_truth = torch.zeros(16, 16)
    ground_truth[10:15, 1:11] = 1
    ground_truth[[10, 10, 14, 14], [1, 10, 1, 10]] = 0  # a quarter of the cell at each corner
    for logits, expected in ((torch.zeros(2, 16, 16), 0.6931), ((40 * ground_truth - 20).expand(2, 16, 16), 0.0)):
        assert mask_loss(logits, occluded, box).tolist() == pytest.approx([expected] * 2, abs=1e-4)


def test_a_box_is_assigned_to_its_best_aligned_positions() -> None:
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    anchors = torch.stack([columns, rows], dim=2).reshape(-1, 2) * 8.0 + 4
    ground_truth = torch.tensor([8.0, 8.0, 40.0, 32.0])
    boxes = ground_truth.expand(64, 4) + torch.arange(64.0)[:, None] / 16
    chosen, scores = assign_positions(torch.zeros(64), boxes, ground_truth, anchors)
    assert len(chosen) == 10
    assert ((anchors[chosen] > ground_truth[:2]) & (anchors[chosen] < ground_truth[2:])).all()
    assert scores.argmax() == chosen.argmin()  # the nearest box
    assert len(assign_positions(torch.zeros(64), boxes, torch.tensor([1.0, 1.0, 2.0, 2.0]), anchors)[0]) == 0


def test_boxes_are_decoded_from_distances() -> None:
    sides = torch.full((1, 1, 4, 16), -50.0)
    for side, bins in enumerate((1, 2, 3, 4)):
        sides[0, 0, side, bins] = 50.0
    found = Predictions(
        torch.zeros(1, 1),
        sides,
        torch.zeros(1, 1, 2),
        torch.zeros(1, 2, 4, 4),
        torch.tensor([[40.0, 40.0]]),
        torch.tensor([[8.0]]),
    )
    assert found.boxes()[0, 0].tolist() == pytest.approx([32, 24, 64, 72])


def test_costs_of_a_convolution() -> None:
    network = torch.nn.Conv2d(3, 4, 3, padding=1)
    assert flops(network, 32) == 2 * 3 * 4 * 9 * 32 * 32
    assert megabytes(network) == pytest.approx(4 * (3 * 4 * 9 + 4) / 1e6)


def test_flops_do_not_depend_on_the_dtype() -> None:
    network = torch.nn.Conv2d(3, 4, 3, padding=1)
    single = flops(network, 32)
    assert flops(network.double(), 32) == single
    assert milliseconds(network, 32, rounds=1) > 0


@pytest.mark.training
@pytest.mark.parametrize("network", ["map_module", "yolo", "mask_then_classify"])
def test_a_run_of_each_lightning_module_is_scored_and_predicts(network: str, masked: Path, tmp_path: Path) -> None:
    words = (f"model={network}", "segment.epochs=1")
    (run,) = run_training("occlusion_celeba", masked, tmp_path, *words)
    status = run.folder.status
    assert (status["network"], status["state"]) == (network, "done")
    assert 0 <= status["metrics"]["test/miou"] <= 1
    assert status["flops"] > 0
    assert status["latency_ms"] > 0
    weights = load(run.folder.best)["state_dict"]
    inferring = sum(value.numel() for name, value in weights.items() if name.startswith("model."))
    assert status["parameters"] <= inferring
    image = (255 * torch.rand(70, 50, 3)).byte().numpy()
    assert load_predictor(str(run.folder.path), faces="whole").predict(image).label.shape == (70, 50)
    if network in DETECTORS:
        where = [f"checkpoint={run.folder.path}", f"root={masked}", f"output_dir={tmp_path}"]
        with (
            initialize_config_dir(str(CONF), version_base="1.3"),
            pytest.raises(ConfigError, match="depends on the number of"),
        ):
            export(compose("export", overrides=["rounds=0", "workers=0", *where]))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_model_of_the_table_sets_only_its_network(network: str) -> None:
    chosen = OmegaConf.load(CONF / "model" / f"{network}.yaml")
    assert chosen.keys() == {"model", "segment"}
    assert chosen.segment == {"network": network}


@pytest.mark.parametrize("scale", group_options("scale"))
def test_the_table_has_one_budget_for_every_row(scale: str, masked: Path, tmp_path: Path) -> None:
    where = (f"datamodule.root={masked}", f"output_dir={tmp_path}", f"scale={scale}")
    composed = settings_of("experiment=occlusion_table4", f"model={NETWORKS[-1]}", *where)
    assert composed["segment"]["network"] == NETWORKS[-1]
    budgets, ids = set(), set()
    for network in NETWORKS:
        settings = deepcopy(composed)
        settings["segment"]["network"] = network
        (run,) = plan(check(settings))
        assert run.own.network == network
        names = ("epochs", "steps_per_epoch", "batch_size", "optimizer.lr", "schedule.name", "width", "seed")
        budgets.add(tuple(run.own[name] for name in names))
        ids.add(run.id)
    assert len(budgets) == 1
    assert len(ids) == len(NETWORKS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("experiment=occlusion_celeba", "model=unetplusplus"), "method=segment trains an occlusion segmenter"),
        (("experiment=mtl_lapa", "model=ganmasker"), "method=mtl trains a parser"),
        (
            ("experiment=mtl_lapa", "model=deeplabv3plus"),
            "method=mtl does not go with model.architecture=deeplabv3plus",
        ),
        (("experiment=svm_lapa", "model=linknet"), "method=hybrid does not go with model.architecture=linknet"),
        (("experiment=occlusion_celeba", "segment.encoder_weights=imagenet"), "modified_unet has no encoder"),
    ],
)
def test_models_that_do_not_go_with_a_method(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(settings_of(*words))


@pytest.mark.skipif(find_spec("ultralytics") is not None, reason="ultralytics is installed")
def test_the_missing_optional_package_is_named() -> None:
    with pytest.raises(ImportError, match=r"AGPL-3\.0(.|\n)*pip install 'ultralytics(.|\n)*model=yolo"):
        module("yolo_ultralytics")
