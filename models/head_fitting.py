"""Fits a head to the features of sampled pixels: SVM-RH, SVM-BDT, one-vs-rest, one-vs-one, or a convolution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.pixel_heads import SVMHead
from models.svm import BinaryDecisionTreeSVC, ClassTree, ReducedHyperplaneSVC
from models.svm.binary import BinarySVM, KernelSVM, LinearSVM, NystroemMap, blocks, fit_binary_svm
from models.svm.classifiers import resolved_gamma

TREES = ("svm_rh", "svm_bdt")
HEADS = (*TREES, "svm_ovr", "svm_ovo", "conv")


@dataclass(frozen=True)
class Fitting:
    """How a head is fitted.

    Args:
        head: one of :data:`HEADS`; ``conv`` is a 1 x 1 convolution, fitted as a multinomial logistic regression.
        kernel: ``linear``, ``rbf`` or ``nystroem``: the ``estimator`` of :class:`models.svm.ReducedHyperplaneSVC`,
            which describes the next four too; ``conv`` has only ``C``.
        C: cost of errors.
        gamma: of the RBF kernel, or None for ``scale``.
        landmarks: of ``nystroem``.
        order: of ``svm_rh``.
        seed: of the landmarks and of the samples that decide the order or the tree.
    """

    head: str
    kernel: str = "linear"
    C: float = 1.0
    gamma: float | None = None
    landmarks: int = 256
    order: str = "separability"
    seed: int = 0


@dataclass(frozen=True)
class FittedHead:
    """A fitted head and its description.

    Args:
        arguments: of :class:`models.pixel_heads.SVMHead`, plain, without the numbers of classes and features.
        module: the head.
        tree: of SVM-RH and SVM-BDT; its classes are indices into ``present``.
        present: ids of the classes that occurred.
        depths: binary SVMs that a pixel passes until it is assigned to each of these classes.
        svms: number of binary SVMs.
    """

    arguments: dict[str, Any]
    module: SVMHead
    tree: ClassTree | None
    present: tuple[int, ...]
    depths: tuple[int, ...]
    svms: int


def fit_head(
    fitting: Fitting,
    X: np.ndarray,  # noqa: N803
    y: np.ndarray,
    weight: np.ndarray,
    classes: int,
) -> FittedHead:
    """Standardise the features of pixels and fit a head to them.

    Args:
        fitting: the head and its hyper-parameters.
        X: features (n, F), finite.
        y: class ids (n,); classes that do not occur are never predicted, and a single one always.
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
    svms: Sequence[Any]
    if fitting.head in TREES:
        classifier = _tree(fitting).fit(X, y, weight)
        svms, tree, mapped = classifier.estimators_, classifier.tree_, classifier.feature_map_
    elif known == 1:
        svms = []
    elif fitting.head == "conv":
        regression = LogisticRegression(C=fitting.C, max_iter=2000).fit(X, y, weight)
        parameters = zip(regression.coef_, regression.intercept_, strict=True)
        svms = [LinearSVM(coef, float(intercept)) for coef, intercept in parameters]
    else:
        gamma = resolved_gamma("scale" if fitting.gamma is None else fitting.gamma, X, weight)
        if fitting.kernel == "nystroem":
            mapped = NystroemMap.fit(X, gamma, fitting.landmarks, np.random.RandomState(fitting.seed))
            X = np.concatenate([mapped.transform(rows) for rows in blocks(X)])  # noqa: N806
        svms = _pairwise(fitting, gamma, X, y, weight, known)
    depths = tree.depths if tree is not None else np.full(known, len(svms))
    return _assembled(kind, present, classes, scaler, svms, mapped, tree, depths)


def _tree(fitting: Fitting) -> ReducedHyperplaneSVC | BinaryDecisionTreeSVC:
    gamma = "scale" if fitting.gamma is None else fitting.gamma
    chosen = (fitting.kernel, fitting.C, gamma, fitting.landmarks, fitting.seed)
    if fitting.head == "svm_rh":
        return ReducedHyperplaneSVC(*chosen, order=fitting.order)
    return BinaryDecisionTreeSVC(*chosen)


def _pairwise(
    fitting: Fitting,
    gamma: float,
    X: np.ndarray,  # noqa: N803
    y: np.ndarray,
    weight: np.ndarray,
    known: int,
) -> list[BinarySVM]:
    """The binary SVMs of one-vs-rest (one per class; for two classes one) or of one-vs-one (one per pair)."""
    if fitting.head == "svm_ovr":
        chosen = range(known) if known > 2 else (1,)
        return [fit_binary_svm(fitting.kernel, X, y == index, weight, fitting.C, gamma) for index in chosen]
    svms = []
    for a, b in itertools.combinations(range(known), 2):
        rows = np.flatnonzero((y == a) | (y == b))
        svms.append(fit_binary_svm(fitting.kernel, X[rows], y[rows] == b, weight[rows], fitting.C, gamma))
    return svms


def _assembled(
    kind: str,
    present: np.ndarray,
    classes: int,
    scaler: StandardScaler,
    svms: Sequence[Any],
    mapped: NystroemMap | None,
    tree: ClassTree | None,
    depths: np.ndarray,
) -> FittedHead:
    """Binary SVMs as one module, with RBF kernels around the landmarks or around the support vectors of all of them."""
    arguments: dict[str, Any] = {"kind": kind, "present": present.tolist()}
    if tree is not None:
        arguments |= {"left": tree.left.tolist(), "right": tree.right.tolist()}
    weights = [svm.coef for svm in svms]
    centres = np.empty((0, scaler.n_features_in_))
    if mapped is not None and svms:
        centres = mapped.vectors
        weights = [coef @ mapped.normalization for coef in weights]
        arguments |= {"centres": len(centres), "gamma": mapped.gamma}
    elif svms and isinstance(svms[0], KernelSVM):
        vectors = np.concatenate([svm.vectors for svm in svms])
        centres, place = np.unique(vectors, axis=0, return_inverse=True)  # the SVMs share most of their vectors
        edges = np.cumsum([0, *map(len, weights)])
        spread = np.zeros((len(svms), len(centres)))
        for row, coef, start in zip(spread, weights, edges, strict=False):
            np.add.at(row, place.ravel()[start : start + len(coef)], coef)
        weights = list(spread)
        arguments |= {"centres": len(centres), "gamma": svms[0].gamma}
    module = SVMHead(**arguments, classes=classes, features=scaler.n_features_in_)
    values = {"mean": scaler.mean_, "scale": scaler.scale_, "centres": centres}
    if svms:
        values |= {"weight": np.stack(weights), "bias": np.array([svm.intercept for svm in svms])}
    module.load_state_dict(
        module.state_dict() | {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in values.items()}
    )
    return FittedHead(arguments, module, tree, tuple(present.tolist()), tuple(depths.tolist()), len(svms))
