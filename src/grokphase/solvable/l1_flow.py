r"""Gradient flow with an L1 penalty: exact, from event to event, for many flows at once.

The flow ẇ = a − Gw − λ₁ sgn(w) is a differential inclusion: at w_j = 0 the sign may be anything in [−1, 1].
With the residual r = a − Gw, a coordinate is

    active (σ_j = ±1, σ_j w_j ≥ 0):   ẇ_j = r_j − λ₁σ_j,
    resting (σ_j = 0, w_j = 0):       ẇ_j = 0, as long as |r_j| ≤ λ₁.

While no state changes the flow is linear in the active coordinates and solved by the eigenvectors of their block of
G.  Events: an active coordinate reaches zero (it rests there if |r_j| ≤ λ₁, else it crosses), or the residual of a
resting one reaches ±λ₁ (it is released).  Event times are first zeros of sums of exponentials; none is stepped over
(:mod:`grokphase.solvable.sign_changes`).  Where the active block is singular the sign term drives a uniform drift
along its null space, until some coordinate reaches zero.

Exact up to rounding.  Every flow ends after finitely many events, at a minimiser of the loss.

References: Žunkovič & Ilievski 2024, Eqs. 20–21 with ERRATA (the printed solution keeps sgn(w) fixed).
"""

import numpy as np

from grokphase._checks import FloatArray
from grokphase.solvable.elastic_net import RANK_TOLERANCE
from grokphase.solvable.flow_modes import ConeCondition, Modes, Stretch
from grokphase.solvable.sign_changes import first_exit

__all__ = ["l1_stretches"]

_EPS = float(np.finfo(np.float64).eps)
_NO_DRIFT = 1e-10  # a drift below this fraction of λ₁ is rounding
_INSTANT = 1e-9  # a duration below this fraction of the fastest time scale
_MAX_EVENTS_PER_DIMENSION = 1000


def l1_stretches(gram: FloatArray, correlation: FloatArray, l1: float, initial: FloatArray) -> list[Stretch]:
    """All stretches of Q flows, in the order of time.

    Parameters
    ----------
    gram, correlation
        G with the ridge, shape (Q, D, D), and a, shape (Q, D).
    l1
        λ₁ > 0.
    initial
        Weights at time 0, shape (Q, D).

    Returns
    -------
    stretches
        One for every round of events, with the flows that live to see it.
    """
    flows, start, weights = np.arange(len(initial)), np.zeros(len(initial)), initial
    turns = np.zeros(initial.shape)
    states = _states(weights, np.sign(weights), _pressure(gram, correlation, l1, weights, turns))
    stretches = []
    for _ in range(_MAX_EVENTS_PER_DIMENSION * initial.shape[1]):
        modes = _modes(gram, correlation, l1, states, weights)
        bound = l1 + _room(gram, correlation, l1, weights, turns)
        conditions = _conditions(modes, gram, correlation, bound, states)
        duration, reached = first_exit(conditions, np.full(flows.size, np.inf))
        stretches.append(Stretch(flows, start, duration, modes))
        going = np.isfinite(duration)
        if not going.any():
            return stretches
        flows, gram, correlation, states = flows[going], gram[going], correlation[going], states[going]
        duration, above, below = duration[going], *np.split(reached[going], 2, axis=1)
        start = start[going] + duration
        weights = modes.take(going).weights(duration[:, None])[:, 0]
        instant = (duration * np.linalg.norm(gram, axis=(1, 2)) < _INSTANT)[:, None]
        turns = np.where(instant, turns[going], 0.0) + (above | below)

        resting = states == 0
        weights = np.where(above & ~resting, 0.0, weights)
        at_zero = _states(weights, states, _pressure(gram, correlation, l1, weights, turns))
        states = np.where(resting, above.astype(float) - below, np.where(above, at_zero, states))
    raise RuntimeError(f"{flows.size} of {len(initial)} flows with L1 did not come to rest")


def _room(gram: FloatArray, correlation: FloatArray, l1: float, weights: FloatArray, turns: FloatArray) -> FloatArray:
    """What a residual may exceed λ₁ by, shape (Q, D), and still not release its weight: rounding.

    A weight that has changed its state several times in the same instant balances on λ₁ within rounding.  Its room is
    doubled each time, else it would be released and come back for ever.
    """
    size = np.abs(correlation) + (np.abs(gram) @ np.abs(weights)[:, :, None])[:, :, 0] + l1
    return _EPS * (2 * weights.shape[1] + 6) * (2.0**turns - 1) * size


def _pressure(
    gram: FloatArray, correlation: FloatArray, l1: float, weights: FloatArray, turns: FloatArray
) -> FloatArray:
    """By how much the residual wins over λ₁, with its sign; 0 where it does not."""
    residual = correlation - (gram @ weights[:, :, None])[:, :, 0]
    excess = np.abs(residual) - l1 - _room(gram, correlation, l1, weights, turns + 1)
    return np.sign(residual) * np.maximum(excess, 0.0)


def _states(weights: FloatArray, signs: FloatArray, pressure: FloatArray) -> FloatArray:
    """States σ: the given sign where the weight is not zero; at zero that of the pressure."""
    return np.where(weights != 0, signs, np.sign(pressure))


def _modes(gram: FloatArray, correlation: FloatArray, l1: float, states: FloatArray, weights: FloatArray) -> Modes:
    """The flow with fixed states, by the eigenvectors of the active block of G."""
    active = states != 0
    scale = np.einsum("qii->qi", gram).max(axis=1)[:, None]
    coupled = active[:, :, None] & active[:, None, :]
    # Resting coordinates are moved below the spectrum, so that they do not mix with the active ones.
    below = -np.where(scale > 0, scale, 1.0)
    rates, vectors = np.linalg.eigh(np.where(coupled, gram, below[:, :, None] * np.eye(weights.shape[1])))
    vectors = np.where(active[:, :, None] & (rates > 0.5 * below)[:, None, :], vectors, 0.0)
    moving = rates > RANK_TOLERANCE * scale
    push = (((correlation - l1 * states) * active)[:, None] @ vectors)[:, 0]
    # On the null space of the block the data exert no force, only the sign term does.
    drift = -l1 * (states[:, None] @ vectors)[:, 0]
    drift = np.where(np.abs(drift) > _NO_DRIFT * l1, drift, 0.0)
    start, rates = (weights[:, None] @ vectors)[:, 0], np.where(moving, rates, 0.0)
    return Modes(vectors, start, np.where(moving, push, drift), rates).aligned()[0]


def _conditions(
    modes: Modes, gram: FloatArray, correlation: FloatArray, l1: FloatArray, states: FloatArray
) -> ConeCondition:
    """The 2D functions that stay ≥ 0 while the states hold.

    For a resting coordinate λ₁ − r_j and λ₁ + r_j, for an active one σ_j w_j and (nothing to watch) 1.
    """
    resting = states == 0
    force = np.where(resting[:, :, None], gram @ modes.vectors, states[:, :, None] * modes.vectors)
    back = np.where(resting[:, :, None], -force, 0.0)
    size = np.where(resting, np.linalg.norm(gram, axis=2), 1.0)
    upper, lower = np.where(resting, l1 - correlation, 0.0), np.where(resting, l1 + correlation, 1.0)
    return ConeCondition(
        modes, np.concatenate([force, back], axis=1), np.hstack([size, size * resting]), np.hstack([upper, lower])
    )
