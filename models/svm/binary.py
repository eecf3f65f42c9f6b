"""Binary support vector machines: linear, with an RBF kernel, or linear on an approximation of that kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC, LinearSVC

KERNELS = ("linear", "rbf", "nystroem")
ROWS = 16384
"""Samples that are scored together, so that their scores fit a processor's cache."""


@dataclass(frozen=True, eq=False)
class LinearSVM:
    """A hyperplane: ``coef`` (F,) and ``intercept``."""

    coef: np.ndarray
    intercept: float

    def decision_function(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> scores (n,), positive for the second class."""
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


BinarySVM = LinearSVM | KernelSVM


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
    kernel: str,
    X: np.ndarray,  # noqa: N803
    positive: np.ndarray,
    weight: np.ndarray,
    C: float,  # noqa: N803
    gamma: float,
) -> BinarySVM:
    """Fit a binary SVM.

    Args:
        kernel: ``rbf``, or ``linear``, which ``nystroem`` means too: its map is already applied to X.
        X: samples (n, F).
        positive: whether each sample is of the second class, (n,) bool; both classes must occur.
        weight: of the samples, (n,).
        C: cost of errors.
        gamma: of ``rbf``.
    """
    target = positive.astype(np.int64)
    if kernel == "rbf":
        svc = SVC(C=C, kernel="rbf", gamma=gamma).fit(X, target, weight)
        return KernelSVM(svc.support_vectors_, svc.dual_coef_[0], float(svc.intercept_[0]), gamma)
    # The primal problem: few features, many samples, and no random numbers.
    svm = LinearSVC(C=C, dual=False, tol=1e-6, max_iter=10000).fit(X, target, weight)
    return LinearSVM(svm.coef_[0], float(svm.intercept_[0]))


def blocks(X: np.ndarray) -> Iterator[np.ndarray]:  # noqa: N803
    """Blocks of at most :data:`ROWS` rows."""
    return (X[start : start + ROWS] for start in range(0, len(X), ROWS))
