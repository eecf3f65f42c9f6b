"""The tree of binary SVMs: N classes at its leaves, N - 1 SVMs at its inner nodes (Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Group = tuple[int, ...]
"""Indices of classes."""


@dataclass(frozen=True, eq=False)
class ClassTree:
    """A binary tree over N classes; each class is at exactly one leaf.

    Args:
        left: (N - 1,), the child of each inner node for scores <= 0: the number of an inner node, greater than its
            parent's, or ``-1 - c`` for the leaf of class c. Node 0 is the root.
        right: the child for scores > 0, likewise.
    """

    left: np.ndarray
    right: np.ndarray

    @classmethod
    def grow(cls, classes: int, split: Callable[[Group], tuple[Group, Group]]) -> ClassTree:
        """Split all classes into two groups, and each group again, until each class is alone.

        Args:
            classes: N, at least 1.
            split: a group of two or more classes -> those that go left and those that go right, neither empty.
        """
        left: list[int] = []
        right: list[int] = []
        pending: list[tuple[Group, int, list[int]]] = [(tuple(range(classes)), 0, [0])]
        while pending:
            group, parent, side = pending.pop()
            if len(group) == 1:
                side[parent] = -1 - group[0]
                continue
            side[parent] = node = len(left)
            left.append(0)
            right.append(0)
            first, second = split(group)
            pending += [(second, node, right), (first, node, left)]
        return cls(np.array(left, np.int64), np.array(right, np.int64))

    def __len__(self) -> int:
        """The number of inner nodes, one binary SVM each: N - 1."""
        return len(self.left)

    @property
    def classes(self) -> int:
        return len(self) + 1

    @property
    def groups(self) -> list[tuple[Group, Group]]:
        """The classes left and right of each inner node."""
        below: dict[int, Group] = {-1 - c: (c,) for c in range(self.classes)}
        groups = []
        for node in reversed(range(len(self))):  # children come after their parents
            left, right = below[int(self.left[node])], below[int(self.right[node])]
            below[node] = tuple(sorted(left + right))
            groups.append((left, right))
        return groups[::-1]

    @property
    def depths(self) -> np.ndarray:
        """How many binary SVMs a sample passes on the way to each class, (N,)."""
        depths = np.zeros(self.classes, np.int64)
        for sides in self.groups:
            for side in sides:
                depths[list(side)] += 1
        return depths

    def walk(self, scores: np.ndarray) -> np.ndarray:
        """Scores (N - 1, n) of n samples at all nodes -> index of each sample's class, (n,).

        Works from the leaves up: the class at a node is that of its right child where its score is positive, else
        that of its left child. These are N - 1 selections over all samples at once, whatever the tree's shape.
        """
        small = np.min_scalar_type(self.classes)
        classes: dict[int, np.ndarray] = {-1 - c: np.array(c, small) for c in range(self.classes)}
        for node in reversed(range(len(self))):
            right, left = classes.pop(int(self.right[node])), classes.pop(int(self.left[node]))
            classes[node] = np.where(scores[node] > 0, right, left)
        (root,) = classes.values()
        return np.broadcast_to(root, scores.shape[1:])

    def margins(self, scores: Any, minimum: Callable[[Any, Any], Any] = np.minimum) -> list[Any]:
        """Scores at all nodes -> for each class the minimum score on the path to it, signed towards that class.

        It is positive only for the class that :meth:`walk` returns.

        Args:
            scores: N - 1 arrays, or tensors, of one shape.
            minimum: the smaller of two, element by element.

        Raises:
            ValueError: if there is only one class.
        """
        if not len(self):
            raise ValueError("a tree of one class has no margins")
        margins: list[Any] = [None] * self.classes
        above: dict[int, Any] = {}
        for node, (left, right) in enumerate(zip(self.left.tolist(), self.right.tolist(), strict=True)):
            so_far = above.pop(node, None)
            for child, towards in ((left, -scores[node]), (right, scores[node])):
                margin = towards if so_far is None else minimum(so_far, towards)
                if child < 0:
                    margins[-1 - child] = margin
                else:
                    above[child] = margin
        return margins
