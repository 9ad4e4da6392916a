r"""Exact gradient flow of a linear student on a given training set, with L1 and L2 penalties.

The loss (Eq. 19) of weights w on n samples x_i (rows) with labels y_i = ±1 is

    R(w) = 1/(2n) Σ_i (x_i · w − y_i)² + λ₂/2 |w|² + λ₁ |w|₁,

and time is that of the flow ẇ = −∂R/∂w = a − Gw − λ₁ sgn(w), with G = XᵀX/n + λ₂ and a = Xᵀy/n (Eq. 20).  The
student predicts sgn(x · w); it has no bias.

Without L1 the flow is w(t) = w_∞ + e^{−Gt}(w(0) − w_∞) in the eigenvectors of G (Eq. 21), where directions without
data keep their initial weight if λ₂ = 0.  With L1 it is solved from event to event (:mod:`grokphase.solvable.l1_flow`).
Zero-error times are zeros of sums of exponentials, found without stepping over any
(:mod:`grokphase.solvable.sign_changes`).

Everything is exact up to rounding.  Eigenvalues of XᵀX below 1e-13 of the largest are taken as zero, so singular
values of X that differ by more than a factor 3e6 are beyond its reach.

References: Žunkovič & Ilievski 2024, Eqs. 18–21, 25; ERRATA on Eqs. 20–21 and 25.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, choice, labels_pm1, real, real_array
from grokphase.solvable import elastic_net
from grokphase.solvable._cones import essential_normals
from grokphase.solvable.exponential_sums import Sums
from grokphase.solvable.flow_modes import BallCondition, ConeCondition, Modes, Stretch
from grokphase.solvable.l1_flow import l1_stretches
from grokphase.solvable.sign_changes import first_entry, last_violation

__all__ = ["GradientFlow"]

IntArray = NDArray[np.int64]
Which = Literal["first", "final"]

_BLOCK_FLOWS = 8192  # flows handled at a time: enough to hide Python behind them
_BLOCK_NUMBERS = 2**21  # and at most so many numbers in any of them
_FEW_NORMALS = 4  # flows for each pair of normals from which on it pays to look for implied ones
_SHARED_FROM = 32  # from so many initial weights on, a data set is worth a block of its own


class _Ball(Protocol):
    """What a test distribution must tell: two unit balls around ±ε on the first axis."""

    @property
    def class_gap(self) -> float | FloatArray: ...

    @property
    def dimension(self) -> int: ...


@dataclass(frozen=True, eq=False)
class GradientFlow:
    r"""Exact gradient flow of a linear student on given training data.

    Leading dimensions of the inputs are a batch of data sets; they broadcast with those of the initial weights.

    Parameters
    ----------
    inputs
        Training inputs x̃, shape (..., n, D); rows are samples.
    labels
        −1 or +1, shape (..., n).
    l1, l2
        Regularisation strengths λ₁, λ₂ ≥ 0.

    Raises
    ------
    ValueError
        If a value is not finite, a label not ±1, a strength negative, or the shapes do not fit.

    Notes
    -----
    Eqs. 19–21; see the module's header for what is exact.  Flows are independent: no result depends on what else is
    in the batch (beyond the last digit).

    Examples
    --------
    >>> flow = GradientFlow([[2.0, 1.0], [-2.0, 1.0]], [1, -1], l1=0.1, l2=0.0)
    >>> flow.weights([0.0, 1.0, 10.0], [0.0, 0.3]).round(4)
    array([[0.    , 0.3   ],
           [0.4663, 0.0472],
           [0.475 , 0.    ]])
    >>> flow.stationary()
    array([0.475, 0.   ])
    >>> round(float(flow.zero_train_time([0.0, 0.3])), 4)
    0.0829
    """

    inputs: FloatArray
    labels: FloatArray
    l1: float = 0.0
    l2: float = 0.01

    def __init__(self, inputs: ArrayLike, labels: ArrayLike, l1: float = 0.0, l2: float = 0.01) -> None:
        inputs, labels = real_array("inputs", inputs, ndim=2), labels_pm1("labels", labels)
        if 0 in inputs.shape[-2:]:
            raise ValueError(f"inputs must hold at least one sample and one feature, got shape {inputs.shape}")
        try:
            shape = np.broadcast_shapes(inputs.shape[:-1], labels.shape)
        except ValueError:
            shape = ()
        if shape[-1:] != inputs.shape[-2:-1]:
            raise ValueError(
                f"labels must have shape (..., {inputs.shape[-2]}) to fit inputs {inputs.shape}, got {labels.shape}"
            )
        for name, value in (
            ("inputs", np.broadcast_to(inputs, (*shape, inputs.shape[-1]))),
            ("labels", np.broadcast_to(labels, shape)),
            ("l1", real("l1", l1, minimum=0.0)),
            ("l2", real("l2", l2, minimum=0.0)),
        ):
            object.__setattr__(self, name, value)

    @property
    def dimension(self) -> int:
        """Dimension D of the feature space."""
        return self.inputs.shape[-1]

    @cached_property
    def gram(self) -> FloatArray:
        """Matrix G = XᵀX/n + λ₂, shape (..., D, D) (Eq. 19)."""
        return _read_only(self._data_gram + self.l2 * np.eye(self.dimension))

    @cached_property
    def correlation(self) -> FloatArray:
        """Vector a = Xᵀy/n, shape (..., D), without the sign term of Eq. 19."""
        return _read_only((self.labels[..., None, :] @ self.inputs)[..., 0, :] / self.inputs.shape[-2])

    def weights(self, time: ArrayLike, initial: ArrayLike) -> FloatArray:
        """Weights at given times.

        Parameters
        ----------
        time
            Times ≥ 0, of any shape T (one number gives no time dimension).
        initial
            w(0), shape (..., D).

        Returns
        -------
        weights
            Shape (..., T, D).

        Notes
        -----
        Eq. 21; with L1, the solution of the differential inclusion.  Resting weights are exactly zero.

        Examples
        --------
        >>> flow = GradientFlow([[1.0], [-1.0]], [1, -1], l2=0.0)
        >>> float(flow.weights(np.log(2), [0.0])[0])
        0.5
        """
        time = real_array("time", time, minimum=0.0)
        times = time.reshape(-1)

        def work(sets: IntArray, _: IntArray, start: FloatArray) -> tuple[FloatArray, ...]:
            out = np.empty((len(start), times.size, self.dimension))
            for stretch in self._stretches(sets, start):
                since = times - stretch.start[:, None]
                local = np.clip(since, 0.0, stretch.duration[:, None])
                begun = (since >= 0)[:, :, None]  # later stretches overwrite what is past their start
                out[stretch.flows] = np.where(begun, stretch.modes.weights(local), out[stretch.flows])
            return (out,)

        batch = self._batch(initial)
        (weights,) = batch.run(work, numbers=times.size * (self.dimension + 2))
        return weights.reshape(*weights.shape[:-2], *time.shape, self.dimension)

    def stationary(self, initial: ArrayLike | None = None) -> FloatArray:
        """Weights after infinite time.

        Parameters
        ----------
        initial
            w(0), shape (..., D).  Needed where the data do not determine the limit (singular G); None stands for
            the limit of least norm without L1, and for one of the minimisers with L1.

        Returns
        -------
        weights
            Shape (..., D).

        Notes
        -----
        Without L1, G⁺a plus the part of w(0) in the null space of G (ERRATA on Eq. 21); with L1 the elastic net.
        """
        if initial is None:
            if self.l1:
                return elastic_net.stationary(self.gram, self.correlation, self.l1)
            rates, vectors, _ = self._spectrum
            least = self._push / np.where(self._push == 0, 1.0, rates)
            return (vectors @ least[..., None])[..., 0]

        def work(sets: IntArray, _: IntArray, start: FloatArray) -> tuple[FloatArray, ...]:
            limit = np.empty_like(start)
            for stretch in self._stretches(sets, start):
                limit[stretch.flows] = stretch.modes.limit()
            return (limit,)

        batch = self._batch(initial)
        if self.l1 and not self._singular:  # the limit does not depend on where the flow starts
            limit = elastic_net.stationary(self.gram, self.correlation, self.l1)
            return np.broadcast_to(limit, (*batch.shape, self.dimension)).copy()
        (limit,) = batch.run(work, numbers=self.dimension)
        return limit

    def zero_train_time(self, initial: ArrayLike, which: Which = "final") -> FloatArray:
        """Time at which all training samples are on their right side, y_i (x_i · w) > 0.

        Parameters
        ----------
        initial
            w(0), shape (..., D).
        which
            "final": the time after which the error stays zero; "first": the first time at which it is zero.

        Returns
        -------
        time
            Shape (...).  0 if the error is zero from the beginning, infinity if that never comes.

        Notes
        -----
        A sample exactly on the plane counts as an error, as sgn(0) is no label; the time is the infimum of those at
        which the condition holds, so weights that start at zero may have time 0.
        """
        return self.cone_time(self.labels[..., None] * self.inputs, initial, which)

    def zero_test_time(self, initial: ArrayLike, model: _Ball, which: Which = "final") -> FloatArray:
        """Time at which the test error of a ball model is zero, ε w₁ ≥ |w| and w₁ > 0.

        Parameters
        ----------
        initial
            w(0), shape (..., D).
        model
            A :class:`~grokphase.solvable.ball.BallModel`; only its class gap and dimension matter here.
        which
            As in :meth:`zero_train_time`.

        Returns
        -------
        time
            Shape (...), as in :meth:`zero_train_time`.

        Notes
        -----
        Eq. 25 with the condition w₁ > 0 that it lacks (ERRATA).

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> flow = GradientFlow([[1.0, 0.0], [-1.0, 0.0]], [1, -1], l2=0.5)
        >>> ball = SimpleNamespace(class_gap=2.0, dimension=2)
        >>> round(float(flow.zero_test_time([0.0, 1.0], ball)), 4)
        0.6533
        """
        which = choice("which", which, ("first", "final"))
        gap = real("model.class_gap", model.class_gap, minimum=0.0)
        if model.dimension != self.dimension:
            raise ValueError(f"model must have dimension {self.dimension} as the data, got {model.dimension}")

        def work(sets: IntArray, _: IntArray, start: FloatArray) -> tuple[NDArray[Any], ...]:
            return _times(self._stretches(sets, start), lambda modes, _: BallCondition(modes, gap), which)[:1]

        (time,) = self._batch(initial).run(work, numbers=2 * (self.dimension + 2) ** 2)
        return time[()]

    def cone_time(
        self, normals: ArrayLike, initial: ArrayLike, which: Which = "final", *, return_index: bool = False
    ) -> Any:
        """Time at which the weights are inside a cone, normal · w > 0 for all its normals.

        Parameters
        ----------
        normals
            Shape (..., F, D).
        initial
            w(0), shape (..., D).
        which
            As in :meth:`zero_train_time`.
        return_index
            Whether to return also which normal was the last to be crossed.

        Returns
        -------
        time
            Shape (...), as in :meth:`zero_train_time`.
        index
            Only with ``return_index``: the number of the normal whose condition is the last to become true at
            ``time``; −1 where the time is 0.  Where the time is infinite, one that is violated in the end ("final")
            or −1 ("first").
        """
        which = choice("which", which, ("first", "final"))
        normals = real_array("normals", normals, ndim=2)
        if normals.shape[-1] != self.dimension or not normals.shape[-2]:
            raise ValueError(f"normals must have shape (..., F ≥ 1, {self.dimension}), got {normals.shape}")
        flat, batch = normals.reshape(-1, *normals.shape[-2:]), self._batch(initial, normals.shape[:-2])
        kept = np.arange(normals.shape[-2])
        if len(flat) == 1 and _FEW_NORMALS * kept.size**2 <= batch.initial[..., 0].size:
            kept = essential_normals(flat[0])  # worth its time with so many flows
            flat = flat[:, kept]

        def work(sets: IntArray, cones: IntArray, start: FloatArray) -> tuple[NDArray[Any], ...]:
            def condition(modes: Modes, flows: IntArray) -> Sums:
                return ConeCondition.of(modes, flat[cones if len(cones) == 1 else cones[flows]])

            return _times(self._stretches(sets, start), condition, which)

        time, index = batch.run(work, numbers=(self.dimension + 2) * (self.dimension + kept.size))
        return (time[()], np.where(index < 0, -1, kept[index])[()]) if return_index else time[()]

    # --- the flow itself ---

    @property
    def _batch_shape(self) -> tuple[int, ...]:
        return self.labels.shape[:-1]

    def _batch(self, initial: ArrayLike, cones: tuple[int, ...] = ()) -> "_Batch":
        initial = real_array("initial", initial, ndim=1)
        if initial.shape[-1] != self.dimension:
            raise ValueError(f"initial must have shape (..., {self.dimension}), got {initial.shape}")
        _ = (self.gram, self.correlation) if self.l1 else (self._spectrum, self._push)  # once, not in every thread
        return _Batch.of(self._batch_shape, cones, initial)

    @cached_property
    def _data_gram(self) -> FloatArray:
        return self.inputs.swapaxes(-1, -2) @ self.inputs / self.inputs.shape[-2]

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """Rates (..., D), eigenvectors (..., D, D) in columns, and which directions (..., D) the data determine."""
        rates, vectors = np.linalg.eigh(self._data_gram)
        moving = rates > elastic_net.RANK_TOLERANCE * rates[..., -1:]
        return np.where(moving, rates, 0.0) + self.l2, vectors, moving

    @property
    def _singular(self) -> bool:
        """Whether some data set leaves a direction undetermined."""
        return self.l2 == 0 and not bool(self._spectrum[2].all())

    @cached_property
    def _push(self) -> FloatArray:
        """What drives every mode, shape (..., D): the data's part of a; 0 where they do not determine a direction."""
        _, vectors, moving = self._spectrum
        return np.where(moving, (self.correlation[..., None, :] @ vectors)[..., 0, :], 0.0)

    def _stretches(self, sets: IntArray, initial: FloatArray) -> list[Stretch]:
        """The flows from Q initial weights on the given data sets (Q of them, or one for all)."""
        count, dimension = initial.shape
        if self.l1:
            rows = np.broadcast_to(sets, count)
            gram, correlation = self.gram.reshape(-1, dimension, dimension), self.correlation.reshape(-1, dimension)
            return l1_stretches(gram[rows], correlation[rows], self.l1, initial)
        rates, vectors, _ = self._spectrum
        vectors = vectors.reshape(-1, dimension, dimension)[sets]
        start = initial @ vectors[0] if len(sets) == 1 else (initial[:, None] @ vectors)[:, 0]
        modes = Modes(vectors, start, self._push.reshape(-1, dimension)[sets], rates.reshape(-1, dimension)[sets])
        return [Stretch(np.arange(count), np.zeros(count), np.full(count, np.inf), modes)]


