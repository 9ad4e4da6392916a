r"""Gradient flow with an L1 penalty: exact, from event to event, for many flows at once.

The flow ẇ = a − Gw − λ₁ sgn(w) is a differential inclusion: at w_j = 0 the sign may be anything in [−1, 1].
With the residual r = a − Gw, a coordinate is

    active (σ_j = ±1, σ_j w_j ≥ 0):   ẇ_j = r_j − λ₁σ_j,
    resting (σ_j = 0, w_j = 0):       ẇ_j = 0, as long as |r_j| ≤ λ₁.

While no state changes the flow is linear in the active coordinates and solved by the eigenvectors of their
block of G.  Events: an active coordinate reaches zero (it rests there if |r_j| ≤ λ₁, else it crosses), or
the residual of a resting one reaches ±λ₁ (it is released).  Event times are first zeros of sums of
exponentials; none is stepped over (:mod:`grokphase.solvable.exponential_sums`).  Where the active block is
singular the sign term drives a uniform drift along its null space, until some coordinate reaches zero.

Exact up to rounding.  Every flow ends after finitely many events, at a minimiser of the loss.

References: Žunkovič & Ilievski 2024, Eqs. 20–21 with ERRATA (the printed solution keeps sgn(w) fixed).
"""

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.solvable.elastic_net import RANK_TOLERANCE
from grokphase.solvable.exponential_sums import ExponentialSums, first_exit
from grokphase.solvable.flow_modes import Modes, Stretch

__all__ = ["l1_stretches"]

_NO_DRIFT = 1e-10  # a drift below this fraction of λ₁ is rounding
_MAX_EVENTS_PER_DIMENSION = 1000


def l1_stretches(
    gram: FloatArray, correlation: FloatArray, l1: float, initial: FloatArray, *, drift: bool
) -> list[Stretch]:
    """All stretches of Q flows, in the order of time.

    Parameters
    ----------
    gram, correlation
        G with the ridge, shape (Q, D, D), and a, shape (Q, D).
    l1
        λ₁ > 0.
    initial
        Weights at time 0, shape (Q, D).
    drift
        Whether blocks of G may be singular, so that weights may drift linearly.

    Returns
    -------
    stretches
        One for every round of events, with the flows that live to see it.
    """
    flows, start, weights = np.arange(len(initial)), np.zeros(len(initial)), initial
    states = _states(weights, np.sign(weights), _residual(gram, correlation, weights), l1)
    stretches = []
    for _ in range(_MAX_EVENTS_PER_DIMENSION * initial.shape[1]):
        modes = _linear_flow(gram, correlation, l1, states, weights, drift)
        events = _events(modes, gram, correlation, l1, states)
        leaving = np.hstack([(states != 0) & (weights == 0), np.zeros(weights.shape, dtype=bool)])
        duration, reached = first_exit(events, np.full(flows.size, np.inf), rising=leaving)
        stretches.append(Stretch(flows, start, duration, modes))
        going = np.isfinite(duration)
        if not going.any():
            return stretches
        flows, gram, correlation = flows[going], gram[going], correlation[going]
        start = start[going] + duration[going]
        weights = modes.take(going).weights(duration[going, None])[:, 0]
        weights, states = _after_event(reached[going], states[going], weights, gram, correlation, l1)
    raise RuntimeError(f"{flows.size} of {len(initial)} flows with L1 did not come to rest")


def _residual(gram: FloatArray, correlation: FloatArray, weights: FloatArray) -> FloatArray:
    return correlation - (gram @ weights[:, :, None])[:, :, 0]


def _states(weights: FloatArray, signs: FloatArray, residual: FloatArray, l1: float) -> FloatArray:
    """States σ: the given sign where the weight is not zero; at zero that of the residual if it wins over λ₁."""
    pushed = np.where(np.abs(residual) > l1, np.sign(residual), 0.0)
    return np.where(weights != 0, signs, pushed)


def _after_event(
    reached: NDArray[np.bool_],
    states: FloatArray,
    weights: FloatArray,
    gram: FloatArray,
    correlation: FloatArray,
    l1: float,
) -> tuple[FloatArray, FloatArray]:
    """Weights and states once the reached conditions (as ordered by ``_events``) have been dealt with."""
    above, below = np.split(reached, 2, axis=1)
    resting = states == 0
    weights = np.where(above & ~resting, 0.0, weights)
    at_zero = _states(weights, states, _residual(gram, correlation, weights), l1)
    states = np.where(resting, above.astype(float) - below, np.where(above, at_zero, states))
    return weights, states


def _linear_flow(
    gram: FloatArray, correlation: FloatArray, l1: float, states: FloatArray, weights: FloatArray, drift: bool
) -> Modes:
    """Modes of the flow with fixed states: limit, one mode for each eigenvector, and the drift if there may be one."""
    count, dimension = weights.shape
    active = states != 0
    scale = np.einsum("qii->qi", gram).max(axis=1)[:, None]
    coupled = active[:, :, None] & active[:, None, :]
    # Resting coordinates are moved below the spectrum, so that they do not mix with the active ones.
    block = np.where(coupled, gram, -(scale[:, :, None] + 1.0) * np.eye(dimension))
    rates, vectors = np.linalg.eigh(block)
    vectors = np.where(active[:, :, None] & (rates > -0.5)[:, None, :], vectors, 0.0)
    moving = rates > RANK_TOLERANCE * scale
    rates = np.where(moving, rates, 0.0)

    push = (((correlation - l1 * states) * active)[:, None] @ vectors)[:, 0]
    limit = (vectors @ np.where(moving, push / np.where(moving, rates, 1.0), 0.0)[:, :, None])[:, :, 0]
    # On the null space of the block the data exert no force, only the sign term does.
    amplitudes = ((weights - np.where(active, limit, 0.0))[:, None] @ vectors)[:, 0]
    columns, one = [limit[:, :, None], vectors], np.ones((count, 1))
    if not drift:
        return Modes(np.concatenate(columns, axis=2), np.hstack([one, amplitudes]), np.hstack([0 * one, rates]))
    along = np.where(moving, 0.0, -(states[:, None] @ vectors)[:, 0])
    along = np.where(np.abs(along) > _NO_DRIFT, along, 0.0)
    columns.append(l1 * vectors @ along[:, :, None])
    return Modes(
        np.concatenate(columns, axis=2),
        np.hstack([one, amplitudes, (along != 0).any(axis=1, keepdims=True)]),
        np.hstack([0 * one, rates, 0 * one]),
        powers=np.array([0] * (dimension + 1) + [1]),
    )


def _events(modes: Modes, gram: FloatArray, correlation: FloatArray, l1: float, states: FloatArray) -> ExponentialSums:
    """The 2D functions that stay ≥ 0 while the states hold.

    For a resting coordinate λ₁ − r_j and λ₁ + r_j, for an active one σ_j w_j and (nothing to watch) 1.
    """
    resting = (states == 0)[:, :, None]
    residual = -gram @ modes.columns
    residual[:, :, 0] += correlation
    unit = np.zeros(modes.columns.shape[2])
    unit[0] = 1.0  # the constant mode
    above = np.where(resting, l1 * unit - residual, states[:, :, None] * modes.columns)
    below = np.where(resting, l1 * unit + residual, unit)
    return ExponentialSums(np.concatenate([above, below], axis=1), modes.amplitudes, modes.rates, modes.powers)
