"""How the tree of a multi-class SVM is grown: which classes are split first (SVM-RH, SVM-BDT)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.svm.tree import ClassTree, Group


def slant_tree(order: Sequence[int]) -> ClassTree:
    """The tree of SVM-RH (Figure 6): one class is split off at a time, to the right; the first one at the root.

    Args:
        order: indices of all classes, in the order in which they are split off.
    """
    nodes = len(order) - 1
    left = [*range(1, nodes), -1 - order[-1]][:nodes]
    right = [-1 - index for index in order[:-1]]
    return ClassTree(np.array(left, np.int64), np.array(right, np.int64))


def separability_order(classes: int, error: Callable[[int, Group], tuple[float, ...]]) -> list[int]:
    """The order of SVM-RH: each time the class that is best separated from all that remain.

    "The Nth class is isolated from the remaining N-1 classes to minimize classification error", then one of those
    N-1, and so on.

    Args:
        classes: N.
        error: a class and the others that remain -> the error of separating it from them; smaller is better.
    """
    remaining = list(range(classes))
    order = []
    while len(remaining) > 1:
        errors = {one: error(one, tuple(other for other in remaining if other != one)) for one in remaining}
        best = min(remaining, key=lambda one: errors[one])
        order.append(best)
        remaining.remove(best)
    return order + remaining


def gravity_tree(gram: np.ndarray, weights: np.ndarray) -> ClassTree:
    """The tree of SVM-BDT (Figure 7), by the gravity centres of the classes in kernel space.

    At a node, the two classes farthest from each other start a group each. Then the class nearest to one of the
    groups joins it, which moves the group's centre, until every class has joined. The group with the first class goes
    left, the other one right; each is split in the same way. After Madzarov, Gjorgjevikj and Chorbev, "A Multi-class
    SVM Classifier Utilizing Binary Decision Tree", Informatica 33, 2009.

    Args:
        gram: (N, N), the mean kernel value between samples of two classes: inner products of their centres.
        weights: (N,), weight of each class in the centre of its group, such as its number of samples.
    """

    def centre(group: Group) -> np.ndarray:
        share = np.zeros(len(gram))
        share[list(group)] = weights[list(group)]
        return share / share.sum()

    def distance(one: Group, other: Group) -> float:
        """Squared, between centres: <a, a> + <b, b> - 2 <a, b>."""
        apart = centre(one) - centre(other)
        return float(apart @ gram @ apart)

    def split(group: Group) -> tuple[Group, Group]:
        pairs = [(a, b) for place, a in enumerate(group) for b in group[place + 1 :]]
        a, b = max(pairs, key=lambda pair: distance((pair[0],), (pair[1],)))
        sides: list[Group] = [(a,), (b,)]
        free = [index for index in group if index not in (a, b)]
        while free:
            near = [(distance((index,), side), number, index) for index in free for number, side in enumerate(sides)]
            _, number, index = min(near)
            sides[number] += (index,)
            free.remove(index)
        first, second = sorted(tuple(sorted(side)) for side in sides)
        return first, second

    return ClassTree.grow(len(gram), split)
