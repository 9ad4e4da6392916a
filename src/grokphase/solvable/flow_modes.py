r"""Weights of a linear flow in its modes, and the conditions "training error zero", "test error zero" on them.

Between events (without L1: always) the weights are w(t) = V y(t) with orthonormal columns of V, and every mode relaxes
at its own rate, ẏ = p − μy:

    y(t) = y(0) e^{−μt} + p φ(t),    φ(t) = (1 − e^{−μt})/μ,    φ(t) = t where μ = 0.

This form is as accurate as the weights themselves also where G is nearly singular and the limit p/μ far away, which a
sum of limit and decaying part is not.  The slope (p − μy(0)) e^{−μt} and all higher derivatives of y are monotone, and
so is y, so their two end values enclose them on an interval.  Linear and quadratic conditions on w, with these
enclosures, are what the walks of :mod:`grokphase.solvable.sign_changes` need.  If a condition is neither met nor
violated after infinite time, its sign at late times is that of its slowest exponential: then the limits are subtracted
once, and what is left of an exactly vanishing term by rounding is dropped (``plain``).

References: Žunkovič & Ilievski 2024, Eq. 21; Eq. 25 with ERRATA for the cone of zero test error.
"""

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.solvable.exponential_sums import Expansion, ExponentialSums

__all__ = ["BallCondition", "ConeCondition", "Modes", "Stretch"]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Modes:
    """Q flows of dimension D; a leading 1 means that all flows share the array.

    Attributes
    ----------
    vectors
        V, shape (Q, D, D) or (1, D, D), modes in columns; rows of resting weights are zero.
    start
        y(0), shape (Q, D).
    push
        p, shape (Q, D) or (1, D).
    rates
        μ ≥ 0, shape (Q, D) or (1, D).
    """

    vectors: FloatArray
    start: FloatArray
    push: FloatArray
    rates: FloatArray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: NDArray[np.generic]) -> "Modes":
        """The flows at the given places (mask or indices)."""
        return Modes(_part(self.vectors, rows), self.start[rows], _part(self.push, rows), _part(self.rates, rows))

    def velocity(self) -> FloatArray:
        """Slopes (Q, D) of the modes at the start."""
        return self.push - self.rates * self.start

    def away(self) -> FloatArray:
        """Where the modes start, seen from their limits (Q, D)."""
        moving = self.rates > 0
        return np.where(moving, -self.velocity() / np.where(moving, self.rates, 1.0), 0.0)

    def aligned(self) -> tuple["Modes", FloatArray | None]:
        """The same weights with modes of equal rates turned so that only one of them moves; and what turned them.

        Else what cancels between them would hide that a function is constant.  Rates that differ by rounding are made
        equal; they must be in ascending order.
        """
        dimension = self.rates.shape[1]
        tolerance = 4 * _EPS * dimension * self.rates[:, -1:]
        new = np.diff(self.rates, axis=1, prepend=-np.inf) > tolerance
        if not (~new & (self.velocity() != 0)).any():
            return self, None
        first = np.maximum.accumulate(np.where(new, np.arange(dimension), 0), axis=1)
        rates = np.broadcast_to(np.take_along_axis(self.rates, first, axis=1), self.start.shape)
        first = np.broadcast_to(first, self.start.shape)
        together = (first[:, :, None] == first[:, None, :]).astype(float)
        # Householder reflections, one for each group, that turn its velocity onto its first mode.
        velocity = self.push - rates * self.start
        leads = first == np.arange(dimension)
        length = np.sqrt((together @ (velocity**2)[:, :, None])[:, :, 0])
        normal = velocity + np.where(leads, np.copysign(length, velocity), 0.0)
        square = (together @ (normal**2)[:, :, None])[:, :, 0]
        mirror = (
            np.eye(dimension)
            - 2 * together * normal[:, :, None] * normal[:, None, :] / np.where(square > 0, square, 1.0)[:, :, None]
        )
        start = (self.start[:, None] @ mirror)[:, 0]
        push = np.where(leads, (self.push[:, None] @ mirror)[:, 0], rates * start)
        return Modes(self.vectors @ mirror, start, push, rates), mirror

    def limits(self) -> FloatArray:
        """Values (Q, D) of the modes after infinite time; of a mode that drifts, its start."""
        moving = self.rates > 0
        return np.where(moving, self.push / np.where(moving, self.rates, 1.0), self.start)

    def drifting(self) -> BoolArray:
        """(Q,): whether some mode grows for ever."""
        return np.broadcast_to(((self.rates == 0) & (self.push != 0)).any(axis=1), len(self))

    def limit(self) -> FloatArray:
        """Weights (Q, D) after infinite time, if nothing drifts."""
        return _times_each(self.limits()[:, None], self.vectors)[:, 0]

    def weights(self, time: FloatArray) -> FloatArray:
        """Weights of every flow at its own times: (Q, T) -> (Q, T, D)."""
        decay, phi = self.factors(time[:, :, None], self.rates[:, None])
        return _times_each(self.start[:, None] * decay + self.push[:, None] * phi, self.vectors)

    @staticmethod
    def factors(time: FloatArray, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """e^{−μt} and φ(t)."""
        exponent = -rates * time
        if rates.all():
            return np.exp(exponent), np.expm1(exponent) / -rates
        moving = rates > 0
        return np.exp(exponent), np.where(moving, np.expm1(exponent) / np.where(moving, -rates, 1.0), time)


def _part(array: FloatArray, rows: NDArray[np.generic]) -> FloatArray:
    return array if len(array) == 1 else array[rows]


def _times_each(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    """(Q, R, D) times the transposed of (Q, F, D) or (1, F, D).

    One small product for each problem, also where all share the matrix: the digits of a result then do not depend on
    what it is computed with, and BLAS starts no threads of its own inside ours.
    """
    return rows @ matrix.swapaxes(-1, -2)


@dataclass(frozen=True)
class Stretch:
    """A part of several flows between two events.

    Attributes
    ----------
    flows
        Shape (Q,), which flows.
    start, duration
        Shape (Q,); the last stretch of a flow lasts for ever.
    modes
        The weights as functions of the time since ``start``.
    """

    flows: IntArray
    start: FloatArray
    duration: FloatArray
    modes: Modes


# --- Taylor coefficients of the modes ---


def _taylor(modes: Modes, time: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients of y at every flow's own time, orders 0..J, shape (Q, J + 1, D), and rounding errors (Q, J, 1).

    The errors are those of any unit vector times w.
    """
    rates = modes.rates
    decay, phi = modes.factors(time[:, None], rates)
    coefficients = np.empty((len(modes), order + 1, rates.shape[1]))
    coefficients[:, 0] = modes.start * decay + modes.push * phi
    coefficients[:, 1] = modes.velocity() * decay
    sizes = np.empty((len(modes), order + 1, 1))
    sizes[:, 0, 0] = (np.abs(modes.start) * decay + np.abs(modes.push) * phi).sum(axis=1)
    force = (np.abs(modes.push) + rates * np.abs(modes.start)) * decay
    sizes[:, 1, 0] = force.sum(axis=1)
    for k in range(1, order):
        np.multiply(coefficients[:, k], rates / -(k + 1), out=coefficients[:, k + 1])
        force = force * (rates / (k + 1))
        sizes[:, k + 1, 0] = force.sum(axis=1)
    # Rounding of a sum of D terms, and of each term through its rounded argument.
    by_sum, by_time = _EPS * (rates.shape[1] + 3), 2 * _EPS * time[:, None, None]
    return coefficients, by_sum * sizes[:, :-1] + by_time * np.arange(1, order + 1)[:, None] * sizes[:, 1:]


def _last_coefficient(modes: Modes, time: FloatArray, order: int) -> FloatArray:
    """Coefficient of order J ≥ 1 alone, shape (Q, D)."""
    factor = (-modes.rates) ** (order - 1) / factorial(order)
    return modes.velocity() * (factor * np.exp(-modes.rates * time[:, None]))


def _settling(modes: Modes, margin: FloatArray) -> FloatArray:
    """(Q,): time from which on the distance to the limit, |w − w_∞|, is below the margin; infinite if modes drift."""
    away = np.abs(modes.away())
    share = modes.rates.shape[1] * away / margin[:, None]
    fading = (modes.rates > 0) & (share > 1)
    time = np.log(np.where(fading, share, 1.0)) / np.where(modes.rates > 0, modes.rates, 1.0)
    return np.where(modes.drifting(), np.inf, time.max(axis=1))


def _margin(lead: FloatArray, noise: FloatArray, sizes: FloatArray) -> FloatArray:
    """How far every function may still be from its limit ``lead`` without a change of sign: (Q, F) -> (Q, F).

    If the limit is zero within its noise, it may be as far as that; if there is no noise, then ε² of its start.
    """
    return np.maximum(0.5 * np.abs(lead), np.maximum(noise, _EPS**2 * sizes)) + np.finfo(np.float64).tiny


# --- conditions ---


@dataclass(frozen=True)
class ConeCondition:
    """The functions offset + normal · w(t), F of them.

    Attributes
    ----------
    modes
        Q flows.
    matrix
        Normals times V, shape (Q, F, D) or (1, F, D).
    sizes
        |normal|, shape (Q, F) or (1, F).
    offset
        Shape (Q, F), or None for 0.
    """

    modes: Modes
    matrix: FloatArray
    sizes: FloatArray
    offset: FloatArray | None = None

    @classmethod
    def of(cls, modes: Modes, normals: FloatArray) -> "ConeCondition":
        """Of ``normals`` with shape (Q, F, D) or (1, F, D)."""
        return cls(modes, normals @ modes.vectors, np.linalg.norm(normals, axis=-1))

    def __len__(self) -> int:
        return len(self.modes)

    def take(self, rows: NDArray[np.generic]) -> "ConeCondition":
        """The problems at the given places (mask or indices)."""
        return ConeCondition(
            self.modes.take(rows),
            _part(self.matrix, rows),
            _part(self.sizes, rows),
            None if self.offset is None else self.offset[rows],
        )

    @property
    def fastest(self) -> FloatArray:
        """(Q,): the largest rate."""
        return np.broadcast_to(self.modes.rates, self.modes.start.shape).max(axis=1)

    def idle(self) -> BoolArray:
        """(Q, F): none, as zero is not positive."""
        return np.zeros((len(self), self.matrix.shape[1]), dtype=bool)

    def expand(self, time: FloatArray, ahead: FloatArray, order: int) -> Expansion:
        """See :class:`~grokphase.solvable.exponential_sums.Sums`."""
        taylor, unit_noise = _taylor(self.modes, time, order)
        here, there = taylor[:, order], _last_coefficient(self.modes, ahead, order)
        coefficients = _times_each(taylor[:, :order], self.matrix)
        middle = 0.5 * _times_each((here + there)[:, None], self.matrix)[:, 0]
        radius = 0.5 * _times_each(np.abs(here - there)[:, None], np.abs(self.matrix))[:, 0]
        noise = self.sizes[:, None] * unit_noise
        if self.offset is not None:
            coefficients[:, 0] += self.offset
            noise[:, 0] += 2 * _EPS * np.abs(self.offset)
        return Expansion(coefficients, middle - radius, middle + radius, noise)

    def settled(self) -> tuple[IntArray, FloatArray]:
        """See :class:`~grokphase.solvable.exponential_sums.Sums`."""
        lead, noise = self._lead()
        clear = np.abs(lead) > noise
        start = self.sizes * np.abs(self.modes.away()).sum(axis=1, keepdims=True)
        # In units of the normal: functions with normal 0 never change.
        unit = np.where(self.sizes > 0, self.sizes, 1.0)
        margin = np.where(self.sizes > 0, _margin(lead, noise, start) / unit, np.inf).min(axis=1)
        return np.where(clear, np.sign(lead), 0).astype(np.int64), _settling(self.modes, margin)

    def _lead(self) -> tuple[FloatArray, FloatArray]:
        """Value after infinite time, shape (Q, F), and its noise."""
        limits = self.modes.limits()
        lead = _times_each(limits[:, None], self.matrix)[:, 0]
        noise = _EPS * (limits.shape[1] + 3) * self.sizes * np.abs(limits).sum(axis=1, keepdims=True)
        if self.offset is not None:
            lead, noise = lead + self.offset, noise + 2 * _EPS * np.abs(self.offset)
        return lead, 4 * noise

    def plain(self) -> ExponentialSums:
        """See :class:`~grokphase.solvable.exponential_sums.Sums`."""
        lead, noise = self._lead()
        modes, mirror = self.modes.aligned()
        matrix = self.matrix if mirror is None else self.matrix @ mirror
        matrix = np.where(np.abs(matrix) > 16 * _EPS * self.sizes[..., None], matrix, 0.0)
        constant = np.where(np.abs(lead) > noise, lead, 0.0)[:, :, None]
        away = modes.away()
        rates = np.broadcast_to(modes.rates, away.shape)
        return ExponentialSums(
            np.concatenate([constant, matrix * away[:, None]], axis=2),
            np.hstack([np.zeros((len(away), 1)), rates])[:, None],
        )


@dataclass(frozen=True)
class BallCondition:
    """The functions ε²w₁² − |w|² (≥ 0 counts as positive) and w₁ (> 0): both hold where the test error is zero."""

    modes: Modes
    class_gap: float

    def __len__(self) -> int:
        return len(self.modes)

    def take(self, rows: NDArray[np.generic]) -> "BallCondition":
        """The problems at the given places (mask or indices)."""
        return BallCondition(self.modes.take(rows), self.class_gap)

    @property
    def fastest(self) -> FloatArray:
        """(Q,): the largest rate of the weights; the condition has up to twice that."""
        return 2 * np.broadcast_to(self.modes.rates, self.modes.start.shape).max(axis=1)

    @property
    def _signature(self) -> FloatArray:
        signs = np.full(self.modes.vectors.shape[1], -1.0)
        signs[0] = (self.class_gap - 1) * (self.class_gap + 1)
        return signs

    def idle(self) -> BoolArray:
        """(Q, 2): functions that vanish identically and count as positive."""
        modes = self.modes
        ever = (np.abs(modes.start) + np.abs(modes.push) > 0)[:, None]
        moves = ((modes.vectors != 0) & ever).any(axis=2) & (self._signature != 0)
        return np.stack([~moves.any(axis=1), np.zeros(len(self), dtype=bool)], axis=1)

    def expand(self, time: FloatArray, ahead: FloatArray, order: int) -> Expansion:
        """See :class:`~grokphase.solvable.exponential_sums.Sums`."""
        vectors, signs, size = self.modes.vectors, self._signature, np.abs(self._signature)
        here, unit_noise = _taylor(self.modes, time, order)
        there, _ = _taylor(self.modes, ahead, order)
        w = _times_each(here, vectors)
        middle = 0.5 * _times_each(here + there, vectors)
        radius = 0.5 * _times_each(np.abs(here - there), np.abs(vectors))
        noise = unit_noise * (vectors != 0).any(axis=2)[:, None]  # resting weights are exact
        coefficients, rounding = np.empty((2, len(self), order, 2))
        for k in range(order):
            products = w[:, : k + 1] * w[:, k::-1]
            errors = (2 * np.abs(w[:, : k + 1]) + noise[:, : k + 1]) * noise[:, k::-1]
            errors += _EPS * (len(signs) + k + 2) * np.abs(products)
            coefficients[:, k, 0] = products.sum(axis=1) @ signs
            rounding[:, k, 0] = errors.sum(axis=1) @ size
        coefficients[:, :, 1], rounding[:, :, 1] = w[:, :order, 0], unit_noise[:, :, 0]
        # The products of enclosures, order by order.
        back, wide = middle[:, ::-1], radius[:, ::-1]
        center = (middle * back).sum(axis=1) @ signs
        spread = (np.abs(middle) * wide + radius * (np.abs(back) + wide)).sum(axis=1) @ size
        return Expansion(
            coefficients,
            low=np.stack([center - spread, middle[:, order, 0] - radius[:, order, 0]], axis=1),
            high=np.stack([center + spread, middle[:, order, 0] + radius[:, order, 0]], axis=1),
            noise=rounding,
        )

    def settled(self) -> tuple[IntArray, FloatArray]:
        """See :class:`~grokphase.solvable.exponential_sums.Sums`."""
        lead, noise = self._lead()
        clear = np.abs(lead) > noise
        largest = max(1.0, float(np.abs(self._signature).max()))
        start = np.linalg.norm(self.modes.away(), axis=1)
        size = np.linalg.norm(self.modes.limits(), axis=1)
        sizes = np.stack([largest * (2 * size + start) * start, start], axis=1)
        margin = _margin(lead, noise, sizes)
        # |f − f_∞| ≤ s (2 |w_∞| δ + δ²) at distance δ: the δ that makes this the margin.
        share = margin[:, 0] / largest
        distance = np.minimum(share / (size + np.sqrt(size**2 + share)), margin[:, 1])
        sign = np.where(self.idle(), 1, np.where(clear, np.sign(lead), 0))
        return sign.astype(np.int64), _settling(self.modes, distance)

    def _lead(self) -> tuple[FloatArray, FloatArray]:
        """Values after infinite time, shape (Q, 2), and their noise."""
        limits, signs = self.modes.limits(), self._signature
        w = _times_each(limits[:, None], self.modes.vectors)[:, 0]
        lead = np.stack([(signs * w**2).sum(axis=1), w[:, 0]], axis=1)
        unit = 4 * _EPS * (len(signs) + 3) * np.abs(limits).sum(axis=1)
        return lead, np.stack([3 * np.abs(signs * w).sum(axis=1) * unit, unit], axis=1)

    def plain(self) -> ExponentialSums:
        """See :class:`~grokphase.solvable.exponential_sums.Sums`.

        With y = L + A e^{−μt} the quadratic form is a sum over the pairs of modes, the limit among them.
        """
        lead, noise = self._lead()
        modes, signs = self.modes.aligned()[0], self._signature
        limits, away = modes.limits(), modes.away()
        rates = np.broadcast_to(modes.rates, away.shape)
        vectors = np.where(np.abs(modes.vectors) > 16 * _EPS, modes.vectors, 0.0)
        form = (vectors * signs[:, None]).swapaxes(-1, -2) @ vectors
        form = np.where(np.abs(form) > 16 * _EPS * np.abs(signs).max(), form, 0.0)
        mixed = 2 * (limits[:, None] @ form)[:, 0]
        mixed_noise = 16 * _EPS * np.abs(signs).max() * np.abs(limits).sum(axis=1, keepdims=True)
        mixed = np.where(np.abs(mixed) > mixed_noise, mixed, 0.0)
        left, right = np.triu_indices(len(signs))
        pairs = np.broadcast_to(form[:, left, right] * np.where(left == right, 1.0, 2.0), (len(modes), left.size))
        amplitudes = np.zeros((len(modes), 2, 1 + len(signs) + left.size))
        amplitudes[:, :, 0] = np.where(np.abs(lead) > noise, lead, 0.0)
        amplitudes[:, 0, 1:] = np.hstack([mixed * away, pairs * away[:, left] * away[:, right]])
        amplitudes[:, 1, 1 : 1 + len(signs)] = vectors[:, 0] * away
        return ExponentialSums(
            amplitudes,
            np.hstack([np.zeros((len(modes), 1)), rates, rates[:, left] + rates[:, right]])[:, None],
            closed=np.array([True, False]),
        )
