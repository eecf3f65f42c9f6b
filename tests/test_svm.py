"""Trees of binary SVMs: accuracy, tree shapes, invalid arguments; heads fitted to pixel features."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from models.head_fitting import HEADS, FittedHead, Fitting, fit_head
from models.parser import Trunk
from models.pixel_heads import ABSENT, PixelFeatures
from models.svm import BinaryDecisionTreeSVC, ClassTree, ReducedHyperplaneSVC
from models.svm.growing import gravity_tree, separability_order, slant_tree

TREES = (ReducedHyperplaneSVC, BinaryDecisionTreeSVC)


@functools.cache
def known(name: str) -> list[np.ndarray]:
    """Standardised training and test samples of a data set, and their classes."""
    X, y = {  # noqa: N806
        "digits": lambda: load_digits(return_X_y=True),
        "iris": lambda: load_iris(return_X_y=True),
        "blobs": lambda: make_blobs(1100, centers=11, n_features=16, cluster_std=3.0, random_state=0),
    }[name]()
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)  # noqa: N806
    scaler = StandardScaler().fit(X)
    return [scaler.transform(X), scaler.transform(X_test), y, y_test]


def checks() -> Iterator[Any]:
    """Scikit-learn's estimator checks for each kind of classifier; none of them supports the Array API."""
    for classifier in (
        *(tree(random_state=0) for tree in TREES),
        ReducedHyperplaneSVC(order="frequency"),
        *(tree("nystroem", random_state=0) for tree in TREES),
    ):
        for estimator, check in estimator_checks_generator(classifier):
            if (name := check.func.__name__) != "check_array_api_input":
                yield pytest.param(estimator, check, id=f"{classifier}-{name}")


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_estimator_checks_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@functools.cache
def reference_scores(name: str, linear: bool) -> tuple[float, ...]:
    """Accuracies of scikit-learn's one-vs-rest and one-vs-one."""
    X, X_test, y, y_test = known(name)  # noqa: N806
    binary = LinearSVC(dual=False) if linear else SVC()
    return tuple(kind(binary).fit(X, y).score(X_test, y_test) for kind in (OneVsRestClassifier, OneVsOneClassifier))


@pytest.mark.parametrize("name", [pytest.param("digits", marks=pytest.mark.training), "iris", "blobs"])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "nystroem"])
@pytest.mark.parametrize("tree", TREES)
def test_accuracy_is_that_of_one_vs_rest_and_one_vs_one(tree: Any, kernel: str, name: str) -> None:
    """Within two points of both. On digits, nine hyperplanes match one-vs-rest but not the 45 of one-vs-one."""
    X, X_test, y, y_test = known(name)  # noqa: N806
    landmarks = 600 if name == "digits" else 150
    ours = tree(kernel, random_state=0, landmarks=landmarks, C=10.0 if kernel == "nystroem" else 1.0).fit(X, y)
    rest, one = reference_scores(name, linear=kernel == "linear")
    score = ours.score(X_test, y_test)
    assert score >= rest - 0.02
    assert score >= one - (0.035 if (name, kernel) == ("digits", "linear") else 0.02)
    assert len(ours.estimators_) == len(np.unique(y)) - 1


@pytest.mark.parametrize("classes", [2, 4, 8, 11, 16])
def test_number_of_svms_that_a_sample_passes(classes: int) -> None:
    X, y = make_blobs(40 * classes, centers=classes, n_features=8, random_state=1)  # noqa: N806
    tree = BinaryDecisionTreeSVC().fit(X, y)
    assert tree.count_tests(X).mean() <= math.log2(classes) + 1
    slant = ReducedHyperplaneSVC().fit(X, y)
    assert slant.count_tests(X).mean() == pytest.approx((classes - 1) * (classes + 2) / 2 / classes)
    assert slant.tree_.depths.max() == classes - 1


