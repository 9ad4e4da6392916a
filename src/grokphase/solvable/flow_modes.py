r"""Weights of a linear flow as a sum of modes, and the conditions "training error zero", "test error zero" on them.

Between events (without L1: always) the weights are

    w(t) = Σ_i  columns[:, i] · amplitudes[i] · t^{powers[i]} · e^{−rates[i] t},

the first term being the constant limit (rate 0, amplitude 1).  A linear condition on w is then a sum of
exponentials with the same rates, a quadratic one a sum with the pairwise sums of rates; both are solved by
:mod:`grokphase.solvable.exponential_sums`.

References: Žunkovič & Ilievski 2024, Eq. 21; Eq. 25 with ERRATA for the cone of zero test error.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.solvable.exponential_sums import ExponentialSums

__all__ = ["Modes", "Stretch", "ball_condition", "cone_condition"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Modes:
    """Q flows of dimension D with K modes; a leading 1 means that all flows share the array.

    Attributes
    ----------
    columns
        Shape (Q, D, K) or (1, D, K); the first column is the limit.
    amplitudes
        Shape (Q, K); the first is 1.
    rates
        Shape (Q, K) or (1, K); the first is 0.
    powers
        Shape (K,); None for all 0.
    """

    columns: FloatArray
    amplitudes: FloatArray
    rates: FloatArray
    powers: NDArray[np.int64] | None = None

    def take(self, rows: NDArray[np.generic]) -> "Modes":
        """The flows at the given places (mask or indices)."""
        return replace(
            self,
            columns=self.columns if len(self.columns) == 1 else self.columns[rows],
            amplitudes=self.amplitudes[rows],
            rates=self.rates if len(self.rates) == 1 else self.rates[rows],
        )

    def limit(self) -> FloatArray:
        """Weights (Q, D) after infinite time, if nothing drifts."""
        lasting = np.where(self.rates == 0, self.amplitudes, 0.0)
        return (lasting[:, None] @ self.columns.swapaxes(-1, -2))[:, 0]

    def weights(self, time: FloatArray) -> FloatArray:
        """Weights of every flow at its own times: (Q, T) -> (Q, T, D)."""
        basis = np.exp(-self.rates[:, None] * time[:, :, None])
        if self.powers is not None:
            basis = basis * time[:, :, None] ** self.powers
        return (self.amplitudes[:, None] * basis) @ self.columns.swapaxes(-1, -2)


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

    flows: NDArray[np.int64]
    start: FloatArray
    duration: FloatArray
    modes: Modes


def cone_condition(modes: Modes, normals: FloatArray) -> ExponentialSums:
    """The functions normal · w(t); ``normals`` has shape (Q, F, D) or (1, F, D)."""
    matrix = normals @ modes.columns
    size = np.linalg.norm(normals, axis=-1)[..., :, None] * np.linalg.norm(modes.columns, axis=-2)[..., None, :]
    # Rounding of an orthogonality (null space of the data) must not decide a sign at late times.
    matrix[np.abs(matrix) <= 16 * _EPS * size] = 0.0
    return ExponentialSums(matrix, modes.amplitudes, modes.rates, modes.powers)


def ball_condition(modes: Modes, class_gap: float) -> ExponentialSums:
    """The functions ε²w₁² − |w|² (≥ 0 counts as positive) and w₁ (> 0): both hold where the test error is zero."""
    columns, first = modes.columns, modes.columns[:, 0]
    count = columns.shape[-1]
    left, right = np.triu_indices(count)
    signature = np.full(columns.shape[1], -1.0)
    signature[0] = class_gap**2 - 1
    form = (columns * signature[:, None]).swapaxes(-1, -2) @ columns
    matrix = np.zeros((len(columns), 2, left.size))
    matrix[:, 0] = form[:, left, right] * np.where(left == right, 1.0, 2.0)
    matrix[:, 1, :count] = first  # the pairs (0, j) come first: limit times mode j
    powers = None if modes.powers is None else modes.powers[left] + modes.powers[right]
    return ExponentialSums(
        matrix,
        modes.amplitudes[:, left] * modes.amplitudes[:, right],
        modes.rates[:, left] + modes.rates[:, right],
        powers,
        closed=np.array([True, False]),
    )
