r"""What the thermodynamic limit answers with: certificates, context sets, corners, exponents.

Conventions: spins are −1/+1 in reading order; a batch of results has the leading axes of the batch.  Symbols:
margin = min y ŷ/|B|, exponent ν, dimensions δ (Sec. 4.3.1 of Žunkovič & Ilievski 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = [
    "Attractor",
    "Certificate",
    "Certificates",
    "ContextSet",
    "Corner",
    "Counterexample",
    "ErrorBounds",
    "Flow",
    "RunExponent",
    "run_exponent",
]

BoolArray = NDArray[np.bool_]
Counterexample = tuple[NDArray[np.int8], int]
"""Spins (M,) and the 0-based position of a cell whose score has the wrong sign."""


class Flow(Protocol):
    """A gradient flow on the features, whose weights are the flattened classifier."""

    def cone_time(self, normals: Any, initial: Any, which: Any = ..., *, return_index: bool = ...) -> Any:
        """When the weights stay inside a cone, normal · w > 0 for all normals, and through which face they enter."""

    def weights(self, time: Any, initial: Any) -> FloatArray:
        """Weights at given times."""

    def stationary(self, initial: Any = None) -> FloatArray:
        """Weights after infinite time."""


class ErrorBounds(NamedTuple):
    """Certified bounds of an error; equal where it is exact."""

    lower: float
    upper: float


@dataclass(frozen=True)
class Certificate:
    """Whether a classifier is right at every cell of every input of length ≥ 2K+1, or another shortest length.

    Attributes
    ----------
    generalises
        True or False, both proven; None if this was not decided.
    margin
        Score times the rule's output, per unit of |classifier|.  True: a proven lower bound for all inputs.
        False: that of the counterexample.  None: the lowest bound known.
    counterexample
        False: spins (M,) and the 0-based position of a cell that the attention gets wrong.  Else None.
    message
        What was proven, or where it stopped and what to raise.
    """

    generalises: bool | None
    margin: float
    counterexample: Counterexample | None
    message: str


@dataclass(frozen=True)
class Certificates:
    """Certificates of many classifiers or attentions; all arrays have the shape of the batch.

    Attributes
    ----------
    generalises
        Where this is proven.
    fails
        Where it is refuted by a counterexample.
    margin
        As in :class:`Certificate`.
    """

    generalises: BoolArray
    fails: BoolArray
    margin: FloatArray
    _explain: Callable[[tuple[int, ...]], Certificate]

    @property
    def undecided(self) -> BoolArray:
        """Where neither was proven."""
        return ~(self.generalises | self.fails)

    def __getitem__(self, index: int | tuple[int, ...]) -> Certificate:
        """The certificate of one member, with its counterexample: computed anew."""
        return self._explain(index if isinstance(index, tuple) else (index,))


@dataclass(frozen=True)
class ContextSet:
    """Where the contexts of one side are, by the K spins nearest to the cell.

    Branches are numbered in the order of the rule's table: their K spins in reading order as a binary number,
    +1 as the digit 1.

    Attributes
    ----------
    invariant_cone
        Whether all contexts lie in a pointed convex cone that both matrices map into itself: without one no
        classifier has a margin.  None where rounding, or the depth, leaves it open.
    rays
        Bond 2: extreme rays of each branch, unit vectors, shape (2**K, 2, bond); None if there is no cone.
        For a larger bond None.
    words
        Bond 2: for both rays the endless word whose context they are, (repeated spins, spins between these and
        the branch's), in reading order; spins repeated are () for the boundary vector itself.
    centres, radii
        Balls (caps on the unit sphere): unit vectors (2**depth, bond) and angles (2**depth,).  Ball n holds all
        contexts whose ``depth`` nearest spins are n in binary, in reading order.  None if there is no cover.
    """

    invariant_cone: bool | None
    rays: FloatArray | None
    words: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    centres: FloatArray | None
    radii: FloatArray | None

    def with_balls(self, other: ContextSet) -> ContextSet:
        """The same set with the balls of another."""
        return replace(self, centres=other.centres, radii=other.radii)


class Attractor(NamedTuple):
    """The context sets of both sides."""

    left: ContextSet
    right: ContextSet

    @property
    def invariant_cone(self) -> bool | None:
        """Whether both sides have one (each has iff the other does, up to the boundary vectors)."""
        flags = (self.left.invariant_cone, self.right.invariant_cone)
        if False in flags:
            return False
        return None if None in flags else True


@dataclass(frozen=True)
class Corner:
    """A pair of extreme contexts around a neighbourhood, and how the test error vanishes when it crosses last.

    Attributes
    ----------
    neighbourhood
        The 2K+1 spins around and at the cell.
    target
        The rule's output.
    left_word, left_near
        Spins of the left context in reading order: ``left_word`` repeated without end, then ``left_near`` up to
        the cell.  An empty word: what is farther away does not matter.
    right_near, right_word
        Spins of the right context in reading order: ``right_near`` behind the cell, then ``right_word``
        repeated without end.
    left_dimension, right_dimension
        Pointwise dimensions δ of the two context measures at their extreme rays; 0 for an atom.
    left_log_period, right_log_period
        Periods of each side's measure in the logarithm of the distance, ln|λ₁/λ₂| of the word; infinite for an
        atom.
    normal
        Feature times output, shape (2·bond²,): the corner is right where ``normal @ classifier.ravel() > 0``.
    weight
        Measure of the corner itself: positive only if both contexts are atoms.  It is the jump of the test
        error then.
    """

    neighbourhood: tuple[int, ...]
    target: int
    left_word: tuple[int, ...]
    left_near: tuple[int, ...]
    right_near: tuple[int, ...]
    right_word: tuple[int, ...]
    left_dimension: float
    right_dimension: float
    left_log_period: float
    right_log_period: float
    normal: FloatArray
    weight: float

    @property
    def exponent(self) -> float:
        """ν = δ_left + δ_right; 0 for a jump."""
        return self.left_dimension + self.right_dimension

    @property
    def log_period(self) -> float:
        """Period of E/(t_ε − t)^ν in ln(t_ε − t), 0 for a jump.

        Where the two sides differ the modulation is quasi-periodic; this is the longer period.
        """
        periods = [p for p in (self.left_log_period, self.right_log_period) if np.isfinite(p)]
        return max(periods, default=0.0)


@dataclass(frozen=True)
class RunExponent:
    """How the test error of runs vanishes; arrays of the shape of the batch of runs.

    Attributes
    ----------
    time
        t_ε of the bulk: 0 if the error is zero from the beginning, infinite if it never stays zero.
    index
        Number of the last corner in ``corners``; −1 where there is no transition.
    corners
        The corners that occur, as in ``ThermodynamicLimit.exponents``.
    exponent, left_dimension, right_dimension, log_period
        Those of the last corner; NaN where there is no transition, or where (above bond 2) the words of the last
        context were not seen to repeat themselves.
    """

    time: FloatArray
    index: NDArray[np.int64]
    corners: tuple[Corner, ...]

    @property
    def exponent(self) -> FloatArray:
        return self._each("exponent")

    @property
    def left_dimension(self) -> FloatArray:
        return self._each("left_dimension")

    @property
    def right_dimension(self) -> FloatArray:
        return self._each("right_dimension")

    @property
    def log_period(self) -> FloatArray:
        return self._each("log_period")

    @property
    def corner(self) -> Corner | None:
        """The last corner of a single run, None without a transition."""
        if np.ndim(self.index):
            raise ValueError(f"corner is that of a single run, got runs of shape {np.shape(self.index)}")
        return None if self.index < 0 else self.corners[int(self.index)]

    def _each(self, name: str) -> FloatArray:
        values = np.array([getattr(corner, name) for corner in self.corners] + [np.nan])
        return values[self.index]


def run_exponent(corners: list[Corner], flow: Flow, initial: FloatArray) -> RunExponent:
    """The last of finitely many corners along given runs."""
    time, index = flow.cone_time(np.array([corner.normal for corner in corners]), initial, return_index=True)
    return RunExponent(time, np.where(np.isfinite(time) & (time > 0), index, -1)[()], tuple(corners))