def test_neighbouring_classes_are_split_last() -> None:
    """Two pairs of neighbours, far apart: the root separates the pairs."""
    centres = np.array([[0.0, 0], [100, 0], [3, 0], [103, 0]])
    X, y = make_blobs(400, centers=centres, cluster_std=0.3, random_state=0)  # noqa: N806
    tree = BinaryDecisionTreeSVC().fit(X, y)
    assert tree.tree_.groups == [((0, 2), (1, 3)), ((0,), (2,)), ((1,), (3,))]
    assert tree.tree_.depths.tolist() == [2, 2, 2, 2]
    assert set(tree.count_tests(X)) == {2}
    assert tree.score(X, y) == 1


def test_a_group_moves_as_classes_join_it() -> None:
    """On a line at 0, 4, 9 and 15, seeds 0 and 15: 4 joins 0 (centre 2), 9 is then nearer to 15."""
    places = np.array([0.0, 4, 9, 15])
    assert gravity_tree(np.outer(places, places), np.ones(4)).groups[0] == ((0, 1), (2, 3))
    places = np.array([0.0, 5, 8.5, 14])
    assert gravity_tree(np.outer(places, places), np.ones(4)).groups[0] == ((0, 1), (2, 3))
    places = np.array([0.0, 6, 10, 15])
    assert gravity_tree(np.outer(places, places), np.array([1, 1, 1, 1])).groups[0] == ((0, 1), (2, 3))
    # 10 joins 15 first, whose centre moves to 12.5 or, where 10 weighs more, to 10.05: then 6 is nearer to it.
    assert gravity_tree(np.outer(places, places), np.array([1, 1, 99, 1])).groups[0] == ((0,), (1, 2, 3))


def test_centres_are_compared_in_kernel_space() -> None:
    """A ring and a blob at its middle share a centre in the plane, but not in the space of an RBF kernel."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 300)
    ring = 4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = np.concatenate([ring, rng.normal(0, 0.1, (300, 2)), rng.normal((0.6, 0), 0.1, (300, 2))])  # noqa: N806
    y = np.repeat([0, 1, 2], 300)
    assert BinaryDecisionTreeSVC("rbf", gamma=0.5).fit(X, y).tree_.groups[0] == ((0,), (1, 2))
    assert BinaryDecisionTreeSVC().fit(X, y).tree_.groups[0] == ((0, 1), (2,))
    near = BinaryDecisionTreeSVC("nystroem", gamma=0.5, random_state=0).fit(X, y)
    assert near.tree_.groups[0] == ((0,), (1, 2))
    assert near.feature_map_ is not None
    mapped = near.feature_map_.transform(X)
    np.testing.assert_allclose(mapped @ mapped.T, rbf_kernel(X, gamma=0.5), atol=1e-3)


def test_the_orders_of_a_slant_tree() -> None:
    """Class c is far away, a and b overlap, b is the most frequent."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(place, 1, (count, 1)) for place, count in ((0, 50), (1, 200), (30, 20))])  # noqa: N806
    y = np.repeat(["a", "b", "c"], [50, 200, 20])
    assert ReducedHyperplaneSVC().fit(X, y).order_[0] == "c"
    assert ReducedHyperplaneSVC(order="frequency").fit(X, y).order_.tolist() == ["b", "a", "c"]
    heavy = ReducedHyperplaneSVC(order="frequency").fit(X, y, sample_weight=np.where(y == "c", 100.0, 1.0))
    assert heavy.order_[0] == "c"
    assert slant_tree([2, 0, 1]).groups == [((0, 1), (2,)), ((1,), (0,))]
    asked = []
    assert separability_order(3, lambda one, others: (asked.append((one, others)) or -one,)) == [2, 1, 0]  # type: ignore[func-returns-value]
    assert asked == [(0, (1, 2)), (1, (0, 2)), (2, (0, 1)), (0, (1,)), (1, (0,))]


def test_walk_follows_the_signs_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    for classes in (1, 2, 3, 7, 40, 300):
        order = rng.permutation(classes)
        tree = slant_tree(order.tolist()) if classes % 2 else ClassTree.grow(classes, lambda g: (g[:1], g[1:]))
        scores = rng.normal(size=(classes - 1, 50))
        expected = []
        for sample in scores.T:
            node = 0 if classes > 1 else -1
            while node >= 0:
                node = int((tree.right if sample[node] > 0 else tree.left)[node])
            expected.append(-1 - node)
        np.testing.assert_array_equal(tree.walk(scores), expected)
        if classes > 1:
            margins = np.stack(tree.margins(scores))
            assert (margins.argmax(axis=0) == expected).all()
            assert ((margins > 0).sum(axis=0) == 1).all()


