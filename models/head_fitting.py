"""From sampled pixels to a head of binary machines: SVM-RH, SVM-BDT, the two usual ways, and the conv head's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.pixel_heads import MachinesHead
from models.svm import BinaryDecisionTreeSVC, ClassTree, ReducedHyperplaneSVC
from models.svm.classifiers import resolved_gamma
from models.svm.machines import KernelMachine, LinearMachine, Machine, NystroemMap, blocks, fit_machine

TREES = ("svm_rh", "svm_bdt")
HEADS = (*TREES, "svm_ovr", "svm_ovo", "conv")


@dataclass(frozen=True)
class Fitting:
    """How a head is fitted.

    Args:
        head: one of :data:`HEADS`; ``conv`` is a 1 x 1 convolution, fitted as a multinomial logistic regression.
        machine: ``linear``, ``rbf`` or ``nystroem``, see :class:`models.svm.ReducedHyperplaneSVC`, as are the next
            four; ``conv`` has only ``C``.
        C: cost of errors.
        gamma: of the RBF kernel, or None for ``scale``.
        landmarks: of ``nystroem``.
        order: of ``svm_rh``.
        seed: of everything that is drawn.
    """

    head: str
    machine: str = "linear"
    C: float = 1.0
    gamma: float | None = None
    landmarks: int = 256
    order: str = "separability"
    seed: int = 0


@dataclass(frozen=True)
class FittedHead:
    """A head and what can be told of it.

    Args:
        arguments: of :class:`models.pixel_heads.MachinesHead`, plain, without the numbers of classes and features.
        module: the head.
        tree: of a tree, with places in ``present`` for its classes.
        present: ids of the classes that occurred.
        depths: how many machines a pixel passes before it is of each of these classes.
        machines: how many there are.
    """

    arguments: dict[str, Any]
    module: MachinesHead
    tree: ClassTree | None
    present: tuple[int, ...]
    depths: tuple[int, ...]
    machines: int


def fit_head(
    fitting: Fitting,
    X: np.ndarray,  # noqa: N803
    y: np.ndarray,
    weight: np.ndarray,
    classes: int,
) -> FittedHead:
    """Standardise the features of pixels and fit a head to them.

    Args:
        fitting: what is to be fitted.
        X: features (n, F), finite.
        y: class ids (n,); a class that does not occur is never answered, and one alone always.
        weight: of the pixels, (n,).
        classes: C, number of all classes.

    Raises:
        ValueError: if a feature is not finite.
    """
    scaler = StandardScaler().fit(X, sample_weight=weight)
    X = scaler.transform(X)  # noqa: N806
    present, y = np.unique(y, return_inverse=True)
    known = len(present)
    kind, tree, mapped = {"svm_ovr": "ovr", "svm_ovo": "ovo", "conv": "ovr"}.get(fitting.head, "tree"), None, None
    machines: Sequence[Any]
    if fitting.head in TREES:
        svm = _tree(fitting).fit(X, y, weight)
        machines, tree, mapped = svm.estimators_, svm.tree_, svm.feature_map_
    elif known == 1:
        machines = []
    elif fitting.head == "conv":
        regression = LogisticRegression(C=fitting.C, max_iter=2000).fit(X, y, weight)
        parameters = zip(regression.coef_, regression.intercept_, strict=True)
        machines = [LinearMachine(coef, float(intercept)) for coef, intercept in parameters]
    else:
        gamma = resolved_gamma("scale" if fitting.gamma is None else fitting.gamma, X, weight)
        if fitting.machine == "nystroem":
            mapped = NystroemMap.fit(X, gamma, fitting.landmarks, np.random.RandomState(fitting.seed))
            X = np.concatenate([mapped.transform(rows) for rows in blocks(X)])  # noqa: N806
        machines = _pairwise(fitting, gamma, X, y, weight, known)
    depths = tree.depths if tree is not None else np.full(known, len(machines))
    return _assembled(kind, present, classes, scaler, machines, mapped, tree, depths)


def _tree(fitting: Fitting) -> ReducedHyperplaneSVC | BinaryDecisionTreeSVC:
    common: dict[str, Any] = {
        "estimator": fitting.machine,
        "C": fitting.C,
        "gamma": "scale" if fitting.gamma is None else fitting.gamma,
        "landmarks": fitting.landmarks,
        "random_state": fitting.seed,
    }
    return (
        ReducedHyperplaneSVC(order=fitting.order, **common)
        if fitting.head == "svm_rh"
        else BinaryDecisionTreeSVC(**common)
    )


def _pairwise(
    fitting: Fitting,
    gamma: float,
    X: np.ndarray,  # noqa: N803
    y: np.ndarray,
    weight: np.ndarray,
    known: int,
) -> list[Machine]:
    """The machines of one against rest, a class each (one for two classes), or of one against one, a pair each."""
    kind = "rbf" if fitting.machine == "rbf" else "linear"
    if fitting.head == "svm_ovr":
        chosen = range(known) if known > 2 else (1,)
        return [fit_machine(kind, X, y == index, weight, fitting.C, gamma) for index in chosen]
    machines = []
    for a in range(known):
        for b in range(a + 1, known):
            rows = np.flatnonzero((y == a) | (y == b))
            machines.append(fit_machine(kind, X[rows], y[rows] == b, weight[rows], fitting.C, gamma))
    return machines


def _assembled(
    kind: str,
    present: np.ndarray,
    classes: int,
    scaler: StandardScaler,
    machines: Sequence[Any],
    mapped: NystroemMap | None,
    tree: ClassTree | None,
    depths: np.ndarray,
) -> FittedHead:
    """Machines as one module: kernels around the landmarks, or around the support vectors of all machines."""
    arguments: dict[str, Any] = {"kind": kind, "present": present.tolist()}
    if tree is not None:
        arguments |= {"left": tree.left.tolist(), "right": tree.right.tolist()}
    weights = [machine.coef for machine in machines]
    centres = np.empty((0, scaler.n_features_in_))
    if mapped is not None and machines:
        centres = mapped.vectors
        weights = [coef @ mapped.normalization for coef in weights]
        arguments |= {"centres": len(centres), "gamma": mapped.gamma}
    elif machines and isinstance(machines[0], KernelMachine):
        vectors = np.concatenate([machine.vectors for machine in machines])
        centres, place = np.unique(vectors, axis=0, return_inverse=True)  # machines share most of their vectors
        edges = np.cumsum([0, *map(len, weights)])
        spread = np.zeros((len(machines), len(centres)))
        for row, coef, start in zip(spread, weights, edges, strict=False):
            np.add.at(row, place.ravel()[start : start + len(coef)], coef)
        weights = list(spread)
        arguments |= {"centres": len(centres), "gamma": machines[0].gamma}
    module = MachinesHead(**arguments, classes=classes, features=scaler.n_features_in_)
    values = {"mean": scaler.mean_, "scale": scaler.scale_, "centres": centres}
    if machines:
        values |= {"weight": np.stack(weights), "bias": np.array([machine.intercept for machine in machines])}
    module.load_state_dict(
        module.state_dict() | {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in values.items()}
    )
    return FittedHead(arguments, module, tree, tuple(present.tolist()), tuple(depths.tolist()), len(machines))
