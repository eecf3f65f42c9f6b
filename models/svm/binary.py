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

KERNELS = ("linear", "rbf", "nystroem")
ROWS = 16384
"""Samples that are scored together, so that their scores fit a processor's cache."""


class BinarySVM(Protocol):
    """A fitted binary classifier."""

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> scores (n,), positive for the second class."""


@dataclass(frozen=True, eq=False)
class LinearSVM:
    """A hyperplane: ``coef`` (F,) and ``intercept``."""

    coef: np.ndarray
    intercept: float

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        return X @ self.coef.astype(X.dtype) + X.dtype.type(self.intercept)


@dataclass(frozen=True, eq=False)
class KernelSVM:
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


def fit_binary_svm(
    estimator: Any,
    X: np.ndarray,  # noqa: N803
    positive: np.ndarray,
    weight: np.ndarray | None,
    C: float,  # noqa: N803
    gamma: float,
) -> BinarySVM:
    """Fit a binary SVM.

    Args:
        estimator: ``linear``, ``rbf``, or a scikit-learn classifier, of which a copy is fitted.
        X: samples (n, F).
        positive: whether each sample is of the second class, (n,) bool; both classes must occur.
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
        return LinearSVM(svm.coef_[0], float(svm.intercept_[0]))
    if estimator == "rbf":
        svc = SVC(C=C, kernel="rbf", gamma=gamma).fit(X, target, weight)
        return KernelSVM(svc.support_vectors_, svc.dual_coef_[0], float(svc.intercept_[0]), gamma)
    classifier = clone(estimator)
    if weight is None:
        return classifier.fit(X, target)
    if not has_fit_parameter(classifier, "sample_weight"):
        raise TypeError(f"{type(classifier).__name__} takes no sample_weight")
    return classifier.fit(X, target, sample_weight=weight)


def scores(classifier: Any, X: np.ndarray) -> np.ndarray:  # noqa: N803
    """Samples (n, F) -> scores (n,) of any fitted binary classifier, positive for its second class."""
    if hasattr(classifier, "decision_function"):
        return classifier.decision_function(X)
    if hasattr(classifier, "predict_proba"):
        return classifier.predict_proba(X)[:, 1] - 0.5
    return classifier.predict(X) - 0.5


def blocks(X: np.ndarray) -> Iterator[np.ndarray]:  # noqa: N803
    """Blocks of at most :data:`ROWS` rows."""
    return (X[start : start + ROWS] for start in range(0, len(X), ROWS))
