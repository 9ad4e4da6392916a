"""Gaussian bond-2 attention, as Sec. 4.3.1 draws it, and the classifiers it ends with after training on short inputs.

Tensors whose A₀ has a complex leading pair have no boundary vectors: contexts in a row of −1 rotate for ever, so that
no classifier is right on all of them.  They count as drawn and are never solved.  For one real 2×2 Gaussian matrix the
probability of that is 1 − 1/√2 (Edelman 1997).

Of the others only those with an invariant cone can be solved (:mod:`grokphase.student.limit`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grokphase import Attention, CellularAutomaton, GradientFlow, ThermodynamicLimit
from grokphase._checks import FloatArray
from grokphase.student import all_inputs
from grokphase.student.spectrum import leading_eigenvectors

__all__ = ["TRAINING_LENGTH", "RealPairs", "draw_real_pairs", "stationary_classifiers"]

TRAINING_LENGTH = 3
_PORTION = 20_000  # tensors handled at a time
_ANY_RULE = CellularAutomaton(0)  # cones depend on the reach of the rule only


@dataclass(frozen=True)
class RealPairs:
    """Tensors (n, 2, 2, 2) whose A₀ has a real leading pair, with the boundary vectors (n, 2) that it gives."""

    tensors: FloatArray
    left: FloatArray
    right: FloatArray

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def attention(self) -> Attention:
        """All of them as one batch."""
        return Attention(self.tensors, left=self.left, right=self.right)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "RealPairs":
        """Some of them."""
        return RealPairs(self.tensors[rows], self.left[rows], self.right[rows])

    @cached_property
    def coned(self) -> "RealPairs":
        """Those for which an invariant cone exists, or rounding hides whether it does."""
        return self.take(np.asarray(ThermodynamicLimit(self.attention, _ANY_RULE).invariant_cone >= 0))


def draw_real_pairs(count: int, rng: np.random.Generator) -> Iterator[tuple[RealPairs, int]]:
    """Draw ``count`` Gaussian tensors in portions; of each, those with boundary vectors, and how many were drawn.

    Raises
    ------
    ValueError
        If so few are drawn that none of a portion has an invariant cone.
    """
    portions = -(-count // _PORTION)
    for number in range(portions):
        size = count * (number + 1) // portions - count * number // portions
        tensors = rng.standard_normal((size, 2, 2, 2))
        pair = leading_eigenvectors(tensors[:, 0])
        drawn = RealPairs(tensors, pair.left, pair.right).take(pair.real)
        if not len(drawn) or not len(drawn.coned):
            raise ValueError(f"draws must be so many that some tensor has an invariant cone (100 or more), got {count}")
        yield drawn, size


def stationary_classifiers(attention: Attention, rule: CellularAutomaton, *, l1: float, l2: float) -> FloatArray:
    """Where the exact flow ends, trained on all inputs of length 3: shape (n, 2, 2, 2).

    Without penalties the limit of least norm.
    """
    features = attention.features_of_all(TRAINING_LENGTH)
    features = features.reshape(*attention.batch_shape, -1, attention.dimension)
    labels = rule(all_inputs(TRAINING_LENGTH)).reshape(-1).astype(float)
    weights = GradientFlow(features, labels, l1=l1, l2=l2).stationary()
    return weights.reshape(*attention.batch_shape, 2, attention.bond, attention.bond)
