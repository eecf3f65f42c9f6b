"""Binary support vector machines: linear, with an RBF kernel, or linear on an approximation of that kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.validation import has_fit_parameter

MACHINES = ("linear", "rbf", "nystroem")
ROWS = 16384
"""Samples that are scored together: their scores fit a processor's cache."""


class Machine(Protocol):
    """A fitted binary machine."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> scores (n,), positive for the second class."""


@dataclass(frozen=True, eq=False)
class LinearMachine:
    """A hyperplane: ``coef`` (F,) and ``intercept``."""

    coef: np.ndarray
    intercept: float

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        return X @ self.coef.astype(X.dtype) + X.dtype.type(self.intercept)


@dataclass(frozen=True, eq=False)
class KernelMachine:
    """A sum of RBF kernels around ``vectors`` (S, F) with coefficients ``coef`` (S,), plus ``intercept``."""

    vectors: np.ndarray
    coef: np.ndarray
    intercept: float
    gamma: float

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        vectors = self.vectors.astype(X.dtype)
        parts = [rbf_kernel(rows, vectors, self.gamma) @ self.coef.astype(X.dtype) for rows in blocks(X)]
        return np.concatenate(parts or [np.empty(0, X.dtype)]) + X.dtype.type(self.intercept)


@dataclass(frozen=True, eq=False)
class NystroemMap:
    """Features whose inner products approximate an RBF kernel: samples (n, F) -> (n, L).

    Args:
        vectors: landmarks (L, F).
        normalization: (L, L).
        gamma: of the kernel ``exp(-gamma |x - y|^2)``.
    """

    vectors: np.ndarray
    normalization: np.ndarray
    gamma: float

    @classmethod
    def fit(cls, X: np.ndarray, gamma: float, landmarks: int, seed: Any) -> NystroemMap:  # noqa: N803
        fitted = Nystroem(gamma=gamma, n_components=min(landmarks, len(X)), random_state=seed).fit(X)
        return cls(fitted.components_, fitted.normalization_, gamma)

    def transform(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        return rbf_kernel(X, self.vectors.astype(X.dtype), self.gamma) @ self.normalization.T.astype(X.dtype)


def fit_machine(
    estimator: Any,
    X: np.ndarray,  # noqa: N803
    positive: np.ndarray,
    weight: np.ndarray | None,
    C: float,  # noqa: N803
    gamma: float,
) -> Machine:
    """A binary machine, fitted.

    Args:
        estimator: ``linear``, ``rbf``, or a scikit-learn classifier, of which a copy is fitted.
        X: samples (n, F).
        positive: which are of the second class, (n,) bool; both classes occur.
        weight: of the samples, (n,), or None.
        C: of ``linear`` and ``rbf``.
        gamma: of ``rbf``.

    Raises:
        TypeError: if samples have weights and the estimator takes none.
    """
    target = positive.astype(np.int64)
    if estimator == "linear":
        # The primal problem: few features, many samples, and no random numbers.
        svm = LinearSVC(C=C, dual=False, tol=1e-6, max_iter=10000).fit(X, target, weight)
        return LinearMachine(svm.coef_[0], float(svm.intercept_[0]))
    if estimator == "rbf":
        svc = SVC(C=C, kernel="rbf", gamma=gamma).fit(X, target, weight)
        return KernelMachine(svc.support_vectors_, svc.dual_coef_[0], float(svc.intercept_[0]), gamma)
    machine = clone(estimator)
    if weight is None:
        return machine.fit(X, target)
    if not has_fit_parameter(machine, "sample_weight"):
        raise TypeError(f"{type(machine).__name__} takes no sample_weight")
    return machine.fit(X, target, sample_weight=weight)


def scores(machine: Any, X: np.ndarray) -> np.ndarray:  # noqa: N803
    """Samples (n, F) -> scores (n,) of a machine or any fitted binary classifier, positive for its second class."""
    if hasattr(machine, "decision_function"):
        return machine.decision_function(X)
    if hasattr(machine, "predict_proba"):
        return machine.predict_proba(X)[:, 1] - 0.5
    return machine.predict(X) - 0.5


def blocks(X: np.ndarray) -> Iterator[np.ndarray]:  # noqa: N803
    """The rows, as many at once as fit a cache."""
    return (X[start : start + ROWS] for start in range(0, len(X), ROWS))