def _read_only(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array


_Condition = Callable[[Modes, IntArray], Sums]
"""(modes of some flows, their numbers) -> functions that must be positive."""


def _times(stretches: list[Stretch], condition: _Condition, which: Which) -> tuple[FloatArray, IntArray]:
    """Zero-error time of every flow and the function that decides it (−1 for none)."""
    final = which == "final"
    count = len(stretches[0].flows)
    time, index = np.full(count, 0.0 if final else np.inf), np.full(count, -1)
    undecided = np.ones(count, dtype=bool)
    for stretch in reversed(stretches) if final else stretches:
        rows = np.flatnonzero(undecided[stretch.flows])
        if not rows.size:
            continue
        flows = stretch.flows[rows]
        functions = condition(stretch.modes.take(rows), flows)
        local, culprit = (last_violation if final else first_entry)(functions, stretch.duration[rows])
        found = culprit >= 0 if final else np.isfinite(local)
        time[flows[found]] = stretch.start[rows[found]] + local[found]
        index[flows[found]] = culprit[found]
        undecided[flows[found]] = False
    index[time == 0] = -1
    return time, index


# --- batches: data sets times initial weights ---

_Work = Callable[[IntArray, IntArray, FloatArray], tuple[NDArray[Any], ...]]
"""(data sets, cones, initial weights of Q flows) -> arrays with Q rows; the first two may hold one number for all."""


@dataclass(frozen=True)
class _Batch:
    """Broadcast of data sets, cones and initial weights, split into blocks of flows.

    Dimensions along which the data (or cones) change come first, those along which only the initial weights change
    last: there one eigen-decomposition and large matrix products serve all.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    """Dimensions of ``shape`` in the order used inside."""
    sets: IntArray
    """(S,) number of the data set."""
    cones: IntArray
    """(S,) number of the cone."""
    initial: FloatArray
    """(S, P, D)"""

    @classmethod
    def of(cls, sets: tuple[int, ...], cones: tuple[int, ...], initial: FloatArray) -> "_Batch":
        try:
            shape = np.broadcast_shapes(sets, cones, initial.shape[:-1])
        except ValueError:
            raise ValueError(
                f"the leading dimensions of inputs {sets}, of normals {cones} and of initial "
                f"{initial.shape[:-1]} must broadcast"
            ) from None
        varies = np.ones(len(shape), dtype=int)
        for given in (sets, cones):
            varies = np.maximum(varies, (1,) * (len(shape) - len(given)) + given)
        outer = tuple(int(k) for k in np.flatnonzero(varies > 1))
        order = outer + tuple(int(k) for k in np.flatnonzero(varies == 1))
        count = int(np.prod([shape[k] for k in outer], dtype=np.int64))

        def numbers(given: tuple[int, ...]) -> IntArray:
            each = np.arange(np.prod(given, dtype=np.int64)).reshape(given)
            each = np.broadcast_to(each, tuple(int(v) for v in varies))
            return each.transpose(order).reshape(count)

        flat = np.broadcast_to(initial, (*shape, initial.shape[-1])).transpose(*order, len(shape))
        return cls(shape, order, numbers(sets), numbers(cones), flat.reshape(count, -1, initial.shape[-1]))

    def run(self, work: _Work, *, numbers: int) -> list[NDArray[Any]]:
        """Do the work on all blocks, on all cores; ``numbers`` is the size of the work's largest array per flow."""
        size, total = max(1, min(_BLOCK_FLOWS, _BLOCK_NUMBERS // numbers)), self.initial[:, :, 0].size
        rounds = -(-total // (size * _workers()))
        size = max(1, -(-total // (rounds * _workers()))) if rounds else size  # the same for all workers
        blocks = list(self._blocks(size))
        if not blocks:
            blocks = [(self.sets[:1], self.cones[:1], self.initial.reshape(0, self.initial.shape[-1]))]
        with ThreadPoolExecutor(_workers()) as pool:  # NumPy works outside the interpreter lock
            results = list(pool.map(lambda block: work(*block), blocks))
        inner = tuple(self.shape[k] for k in self.order)
        back = np.argsort(self.order, kind="stable")
        out = []
        for parts in zip(*results, strict=True):
            values = np.concatenate(parts)
            rest = values.shape[1:]
            restored = values.reshape(inner + rest)
            out.append(restored.transpose([*back, *range(len(inner), restored.ndim)]))
        return out

    def _blocks(self, size: int) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        count, per_set, dimension = self.initial.shape
        if per_set >= _SHARED_FROM or count == 1:
            for k in range(count):
                for start in range(0, per_set, size):
                    yield self.sets[k : k + 1], self.cones[k : k + 1], self.initial[k, start : start + size]
            return
        flat = self.initial.reshape(-1, dimension)
        for start in range(0, len(flat), size):
            rows = np.arange(start, min(start + size, len(flat))) // per_set
            yield self.sets[rows], self.cones[rows], flat[start : start + size]


def _workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
