"""SVM-RH and SVM-BDT as scikit-learn classifiers.

>>> from sklearn.datasets import load_iris
>>> X, y = load_iris(return_X_y=True)
>>> tree = BinaryDecisionTreeSVC().fit(X, y)
>>> len(tree.estimators_), tree.tree_.groups
(2, [((0,), (1, 2)), ((1,), (2,))])
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from models.svm.binary import KERNELS, BinarySVM, LinearSVM, NystroemMap, blocks, fit_binary_svm
from models.svm.growing import gravity_tree, separability_order, slant_tree
from models.svm.tree import ClassTree, Group

FLOATS = (np.float64, np.float32)
SAMPLES = 500
"""Samples of each class by which the order of SVM-RH or the tree of SVM-BDT with an RBF kernel is decided."""


class _TreeSVC(ClassifierMixin, BaseEstimator):
    """Shared by both trees: N - 1 binary SVMs at the inner nodes of a tree over N classes, and the walk down it.

    Args:
        estimator: the binary SVM: ``linear`` (squared hinge loss), ``rbf`` (exact; up to some 20,000 samples), or
            ``nystroem`` (linear on features that approximate the RBF kernel, the same for all SVMs).
        C: cost of errors relative to a wide margin, above 0.
        gamma: of the RBF kernel, above 0, or ``scale``: 1 / (F x variance of X).
        landmarks: of ``nystroem``.
        random_state: of the landmarks and of the samples that decide the tree, :data:`SAMPLES` of each class.

    Fitted: ``classes_``, ``tree_``, ``estimators_`` (N - 1 binary SVMs in the tree's order), ``n_features_in_``.
    """

    def __init__(
        self,
        estimator: str = "linear",
        C: float = 1.0,  # noqa: N803
        gamma: Any = "scale",
        landmarks: int = 256,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.C = C
        self.gamma = gamma
        self.landmarks = landmarks
        self.random_state = random_state

    @abstractmethod
    def _grow(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> ClassTree:  # noqa: N803
        """Samples (in the Nystroem map's features, if any), class indices and weights -> the tree."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Grow the tree and fit its binary SVMs; a single class needs none.

        Args:
            X: samples (n, F), finite.
            y: classes (n,); a class that does not occur here is never predicted.
            sample_weight: (n,), not negative; a sample of weight 0 is left out.

        Raises:
            ValueError: if samples or parameters are invalid.
        """
        X, y = validate_data(self, X, y, dtype=FLOATS)  # noqa: N806
        check_classification_targets(y)
        if self.estimator not in KERNELS:
            raise ValueError(f"estimator={self.estimator!r}: it must be one of {', '.join(KERNELS)}")
        weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        if not weight.all():
            X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]  # noqa: N806
        self.classes_, index = np.unique(y, return_inverse=True)
        self.gamma_ = resolved_gamma(self.gamma, X, weight)
        self.feature_map_ = None
        if self.estimator == "nystroem":
            seed = check_random_state(self.random_state)
            self.feature_map_ = NystroemMap.fit(X, self.gamma_, self.landmarks, seed)
            X = np.concatenate([self.feature_map_.transform(rows) for rows in blocks(X)])  # noqa: N806
        self.tree_ = self._grow(X, index, weight)
        self.estimators_ = [self._fit_node(X, index, weight, *sides) for sides in self.tree_.groups]
        return self

    def _fit_node(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, left: Group, right: Group) -> BinarySVM:  # noqa: N803
        """The binary SVM of a node: positive for its right classes, negative for its left ones."""
        rows = np.flatnonzero(np.isin(y, left + right))
        return fit_binary_svm(self.estimator, X[rows], np.isin(y[rows], right), weight[rows], self.C, self.gamma_)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> classes (n,)."""
        X = self._validated(X)  # noqa: N806
        return self.classes_[self._leaves(X)]

    def count_tests(self, X: Any) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> the number of binary SVMs that each passes on its way down, (n,)."""
        X = self._validated(X)  # noqa: N806
        return self.tree_.depths[self._leaves(X)]

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> (n, N): the minimum score on the path to each class; its argmax is the predicted class.

        For two classes (n,), positive for the second one.
        """
        X = self._validated(X)  # noqa: N806
        if not self.estimators_:
            return np.zeros(len(X), X.dtype)
        margins = np.concatenate([self.tree_.margins(self._scores(rows)) for rows in blocks(X)], axis=1)
        return margins[1] if len(self.classes_) == 2 else margins.T

    def _validated(self, X: Any) -> np.ndarray:  # noqa: N803
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype=FLOATS)

    def _leaves(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Index of each sample's class. With linear SVMs, scoring all of them is cheaper than routing samples."""
        if all(isinstance(svm, LinearSVM) for svm in self.estimators_):
            return np.concatenate([self.tree_.walk(self._scores(rows)) for rows in blocks(X)])
        return self._routed(X)

    def _scores(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Samples (n, F) -> scores of all binary SVMs, (N - 1, n)."""
        if self.feature_map_ is not None:
            X = self.feature_map_.transform(X)  # noqa: N806
        if not self.estimators_:
            return np.empty((0, len(X)), X.dtype)
        if all(isinstance(svm, LinearSVM) for svm in self.estimators_):
            coef = np.stack([svm.coef for svm in self.estimators_]).astype(X.dtype)
            intercept = np.array([svm.intercept for svm in self.estimators_], X.dtype)
            return coef @ X.T + intercept[:, None]
        return np.stack([svm.decision_function(X) for svm in self.estimators_])

    def _routed(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Index of each sample's class; each binary SVM scores only the samples that reach its node."""
        leaves = np.zeros(len(X), np.int64)
        rows = {0: np.arange(len(X))}
        for node, svm in enumerate(self.estimators_):
            here = rows.pop(node)
            positive = svm.decision_function(X[here]) > 0 if len(here) else np.zeros(0, bool)
            for child, chosen in ((self.tree_.left[node], ~positive), (self.tree_.right[node], positive)):
                if child < 0:
                    leaves[here[chosen]] = -1 - child
                else:
                    rows[int(child)] = here[chosen]
        return leaves


class ReducedHyperplaneSVC(_TreeSVC):
    """SVM with reduced hyper-planes (SVM-RH, Figure 6): one class after another is split off from the rest.

    N - 1 binary SVMs; a sample passes one to N - 1 of them.

    Args:
        estimator: the binary SVM, see :class:`_TreeSVC`, as for the next four.
        C: cost of errors.
        gamma: of the RBF kernel.
        landmarks: of ``nystroem``.
        random_state: of the landmarks and the samples.
        order: which class is split off first: ``separability`` (the one with the least balanced error against those
            that remain; the paper only says "to minimize classification error") or ``frequency`` (the most frequent
            first, which needs the fewest tests).

    Fitted: also ``order_``, classes as they are split off, the remaining one last.
    """

    def __init__(
        self,
        estimator: str = "linear",
        C: float = 1.0,  # noqa: N803
        gamma: Any = "scale",
        landmarks: int = 256,
        random_state: Any = None,
        order: str = "separability",
    ) -> None:
        super().__init__(estimator, C, gamma, landmarks, random_state)
        self.order = order

    def _grow(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> ClassTree:  # noqa: N803
        if self.order == "frequency":
            order = np.argsort(-np.bincount(y, weight), kind="stable").tolist()
        elif self.order == "separability":
            order = self._by_separability(X, y, weight)
        else:
            raise ValueError(f"order={self.order!r}: it must be separability or frequency")
        self.order_ = self.classes_[order]
        return slant_tree(order)

    def _by_separability(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> list[int]:  # noqa: N803
        rows = _sample_each_class(y, check_random_state(self.random_state))
        X, y, weight = X[rows], y[rows], weight[rows]  # noqa: N806
        # Each class weighs the same, however rare; the weights' mean is 1, so that C keeps its meaning.
        weight = weight / np.bincount(y, weight)[y]
        weight *= len(weight) / weight.sum()

        def error(one: int, others: Group) -> tuple[float, float]:
            """Balanced training error of the binary SVM; its hinge loss breaks ties."""
            here = np.isin(y, (one, *others))
            positive, own = y[here] == one, weight[here]
            own = np.where(positive, own / own[positive].sum(), own / own[~positive].sum()) * len(own) / 2
            svm = fit_binary_svm(self.estimator, X[here], positive, own, self.C, self.gamma_)
            towards = svm.decision_function(X[here]) * np.where(positive, 1, -1)
            wrong = np.average(towards <= 0, weights=own)
            return round(float(wrong), 9), float(np.average(np.maximum(0, 1 - towards), weights=own))

        return separability_order(len(self.classes_), error)


class BinaryDecisionTreeSVC(_TreeSVC):
    """SVM in a binary decision tree (SVM-BDT, Figure 7): classes are grouped by their centres in kernel space.

    N - 1 binary SVMs; a sample passes about log2 N of them. No class is on both sides of a node. Centres in the space
    of the RBF kernel are those of :data:`SAMPLES` of each class; others are exact. Arguments: see :class:`_TreeSVC`.
    """

    def _grow(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray) -> ClassTree:  # noqa: N803
        counts = np.bincount(y, weight)
        if self.estimator != "rbf":  # the map of ``nystroem`` approximates the RBF kernel's space
            sums = np.stack([weight[y == index] @ X[y == index] for index in range(len(counts))]).astype(np.float64)
            centres = sums / counts[:, None]
            return gravity_tree(centres @ centres.T, counts)
        rows = _sample_each_class(y, check_random_state(self.random_state))
        shares = np.zeros((len(counts), len(rows)))
        shares[y[rows], np.arange(len(rows))] = weight[rows]
        shares /= shares.sum(axis=1, keepdims=True)
        return gravity_tree(shares @ rbf_kernel(X[rows], gamma=self.gamma_) @ shares.T, counts)


def _sample_each_class(y: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Sorted rows of at most :data:`SAMPLES` samples of each class."""
    own = (np.flatnonzero(y == index) for index in range(y.max() + 1))
    return np.sort(np.concatenate([rows if len(rows) <= SAMPLES else rng.choice(rows, SAMPLES, False) for rows in own]))


def resolved_gamma(gamma: Any, X: np.ndarray, weight: np.ndarray) -> float:  # noqa: N803
    """``gamma`` as a number; ``scale`` is 1 / (F x variance of X)."""
    if gamma != "scale":
        return float(gamma)
    mean = np.average(X, axis=0, weights=weight).mean()
    variance = np.average(((X - mean) ** 2).mean(axis=1), weights=weight)
    return 1.0 / (X.shape[1] * float(variance)) if variance > 0 else 1.0
