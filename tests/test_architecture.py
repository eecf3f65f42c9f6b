"""Packages import only packages of lower layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT

LAYERS = (
    "foundation",
    "models",
    "datamodules",
    "synthesis",
    "lightning_modules",
    "callbacks",
    "engine",
    "stages",
    "curation",
    "deploy",
    "reports",
)
"""Each may import the packages before it."""
ENTRY_POINTS = ("train", "evaluate", "predict", "prepare", "export", "report")


def imported(file: Path) -> Iterator[str]:
    """Modules that a file imports, within functions and for the type checker too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("package", LAYERS)
def test_imports_point_downwards(package: str) -> None:
    below = LAYERS[: LAYERS.index(package) + 1]
    forbidden = {*LAYERS, "conf", "tests", "benchmarks", *ENTRY_POINTS} - {*below}
    upward = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for name in imported(file)
        if name.partition(".")[0] in forbidden
    ]
    assert not upward


def test_every_package_has_a_layer() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"benchmarks", "conf", "examples", "tests"} == {*LAYERS}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_points_are_short(name: str) -> None:
    assert len((ROOT / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 60


def test_models_are_independent() -> None:
    """``models`` imports neither Lightning nor Hydra nor ``foundation``."""
    foreign = {"pytorch_lightning", "hydra", "omegaconf", "foundation"}
    found = {name for file in (ROOT / "models").rglob("*.py") for name in imported(file)}
    assert not {name for name in found if name.partition(".")[0] in foreign}
