r"""Sums of exponentials, and what one must tell of functions of time to find where they change sign.

The walks of :mod:`grokphase.solvable.sign_changes` take any functions that come as :class:`Sums`: Q problems of F
functions each, with Taylor coefficients at a time and an enclosure of the coefficient of highest order up to another
time.  Here they are

    f_k(t) = Σ_i  amplitudes[k, i] · e^{−rates[k, i] t},        k = 1..F, t ≥ 0,

where every derivative of every term is monotone, so its two end values enclose it (sums by midpoint and radius).  The
conditions on a gradient flow are in :mod:`grokphase.solvable.flow_modes`.

Rounding errors of the coefficients are bounded along with them: ε(K + 2) Σ|terms| for a sum of K terms, and 2εt times
the next derivative for the rounded arguments.

References: Žunkovič & Ilievski 2024, Eq. 21 (the weights are such sums).
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["Expansion", "ExponentialSums", "Sums"]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
_UNDERFLOW = 1e-290  # of the largest amplitude: below it doubles lose their digits


@dataclass(frozen=True)
class Expansion:
    """Taylor coefficients c_k = f^(k)/k! at a time t, k < J, and bounds of c_J on a trial interval from there."""

    coefficients: FloatArray
    """Shape (Q, J, F)."""
    low: FloatArray
    """Lower bound of c_J, shape (Q, F)."""
    high: FloatArray
    noise: FloatArray
    """Bounds on the rounding errors of the coefficients, shape (Q, J, F)."""

    def take(self, rows: IntArray) -> "Expansion":
        """Of the problems at the given places."""
        return Expansion(self.coefficients[rows], self.low[rows], self.high[rows], self.noise[rows])

    @property
    def value(self) -> FloatArray:
        return self.coefficients[:, 0]

    @property
    def slope(self) -> FloatArray:
        return self.coefficients[:, 1]

    @property
    def value_noise(self) -> FloatArray:
        return self.noise[:, 0]

    @property
    def slope_noise(self) -> FloatArray:
        return self.noise[:, 1]


class Sums(Protocol):
    """Q problems of F functions, as the walks need them."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.generic]) -> Self:
        """The problems at the given places (mask or indices)."""

    @property
    def fastest(self) -> FloatArray:
        """(Q,): the largest rate."""

    def idle(self) -> BoolArray:
        """(Q, F): functions that vanish identically and count as positive."""

    def expand(self, time: FloatArray, ahead: FloatArray, order: int) -> Expansion:
        """Taylor coefficients at ``time`` (Q,) below the order, which is enclosed from there to ``ahead``."""

    def settled(self) -> tuple[IntArray, FloatArray]:
        """Final sign of every function (Q, F), and a time (Q,) from which all functions have it.

        Sign 0 where the value after infinite time is zero within rounding; only idle functions keep it to the end
        if the sums are :class:`ExponentialSums`.
        """

    def plain(self) -> "ExponentialSums":
        """The same functions in a form that tells their sign to the end, however small they become."""


@dataclass(frozen=True)
class ExponentialSums:
    """Q problems of F sums of K exponentials each.

    Attributes
    ----------
    amplitudes
        Shape (Q, F, K).
    rates
        μ ≥ 0, of a shape that broadcasts with the amplitudes.
    closed
        Shape (F,): whether a function that vanishes identically counts as positive (for conditions ≥ 0).
    """

    amplitudes: FloatArray
    rates: FloatArray
    closed: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.amplitudes)

    def take(self, rows: NDArray[np.generic]) -> "ExponentialSums":
        """The problems at the given places (mask or indices)."""
        rates = self.rates if len(self.rates) == 1 else self.rates[rows]
        return replace(self, amplitudes=self.amplitudes[rows], rates=rates)

    @property
    def fastest(self) -> FloatArray:
        """(Q,): the largest rate."""
        return np.broadcast_to(self.rates, self.amplitudes.shape).max(axis=(1, 2))

    def plain(self) -> "ExponentialSums":
        """The same signs at every time, with slowest rate zero: each function times a growing exponential.

        Keeps functions that decay to nothing (no constant term) from underflowing before their last zero.  Terms with
        equal rates are added up, and what rounding leaves of those that cancel is dropped.
        """
        order = np.argsort(np.broadcast_to(self.rates, self.amplitudes.shape), axis=2, kind="stable")
        rates = np.take_along_axis(np.broadcast_to(self.rates, self.amplitudes.shape), order, axis=2)
        terms = np.take_along_axis(self.amplitudes, order, axis=2)
        count = terms.shape[2]
        new = np.diff(rates, axis=2, prepend=-1.0) > 0
        group = np.cumsum(new, axis=2)[..., None] - 1 == np.arange(count)  # (Q, F, K, group)
        total = np.einsum("qfk,qfkg->qfg", terms, group)
        size = np.einsum("qfk,qfkg->qfg", np.abs(terms), group)
        total = np.where(np.abs(total) > count * _EPS * size, total, 0.0)
        rates = np.where(group, rates[..., None], 0.0).max(axis=2)
        slowest = np.where(total != 0, rates, np.inf).min(axis=2, keepdims=True)
        return replace(self, amplitudes=total, rates=np.where(total != 0, rates - slowest, 0.0))

    def idle(self) -> BoolArray:
        """(Q, F): functions that vanish identically and count as positive."""
        closed = np.zeros(self.amplitudes.shape[1], dtype=bool) if self.closed is None else self.closed
        return closed & (self.amplitudes == 0).all(axis=2)

    def expand(self, time: FloatArray, ahead: FloatArray, order: int) -> Expansion:
        """Taylor coefficients at ``time`` (Q,) below the order, which is enclosed from there to ``ahead``."""
        rates, count = self.rates, self.amplitudes.shape[2]
        term = self.amplitudes * np.exp(-rates * time[:, None, None])
        last, coefficients, sizes = self.amplitudes * np.exp(-rates * ahead[:, None, None]), [], []
        for k in range(order):
            coefficients.append(term.sum(axis=2))
            sizes.append(np.abs(term).sum(axis=2))
            factor = rates / -(k + 1)
            term, last = term * factor, last * factor
        sizes.append(np.abs(term).sum(axis=2))
        middle, radius = 0.5 * (term + last).sum(axis=2), 0.5 * np.abs(term - last).sum(axis=2)
        # Rounding of a sum of K terms, and of each term through its rounded argument.
        by_sum, by_time, size = _EPS * (count + 2), 2 * _EPS * time[:, None, None], np.stack(sizes, axis=1)
        noise = by_sum * size[:, :-1] + by_time * np.arange(1, order + 1)[:, None] * size[:, 1:]
        noise[:, 0] += _UNDERFLOW * np.abs(self.amplitudes).max(axis=2)
        return Expansion(np.stack(coefficients, axis=1), middle - radius, middle + radius, noise)

    def settled(self) -> tuple[IntArray, FloatArray]:
        """Final sign of every function (Q, F), and a time (Q,) from which all functions have it.

        The slowest term wins over each of the K others once that is below its 2K-th part.
        """
        sums, count = self.plain(), self.amplitudes.shape[2]
        lead = np.where(sums.rates == 0, sums.amplitudes, 0.0).sum(axis=2)
        share = 2 * count * np.abs(sums.amplitudes) / np.where(lead == 0, 1.0, np.abs(lead))[..., None]
        later = (sums.rates > 0) & (share > 1)
        time = np.log(np.where(later, share, 1.0)) / np.where(later, sums.rates, 1.0)
        sign = np.where(self.idle(), 1, np.sign(lead)).astype(np.int64)
        return sign, time.max(axis=(1, 2))
