"""Modules with a newcomer's mistakes, written to a folder for :mod:`tests.test_mistakes`."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

MODULES = {
    "syntax": "def broken(:\n    pass\n",
    "needs": "import no_such_library\n",
    "renamed": "from models.parser import FaceParsr\n",
    "raises": "raise RuntimeError('no licence file')\n",
    "divides": "HALF = 1 / 0\n",
    "exits": "VALUE = 1\nraise SystemExit(3)\n",
    "networks": """
        import torch
        from torch import nn

        NUMBER = 3

        class Good(nn.Module):
            def __init__(self, classes, width=4):
                super().__init__()
                self.conv = nn.Conv2d(3, classes, 1)
            def forward(self, image):
                return self.conv(image)

        class Fails(Good):
            def __init__(self, classes):
                raise ValueError("width must be even")

        class NoClasses(nn.Module):
            def __init__(self, width=4):
                super().__init__()

        class Needs(Good):
            def __init__(self, classes, depth):
                super().__init__(classes)

        class Plain:
            def __init__(self, classes):
                pass

        class OneClassTooMany(Good):
            def __init__(self, classes):
                super().__init__(classes + 1)

        class HalfSize(Good):
            def forward(self, image):
                return super().forward(image)[..., ::2, ::2]

        class Labels(Good):
            def forward(self, image):
                return super().forward(image).argmax(dim=1)

        class Dictionary(Good):
            def forward(self, image):
                return {"out": super().forward(image)}

        class PixelLoss(nn.Module):
            def forward(self, logits, label):
                return nn.functional.cross_entropy(logits, label, ignore_index=255, reduction="none")

        class FloatLoss(nn.Module):
            def forward(self, logits, label):
                return 1.0

        def number():
            return 3
        """,
    "tasks": """
        from pytorch_lightning import Callback, LightningModule
        from torch import nn

        class NoModule:
            def __init__(self, model, optimization):
                self.model = model

        class NoOptimization(LightningModule):
            def __init__(self, model):
                super().__init__()
                self.model = model

        class OwnModel(LightningModule):
            def __init__(self, model, optimization):
                super().__init__()
                self.network = model

        class KeepsObjects(LightningModule):
            def __init__(self, model, optimization, strength=1.0):
                super().__init__()
                self.save_hyperparameters()
                self.model = model

        class NoCallback:
            pass

        class Fails(Callback):
            def __init__(self):
                raise KeyError("WANDB_TEAM")

        class Counts(Callback):
            def __init__(self, every):
                self.every = every

        def gives_a_number():
            return 3
        """,
    "layouts": """
        from datamodules.layouts import LaPa, Layout

        class NoLayout:
            def __init__(self, root):
                self.root = root

        class Abstract(Layout):
            name = "mine"

        class Nameless(Layout):
            def samples(self, split, labelled=True):
                return []
            def survey(self, on_error):
                return {}

        class Needs(LaPa):
            def __init__(self, root, years):
                super().__init__(root)

        class Fails(LaPa):
            def __init__(self, root):
                raise OSError("the share is not mounted")

        class NoRoot(LaPa):
            def __init__(self):
                pass

        def gives_none(root):
            return None
        """,
    "own_stages": """
        from engine.settings import Settings, setting
        from engine.stage import Stage
        from stages.building import TrainingStage
        from stages.groups import TrainingSettings

        class NoStage:
            pass

        class Abstract(Stage):
            name = "mine"

        class Nameless(TrainingStage):
            def data(self, run):
                return None
            def module(self, run):
                return None

        class Mine(Nameless):
            name = "mine"
            version = 1
            settings = TrainingSettings
            reads = ("mine", "trainer")

        class TakesRate(Mine):
            def __init__(self, rate=1.0):
                self.rate = rate

        class NamedModel(Mine):
            name = "model"

        class Required(TrainingSettings):
            classes: int = setting(..., "how many", ge=1)

        class Needs(Mine):
            settings = Required
        """,
}


def write_modules(folder: Path) -> None:
    """Write the package ``mistakes`` to a folder."""
    package = folder / "mistakes"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in MODULES.items():
        (package / f"{name}.py").write_text(dedent(text), encoding="utf-8")