@pytest.mark.parametrize("kernel", ["linear", "rbf", "nystroem"])
@pytest.mark.parametrize("tree", TREES)
def test_every_way_of_predicting_agrees(tree: Any, kernel: str) -> None:
    X, X_test, y, _ = known("blobs")  # noqa: N806
    fitted = tree(kernel, random_state=0, landmarks=100).fit(X, y)
    predicted = fitted.predict(X_test)
    if fitted.feature_map_ is None:
        np.testing.assert_array_equal(fitted.classes_[fitted._routed(X_test)], predicted)
    np.testing.assert_array_equal(fitted.classes_[fitted.decision_function(X_test).argmax(axis=1)], predicted)
    np.testing.assert_array_equal(fitted.predict(X_test.astype(np.float32)), predicted)
    np.testing.assert_array_equal(fitted.predict(np.tile(X_test, (80, 1)))[-len(X_test) :], predicted)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "nystroem"])
@pytest.mark.parametrize("tree", TREES)
def test_few_shots(tree: Any, kernel: str) -> None:
    """Absent classes are never predicted, one sample makes a class, and a single class is always predicted."""
    X, _, y, _ = known("blobs")  # noqa: N806
    single = np.flatnonzero(y == 3)[0]
    kept = np.flatnonzero((y != 5) & ((y != 3) | (np.arange(len(y)) == single)))
    fitted = tree(kernel, random_state=0, landmarks=100, C=100.0).fit(X[kept], y[kept])
    assert fitted.classes_.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert len(fitted.estimators_) == 9
    assert fitted.predict(X[[single]]) == [3]
    assert 5 not in fitted.predict(X)
    alone = tree(kernel, random_state=0).fit(X, np.full(len(X), 7))
    assert alone.estimators_ == []
    assert set(alone.predict(X)) == {7}
    assert set(alone.count_tests(X)) == {0}
    assert alone.decision_function(X).shape == (len(X),)
    constant = tree(kernel, random_state=0).fit(np.zeros((6, 2)), [0, 0, 1, 1, 2, 2])
    assert len(constant.estimators_) == 2


@pytest.mark.parametrize("tree", TREES)
def test_invalid_samples_and_estimators_are_refused(tree: Any) -> None:
    X, _, y, _ = known("iris")  # noqa: N806
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        tree().fit(broken, y)
    with pytest.raises(ValueError, match="contains NaN"):
        tree().fit(X, y).predict(broken)
    with pytest.raises(ValueError, match="one of linear, rbf, nystroem"):
        tree("poly").fit(X, y)
    with pytest.raises(ValueError, match=r"[Ww]eights must contain"):
        tree().fit(X, y, np.zeros(len(X)))
    with pytest.raises(ValueError, match="must be separability or frequency"):
        ReducedHyperplaneSVC(order="random").fit(X, y)


