"""Multi-class support vector machines as trees of binary ones (Hybrid model: SVM-RH and SVM-BDT, Figures 5 to 7)."""

from models.svm.classifiers import BinaryDecisionTreeSVC, ReducedHyperplaneSVC
from models.svm.tree import ClassTree

__all__ = ["BinaryDecisionTreeSVC", "ClassTree", "ReducedHyperplaneSVC"]
