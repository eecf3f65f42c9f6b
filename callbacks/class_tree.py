"""The tree of a multi-class SVM as an image (Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from models.svm.tree import ClassTree


def class_tree_figure(
    tree: ClassTree, names: Sequence[str], colours: Sequence[Sequence[int]], accuracies: Sequence[float], title: str
) -> Figure:
    """The tree with its root on top: inner nodes with the accuracy of their binary SVMs, classes at the leaves.

    Args:
        tree: over N classes.
        names: of the classes, by their indices in the tree.
        colours: of the classes, RGB 0..255.
        accuracies: balanced accuracy 0..1 of each node's binary SVM.
        title: of the image.
    """
    place, depth = _layout(tree)
    deepest = int(tree.depths.max(initial=0))
    size = (max(4.0, 1.05 * tree.classes), 1.6 + 0.8 * max(1, deepest))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "zorder": 2}
    for node in range(len(tree)):
        for child in (int(tree.left[node]), int(tree.right[node])):
            axes.plot([place[node], place[child]], [-depth[node], -depth[child]], color="0.6", lw=1.2, zorder=1)
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "0.4"}
        text = f"{node + 1}\n{100 * accuracies[node]:.1f} %"
        axes.text(place[node], -depth[node], text, bbox=box, **style)
    for index, name in enumerate(names):
        leaf = -1 - index
        red, green, blue = (part / 255 for part in colours[index])
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        box = {"boxstyle": "square,pad=0.35", "facecolor": to_hex((red, green, blue)), "edgecolor": "0.4"}
        text = name.replace("_", "\n")
        axes.text(place[leaf], -depth[leaf], text, color="white" if dark else "black", bbox=box, **style)
    axes.set_xlim(-0.7, tree.classes - 0.3)
    axes.set_ylim(-deepest - 0.6, 0.5)
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    return figure


def _layout(tree: ClassTree) -> tuple[dict[int, float], dict[int, int]]:
    """Horizontal position and depth of each node and, as ``-1 - class``, of each leaf; leaves are 1 apart."""
    place: dict[int, float] = {}
    depth: dict[int, int] = {}
    pending = [(0 if len(tree) else -1, 0)]
    while pending:  # left before right
        node, deep = pending.pop()
        depth[node] = deep
        if node < 0:
            place[node] = float(sum(other < 0 for other in place))
        else:
            pending += [(int(tree.right[node]), deep + 1), (int(tree.left[node]), deep + 1)]
    for node in reversed(range(len(tree))):  # children come after their parents
        place[node] = (place[int(tree.left[node])] + place[int(tree.right[node])]) / 2
    return place, depth