def labelled_pixels(classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Features of pixels, each on its own scale, and their classes: 0, 2, 4 and so on."""
    X, y = make_blobs(80 * classes, centers=classes, n_features=16, cluster_std=4.0, random_state=2)  # noqa: N806
    return (X * np.logspace(-1, 1, 16) + 3).astype(np.float32), 2 * y


def logits(head: FittedHead, X: np.ndarray) -> np.ndarray:  # noqa: N803
    """Logits (n, C) of pixels, passed as an image of one row."""
    return head.module(torch.from_numpy(X.T)[None, :, None])[0, :, 0].T.numpy()


@pytest.mark.parametrize("kernel", ["linear", "rbf", "nystroem"])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_predicts_as_scikit_learn(head: str, kernel: str) -> None:
    X, y = labelled_pixels()  # noqa: N806
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    fitted = fit_head(Fitting(head, kernel), X, y, weight, classes=13)
    scores = logits(fitted, X)
    assert scores.shape == (len(X), 13)
    assert (scores[:, 1::2] == ABSENT).all()
    assert fitted.present == (0, 2, 4, 6, 8, 10)
    assert fitted.svms == {"svm_rh": 5, "svm_bdt": 5, "svm_ovr": 6, "svm_ovo": 15, "conv": 6}[head]
    scaler = StandardScaler().fit(X, sample_weight=weight)
    Z = scaler.transform(X)  # noqa: N806
    if head == "conv":
        expected = LogisticRegression(max_iter=2000).fit(Z, y, weight).predict(Z)
    elif head in ("svm_rh", "svm_bdt"):
        tree = {"svm_rh": ReducedHyperplaneSVC, "svm_bdt": BinaryDecisionTreeSVC}[head]
        expected = tree(kernel, random_state=0).fit(Z, y, weight).predict(Z)
    else:
        kind = {"svm_ovr": OneVsRestClassifier, "svm_ovo": OneVsOneClassifier}[head]
        gamma = (
            1 / 16 / np.average((Z - np.average(Z, axis=0, weights=weight).mean()) ** 2, axis=0, weights=weight).mean()
        )
        mapped = Nystroem(gamma=gamma, n_components=256, random_state=0).fit(Z) if kernel == "nystroem" else None
        Z = Z if mapped is None else mapped.transform(Z)  # noqa: N806
        binary = SVC(gamma=gamma) if kernel == "rbf" else LinearSVC(dual=False, tol=1e-6)
        with sklearn.config_context(enable_metadata_routing=True):
            expected = kind(binary.set_fit_request(sample_weight=True)).fit(Z, y, sample_weight=weight).predict(Z)
    assert (scores.argmax(axis=1) == expected).mean() > 0.995
    assert (scores.argmax(axis=1) == y).mean() > 0.8


@pytest.mark.parametrize("kernel", ["linear", "rbf", "nystroem"])
@pytest.mark.parametrize("head", HEADS)
def test_a_head_of_two_classes_or_one(head: str, kernel: str) -> None:
    X, y = labelled_pixels()  # noqa: N806
    two = y < 4
    fitted = fit_head(Fitting(head, kernel), X[two], y[two], np.ones(two.sum()), classes=11)
    assert fitted.svms == 1
    assert (logits(fitted, X[two]).argmax(axis=1) == y[two]).mean() > 0.9
    one = fit_head(Fitting(head, kernel), X, np.full(len(X), 7), np.ones(len(X)), classes=11)
    assert one.svms == 0
    assert set(logits(one, X).argmax(axis=1)) == {7}
    single = np.concatenate([np.flatnonzero(y == 4)[:1], np.flatnonzero(y != 4)])
    assert fit_head(Fitting(head, kernel), X[single], y[single], np.ones(len(single)), classes=11).present[2] == 4


def test_pixel_weights_enter_the_fit() -> None:
    """Pixels of negligible weight have no influence."""
    X, y = labelled_pixels(2)  # noqa: N806
    for head in HEADS:
        heavy = fit_head(Fitting(head), X, y, np.where(y == 0, 1e6, 1e-6), classes=3)
        assert (logits(heavy, X).argmax(axis=1) == 0).mean() > 0.9


def test_features_that_are_nan_are_refused() -> None:
    X, y = labelled_pixels()  # noqa: N806
    X[5, 3] = np.nan
    for head in HEADS:
        with pytest.raises(ValueError, match="NaN"):
            fit_head(Fitting(head), X, y, np.ones(len(y)), classes=11)


def test_hypercolumns_end_in_the_map() -> None:
    trunk = Trunk("resnet18").eval()
    image = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        own, columns = (PixelFeatures(trunk, which) for which in ("map", "hypercolumns"))
        full = columns(image)
        assert own.count == 16
        assert full.shape == (2, columns.count, 64, 32) == (2, 256 + 128 + 64 + 32 + 16, 64, 32)
        torch.testing.assert_close(full[:, -16:], own(image))
        assert not any(block._forward_hooks for block in trunk.decoder.blocks.values())
