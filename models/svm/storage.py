"""Fitted trees as ``.npz`` files of arrays and one JSON text, without pickled code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.svm.binary import KernelSVM, LinearSVM, NystroemMap
from models.svm.classifiers import BinaryDecisionTreeSVC, ReducedHyperplaneSVC
from models.svm.tree import ClassTree

KINDS = {kind.__name__: kind for kind in (ReducedHyperplaneSVC, BinaryDecisionTreeSVC)}
TreeSVC = ReducedHyperplaneSVC | BinaryDecisionTreeSVC
FORMAT = 1


def save(classifier: TreeSVC, path: Path) -> None:
    """Write a fitted tree to a ``.npz``.

    Raises:
        TypeError: unless its binary SVMs are linear, RBF or Nystroem ones and its classes numbers or texts.
    """
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **to_arrays(classifier))


def load(path: Path) -> TreeSVC:
    """A fitted tree from a file of :func:`save`, with the predictions of the one that was saved.

    Raises:
        ValueError: if the file does not hold a tree.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return from_arrays(dict(file))
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} holds no tree of support vector machines that can be read: {error}") from error


def to_arrays(classifier: TreeSVC) -> dict[str, np.ndarray]:
    """A fitted tree as arrays; ``description`` is JSON.

    Raises:
        TypeError: see :func:`save`.
    """
    svms = classifier.estimators_
    if not all(isinstance(svm, LinearSVM | KernelSVM) for svm in svms):
        raise TypeError(f"estimator={classifier.estimator!r} cannot be saved: it must be linear, rbf or nystroem")
    if classifier.classes_.dtype.hasobject:
        raise TypeError("classes that are objects cannot be saved: they must be numbers or texts")
    params = classifier.get_params(deep=False)
    params = {name: value.item() if isinstance(value, np.generic) else value for name, value in params.items()}
    if isinstance(params["random_state"], np.random.RandomState):
        params["random_state"] = None  # it is used up
    if "order" in params and not isinstance(params["order"], str):
        params["order"] = np.asarray(params["order"]).tolist()
    description = {
        "format": FORMAT,
        "kind": type(classifier).__name__,
        "params": params,
        "gamma": classifier.gamma_,
        "features": classifier.n_features_in_,
        "names": getattr(classifier, "feature_names_in_", np.empty(0)).tolist(),
    }
    arrays = {
        "description": np.array(json.dumps(description)),
        "classes": classifier.classes_,
        "left": classifier.tree_.left,
        "right": classifier.tree_.right,
        "intercept": np.array([svm.intercept for svm in svms], np.float64),
    }
    if isinstance(classifier, ReducedHyperplaneSVC):
        arrays["order"] = classifier.order_
    if classifier.feature_map_ is not None:
        arrays["landmarks"] = classifier.feature_map_.vectors
        arrays["normalization"] = classifier.feature_map_.normalization
    for number, svm in enumerate(svms):
        arrays[f"coef_{number}"] = svm.coef
        if isinstance(svm, KernelSVM):
            arrays[f"vectors_{number}"] = svm.vectors
    return arrays


def from_arrays(arrays: dict[str, np.ndarray]) -> TreeSVC:
    """The tree that :func:`to_arrays` was given.

    Raises:
        KeyError: if an array is missing.
        ValueError: for another format.
    """
    description: dict[str, Any] = json.loads(str(arrays["description"]))
    if description["format"] != FORMAT:
        raise ValueError(f"format {description['format']} of a saved tree is unknown: it must be {FORMAT}")
    classifier = KINDS[description["kind"]](**description["params"])
    classifier.classes_ = arrays["classes"]
    classifier.n_features_in_ = description["features"]
    classifier.gamma_ = description["gamma"]
    if description["names"]:
        classifier.feature_names_in_ = np.array(description["names"], object)
    classifier.tree_ = ClassTree(arrays["left"], arrays["right"])
    classifier.feature_map_ = None
    if "landmarks" in arrays:
        classifier.feature_map_ = NystroemMap(arrays["landmarks"], arrays["normalization"], classifier.gamma_)
    if isinstance(classifier, ReducedHyperplaneSVC):
        classifier.order_ = arrays["order"]
    classifier.estimators_ = [
        KernelSVM(arrays[f"vectors_{number}"], arrays[f"coef_{number}"], float(intercept), classifier.gamma_)
        if f"vectors_{number}" in arrays
        else LinearSVM(arrays[f"coef_{number}"], float(intercept))
        for number, intercept in enumerate(arrays["intercept"])
    ]
    return classifier
