r"""Zeros of sums of exponentials, found for many problems at once without stepping over any.

A *problem* q holds F functions that share their time scales,

    f_k(t) = Σ_i  matrix[k, i] · amplitudes[i] · t^{powers[i]} · e^{−rates[i] t},        k = 1..F,  t ≥ 0,

and asks when they are all positive: three questions, one answer each.

    last_violation   the latest time at which some function is not positive   (walks backwards)
    first_entry      the earliest time from which all functions are positive  (walks forwards)
    first_exit       all start ≥ 0: the earliest time at which one leaves      (walks forwards)

Each is a walk towards the answer in steps that provably hold no zero.  On a trial interval of length h the
second derivative is enclosed, q ≤ f″ (every term is monotone, so its two end values bound it; sums by
midpoint and radius), and then f(t ± s) ≥ f ± s f′ + s² q / 2 for all s ≤ h: the walk goes to the first zero
of this parabola, or by h.  Close to a simple zero the number of correct digits doubles or better with every
step; a near miss costs more and smaller steps.  Values within the rounding error of their own sum count as
zero: two zeros closer than that are one, and a function that comes this close to zero without crossing has
touched it.

Unbounded windows are cut at a time after which every function provably keeps the sign of its slowest term.

References: Žunkovič & Ilievski 2024, Eq. 21 (the weights are such sums); Moore (1966) for interval Newton
steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["ExponentialSums", "first_entry", "first_exit", "last_violation"]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
_MAX_ROUNDS = 20_000
REACH = 0.55


@dataclass(frozen=True)
class ExponentialSums:
    """Q problems of F functions with K terms each.

    Attributes
    ----------
    matrix
        Shape (Q, F, K), or (1, F, K) where all problems share it (then the work is one matrix product).
    amplitudes
        Shape (Q, K).
    rates
        Shape (Q, K) or (1, K), ≥ 0.
    powers
        Shape (K,), 0, 1 or 2; None for all 0.
    closed
        Shape (F,): whether a function that vanishes identically counts as positive (for conditions ≥ 0).
    """

    matrix: FloatArray
    amplitudes: FloatArray
    rates: FloatArray
    powers: IntArray | None = None
    closed: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.amplitudes)

    @property
    def shared(self) -> bool:
        return len(self.matrix) == 1

    def take(self, rows: NDArray[np.generic]) -> "ExponentialSums":
        """The problems at the given places (mask or indices)."""
        return replace(
            self,
            matrix=self.matrix if self.shared else self.matrix[rows],
            amplitudes=self.amplitudes[rows],
            rates=self.rates if len(self.rates) == 1 else self.rates[rows],
        )

    def apply(self, modes: FloatArray) -> FloatArray:
        """Matrix times vectors: (Q, R, K) -> (Q, R, F)."""
        return _product(modes, self.matrix)

    def apply_absolute(self, modes: FloatArray) -> FloatArray:
        """The same with the absolute values of the matrix: carries error bounds along."""
        return _product(modes, np.abs(self.matrix))

    def idle(self) -> BoolArray:
        """(Q, F): functions that vanish identically and count as positive."""
        if self.closed is None:
            return np.zeros((len(self), self.matrix.shape[1]), dtype=bool)
        return self.closed & (self.apply_absolute(np.abs(self.amplitudes)[:, None])[:, 0] == 0)


def _product(modes: FloatArray, matrix: FloatArray) -> FloatArray:
    # One small product for each problem, also where all share the matrix: the digits of a result then do not depend
    # on what it is computed with, and BLAS starts no threads of its own inside ours.
    return modes @ np.ascontiguousarray(matrix.swapaxes(-1, -2))


# --- local information: a Taylor step with a bound
# -----------------------------------------------------------------


@dataclass(frozen=True)
class _Jet:
    """Value and derivatives at t, bounds on the trial interval; every array has shape (Q, F)."""

    value: FloatArray
    slope: FloatArray
    low: FloatArray
    """Lower bound of the second derivative on the trial interval."""
    high: FloatArray
    noise: FloatArray
    """Bound on the rounding error of the value."""
    slope_noise: FloatArray


def _jet(sums: ExponentialSums, time: FloatArray, ahead: FloatArray) -> _Jet:
    """Everything a step needs at ``time``, with f″ bounded between ``time`` and ``ahead`` (on either side)."""
    terms = _terms(sums, time, ahead) if sums.powers is None else _powered_terms(sums, time, ahead)
    moments = sums.apply(terms)
    np.subtract(terms[:, 2], terms[:, 3], out=terms[:, 3])
    sizes = sums.apply_absolute(np.abs(terms, out=terms))
    middle, radius = 0.5 * (moments[:, 2] + moments[:, 3]), 0.5 * sizes[:, 3]
    # Rounding of a sum of K terms, and of each term through its rounded argument.
    by_sum, by_time = _EPS * (terms.shape[-1] + 2), 2 * _EPS * time[:, None]
    return _Jet(
        value=moments[:, 0],
        slope=moments[:, 1],
        low=middle - radius,
        high=middle + radius,
        noise=by_sum * sizes[:, 0] + by_time * sizes[:, 1],
        slope_noise=by_sum * sizes[:, 1] + by_time * sizes[:, 2],
    )


def _terms(sums: ExponentialSums, time: FloatArray, ahead: FloatArray) -> FloatArray:
    """(Q, 4, K): each term's value, slope and curvature at ``time``, and its curvature at ``ahead``.

    The curvature of a single exponential is monotone, so it lies between the last two.
    """
    rates = sums.rates
    terms = np.empty((len(sums), 4, rates.shape[1]))
    np.multiply(sums.amplitudes, np.exp(-rates * time[:, None]), out=terms[:, 0])
    np.multiply(terms[:, 0], -rates, out=terms[:, 1])
    np.multiply(terms[:, 1], -rates, out=terms[:, 2])
    np.multiply(sums.amplitudes * rates**2, np.exp(-rates * ahead[:, None]), out=terms[:, 3])
    return terms


def _powered_terms(sums: ExponentialSums, time: FloatArray, ahead: FloatArray) -> FloatArray:
    """The same with powers of t: the last two are bounds of the curvature between ``time`` and ``ahead``."""
    assert sums.powers is not None
    p, mu, z = sums.powers, sums.rates, sums.amplitudes
    t, other = time[:, None], ahead[:, None]
    early, late = np.minimum(t, other), np.maximum(t, other)
    least_decay, most_decay = np.exp(-mu * early), np.exp(-mu * late)
    here = np.where(t < other, least_decay, most_decay)
    low = high = np.zeros_like(z)
    # φ″ = [p(p−1) t^{p−2} − 2pμ t^{p−1} + μ² t^p] e^{−μt}; each t^k e^{−μt} lies between the products below.
    for factor, power in ((p * (p - 1.0), p - 2), (-2.0 * p * mu, p - 1), (mu**2, p)):
        power = np.maximum(power, 0)
        ends = factor * early**power * most_decay, factor * late**power * least_decay
        low, high = low + np.minimum(*ends), high + np.maximum(*ends)
    slope = (p * t ** np.maximum(p - 1, 0) - mu * t**p) * here
    return np.stack([z * t**p * here, z * slope, z * low, z * high], axis=1)


def _first_zero(value: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    """Smallest s > 0 with value + slope s + curvature s²/2 = 0, for value > 0; infinite if there is none."""
    discriminant = slope**2 - 2 * value * curvature
    denominator = np.sqrt(np.maximum(discriminant, 0.0)) - slope
    real = (discriminant >= 0) & (denominator > 0)
    return np.where(real, 2 * value / np.where(real, denominator, 1.0), np.inf)


def _next_trial(trial: FloatArray, step: FloatArray) -> FloatArray:
    """Trial length after a step: longer if the last was taken whole, else below the step just made.

    A trial comparable to the remaining distance makes the bound on f″, hence the next step, sharp.
    """
    return np.where(
        step >= trial,
        np.clip(step - trial, 1.5 * trial, 4.0 * trial),
        np.clip(step, 0.1 * trial, 0.5 * trial),
    )


# --- what happens in the end
# ---------------------------------------------------------------------------------------


def _deflated(sums: ExponentialSums) -> ExponentialSums:
    """The same signs at every time, with slowest rate zero: each problem times a growing exponential.

    Keeps problems that decay to nothing (no constant term) from underflowing before their last zero.
    """
    present = (np.abs(sums.matrix).max(axis=1) > 0) & (sums.amplitudes != 0)
    if len(sums.rates) == 1:
        present = present.any(axis=0, keepdims=True)
    slowest = np.where(present, sums.rates, np.inf).min(axis=1, keepdims=True)
    slowest = np.where(np.isfinite(slowest), slowest, 0.0)
    return replace(sums, rates=np.maximum(sums.rates - slowest, 0.0)) if slowest.any() else sums


def _settled(sums: ExponentialSums, idle: BoolArray) -> tuple[IntArray, FloatArray]:
    """Final sign of every function (Q, F), and a time (Q,) from which all functions have it.

    The constant term wins over each of the K others once that is below its 2K-th part.  Only terms without
    powers are looked at.
    """
    z, rates, count = sums.amplitudes, sums.rates, sums.rates.shape[1]
    constants = np.where(rates == 0, z, 0.0)[:, None]
    lead = sums.apply(constants)[:, 0]
    clear = np.abs(lead) > count * _EPS * sums.apply_absolute(np.abs(constants))[:, 0]
    weight = np.where(clear & ~idle, 1 / np.where(clear, np.abs(lead), 1.0), 0.0)
    excess = 2 * count * np.abs(z) * (np.abs(sums.matrix) * weight[:, :, None]).max(axis=1)
    fading = (rates > 0) & (excess > 1)
    times = np.log(np.where(fading, excess, 1.0)) / np.where(rates > 0, rates, 1.0)

    sign = np.where(idle, 1, np.where(clear, np.sign(lead), 0)).astype(np.int64)
    time = times.max(axis=1)
    vague = np.flatnonzero((~clear & ~idle).any(axis=1))
    if vague.size:
        slow_sign, slow_time = _settled_by_slowest(sums.take(vague))
        sign[vague] = np.where(idle[vague], 1, slow_sign)
        time[vague] = slow_time
    return sign, time


def _settled_by_slowest(sums: ExponentialSums) -> tuple[IntArray, FloatArray]:
    """The same for any leading term: the slowest one that does not vanish; equal rates are added up first."""
    count = sums.rates.shape[1]
    rates = np.broadcast_to(sums.rates, sums.amplitudes.shape)
    order = np.argsort(rates, axis=1, kind="stable")
    rates = np.take_along_axis(rates, order, axis=1)
    terms = np.take_along_axis(sums.matrix * sums.amplitudes[:, None], order[:, None], axis=2)
    split = np.diff(rates, axis=1, prepend=rates[:, :1]) > 1e-12 * rates[:, -1:]
    group = np.cumsum(split, axis=1)[:, None, :, None] == np.arange(count)  # (Q, 1, K, group)
    grouped = np.einsum("qfk,qxkg->qfg", terms, group)
    scale = np.einsum("qfk,qxkg->qfg", np.abs(terms), group)
    rate = np.where(group, rates[:, None, :, None], -np.inf).max(axis=2)  # (Q, 1, group)

    alive = np.abs(grouped) > count * _EPS * scale
    first = alive.argmax(axis=2)[..., None]
    lead = np.where(alive.any(axis=2), np.take_along_axis(grouped, first, axis=2)[..., 0], 0.0)
    lead_rate = np.take_along_axis(np.broadcast_to(rate, grouped.shape), first, axis=2)
    later = alive & (np.arange(count) > first)
    share = np.where(later, 2 * count * np.abs(grouped) / np.where(lead == 0, 1.0, np.abs(lead))[..., None], 1.0)
    gap = np.where(later, rate - lead_rate, 1.0)
    return np.sign(lead).astype(np.int64), (np.log(np.maximum(share, 1.0)) / gap).max(axis=(1, 2))


# --- the walks
# -----------------------------------------------------------------------------------------------------

_Rule = Callable[[_Jet, IntArray, FloatArray, FloatArray], tuple[FloatArray, BoolArray]]
"""(jet, problems, time, trial length) -> (step that holds no zero, finished)."""


def _walk(sums: ExponentialSums, start: FloatArray, end: FloatArray, trial: FloatArray, rule: _Rule) -> IntArray:
    """Walk every problem from start to end as its rule allows; the rule keeps what it finds.

    Returns the problems that arrived at their end.
    """
    direction = np.sign(end - start)
    back, shortest = direction < 0, 2 * _forward_trial(sums)
    rows = np.flatnonzero(direction)
    arrivals = [np.flatnonzero(direction == 0)]
    time, trial = start[rows], trial[rows]
    sums = sums.take(rows)
    for _ in range(_MAX_ROUNDS):
        if not rows.size:
            return np.concatenate(arrivals)
        left = np.abs(end[rows] - time)
        # Towards t = 0 by factors: fast terms that have died out here are large there.
        trial = np.minimum(
            np.where(back[rows], np.maximum(REACH * time, shortest[rows]), trial), np.minimum(trial, left)
        )
        ahead = np.where(trial < left, time + direction[rows] * trial, end[rows])
        step, finished = rule(_jet(sums, time, ahead), rows, time, trial)
        whole = step >= trial
        arrived = whole & (trial >= left) & ~finished
        arrivals.append(rows[arrived])
        time = np.where(whole, ahead, time + direction[rows] * np.minimum(step, trial))
        trial = _next_trial(trial, step)
        keep = ~(finished | arrived)
        if not keep.all():
            rows, time, trial, sums = rows[keep], time[keep], trial[keep], sums.take(keep)
    raise RuntimeError(f"{rows.size} of {len(start)} walks along sums of exponentials did not finish")


def _forward_trial(sums: ExponentialSums) -> FloatArray:
    """First trial length of a forward walk: a fraction of the fastest time scale."""
    fastest = np.broadcast_to(sums.rates, sums.amplitudes.shape).max(axis=1)
    return 0.5 / np.where(fastest > 0, fastest, 0.5)


def _crossing(jet: _Jet, time: FloatArray) -> FloatArray:
    """Where each function that is within its noise of zero crosses it (one Newton step); ``time`` for a touch.

    A crossing that cannot be told from t = 0 is put there.
    """
    transversal = np.abs(jet.slope) > 8 * jet.slope_noise
    slope = np.where(transversal, jet.slope, 1.0)
    crossing = time[:, None] - np.where(transversal, jet.value / slope, 0.0)
    return np.where(transversal & (crossing * np.abs(slope) <= 4 * jet.noise), 0.0, crossing)


def _pinned(
    jet: _Jet, nearest: IntArray, step: FloatArray, now: FloatArray, trial: FloatArray
) -> tuple[BoolArray, FloatArray]:
    """Whether the zero of one function per problem, backwards from here, is already known to rounding; and the zero.

    It lies between the first zeros of the parabolas below and above the function.
    """
    rows = np.arange(len(nearest))
    value, slope, noise, slope_noise = (x[rows, nearest] for x in (jet.value, jet.slope, jet.noise, jet.slope_noise))
    low, high = jet.low[rows, nearest], jet.high[rows, nearest]
    surely = _first_zero(np.maximum(value + noise, 0.0), -slope + slope_noise, high)
    middle = _first_zero(np.maximum(value, 0.0), -slope, 0.5 * (low + high))
    resolution = 4 * (_EPS * now + noise / np.maximum(np.abs(slope), np.finfo(np.float64).tiny))
    # (inf − inf where nothing is ahead compares as False, hence the clipping)
    pinned = (surely <= trial) & (np.minimum(surely, 2 * now) - np.minimum(step, now) <= resolution) & (middle <= trial)
    return pinned, np.maximum(now - np.where(pinned, middle, 0.0), 0.0)


def last_violation(sums: ExponentialSums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    """Latest time in [0, stop] at which some function is not positive, and which function it is.

    Parameters
    ----------
    sums
        Q problems.
    stop
        Shape (Q,); may be infinite (then no term may grow).

    Returns
    -------
    time, index
        Shape (Q,).  Time 0 and index −1 if all functions are positive on (0, stop]; infinite time if some
        function is not positive in the end (the index names one).
    """
    time, index = np.zeros(len(sums)), np.full(len(sums), -1)
    sums, idle = _deflated(sums), sums.idle()
    start, unbounded = stop, np.isinf(stop)
    if unbounded.any():
        sign, settled = _settled(sums, idle)
        never = unbounded & (sign <= 0).any(axis=1)
        time[never], index[never] = np.inf, sign[never].argmin(axis=1)
        start = np.where(never, 0.0, np.where(unbounded, settled, stop))

    def rule(jet: _Jet, rows: IntArray, now: FloatArray, trial: FloatArray) -> tuple[FloatArray, BoolArray]:
        asleep = idle[rows]
        violated = (jet.value <= 2 * jet.noise) & ~asleep
        here = violated.any(axis=1)
        if here.any():
            crossing = np.where(jet.value < -2 * jet.noise, now[:, None], _crossing(jet, now))
            latest = np.where(violated, crossing, -np.inf)[here]
            index[rows[here]] = latest.argmax(axis=1)
            time[rows[here]] = latest.max(axis=1)
        free = _first_zero(np.maximum(jet.value - jet.noise, 0.0), -jet.slope - jet.slope_noise, jet.low)
        free = np.where(asleep, np.inf, free)
        nearest = free.argmin(axis=1)
        step = np.take_along_axis(free, nearest[:, None], axis=1)[:, 0]
        pinned, zero = _pinned(jet, nearest, step, now, trial)
        pinned &= ~here
        index[rows[pinned]], time[rows[pinned]] = nearest[pinned], zero[pinned]
        return step, here | pinned

    _walk(sums, start, np.zeros_like(start), 0.5 * start, rule)
    return time, index


def first_entry(sums: ExponentialSums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    """Earliest time in [0, stop] from which on all functions are positive for a while, and the last to become so.

    Returns
    -------
    time, index
        Shape (Q,).  Infinite time and index −1 if there is none; index −1 also if all are positive from 0 on.
    """
    time, index = np.full(len(sums), np.inf), np.full(len(sums), -1)
    sums, idle = _deflated(sums), sums.idle()
    end, surely = stop, np.zeros(len(sums), dtype=bool)
    unbounded = np.isinf(stop)
    if unbounded.any():
        sign, settled = _settled(sums, idle)
        end = np.where(unbounded, settled, stop)
        surely = unbounded & (sign > 0).all(axis=1)
    candidate, culprit = np.full(len(sums), np.nan), np.full(len(sums), -1)

    def rule(jet: _Jet, rows: IntArray, now: FloatArray, trial: FloatArray) -> tuple[FloatArray, BoolArray]:
        asleep = idle[rows]
        violated = (jet.value <= 2 * jet.noise) & ~asleep
        deep = violated & (jet.value < -2 * jet.noise)
        finished = ~violated.any(axis=1)
        # Where nothing but rounding is left of the violations, step over it, and remember the crossing.
        brink = ~finished & ~deep.any(axis=1)
        time[rows[finished]] = np.where(np.isnan(candidate[rows]), now, candidate[rows])[finished]
        index[rows[finished]] = culprit[rows[finished]]
        crossing = np.where(violated, np.maximum(_crossing(jet, now), 0.0), -np.inf)
        candidate[rows] = np.where(brink, crossing.max(axis=1), np.nan)
        culprit[rows] = np.where(brink, crossing.argmax(axis=1), -1)

        blocked = _first_zero(np.where(deep, -jet.value - jet.noise, 1.0), -jet.slope - jet.slope_noise, -jet.high)
        certain = np.where(deep, blocked, 0.0).max(axis=1)
        return np.where(brink, _over_the_brink(jet, violated), certain), finished

    arrived = _walk(sums, np.zeros_like(end), end, _forward_trial(sums), rule)
    arrived = arrived[surely[arrived]]  # positive from the end of the window on
    time[arrived] = np.where(np.isnan(candidate[arrived]), end[arrived], candidate[arrived])
    index[arrived] = culprit[arrived]
    return time, index


def _over_the_brink(jet: _Jet, violated: BoolArray) -> FloatArray:
    """The length after which functions within their noise of zero have left it, by slope or by curvature."""
    floor = np.finfo(np.float64).tiny
    by_slope = 8 * jet.noise / np.maximum(np.abs(jet.slope), floor)
    by_curvature = np.sqrt(16 * jet.noise / np.maximum(np.maximum(np.abs(jet.low), np.abs(jet.high)), floor))
    return np.where(violated, np.minimum(by_slope, by_curvature), 0.0).max(axis=1)


def first_exit(
    sums: ExponentialSums, stop: FloatArray, rising: BoolArray | None = None
) -> tuple[FloatArray, BoolArray]:
    """Earliest time at which a function that starts non-negative becomes negative, and which ones do.

    A function that starts within rounding of zero counts as starting at zero: it exits at once if it falls,
    and is followed upwards by its slope and curvature if it rises.

    Parameters
    ----------
    sums
        Q problems.
    stop
        Shape (Q,); may be infinite.
    rising
        Shape (Q, F): functions known to start at zero and to rise, whatever the rounding of their slope says.

    Returns
    -------
    time, exits
        Shapes (Q,), infinite if there is none, and (Q, F), all the functions that reach zero at this time.
    """
    time, exits = np.full(len(sums), np.inf), np.zeros((len(sums), sums.matrix.shape[1]), dtype=bool)
    end = stop
    unbounded = np.isinf(stop)
    if unbounded.any():
        _, settled = _settled(sums, np.zeros_like(exits))
        end = np.where(unbounded, settled, stop)
        if sums.powers is not None:  # what drifts has an exit: no bound is needed
            drifting = ((sums.powers > 0) & (sums.amplitudes != 0)).any(axis=1)
            end = np.where(unbounded & drifting, np.inf, end)
    known = np.zeros_like(exits) if rising is None else rising
    at_start = np.ones_like(exits)  # cleared once a function has been clearly positive
    fastest = np.broadcast_to(sums.rates, sums.amplitudes.shape).max(axis=1)

    def rule(jet: _Jet, rows: IntArray, now: FloatArray, trial: FloatArray) -> tuple[FloatArray, BoolArray]:
        at_zero = jet.value <= 2 * jet.noise
        at_start[rows] &= at_zero
        young = at_start[rows]
        threshold = 4 * jet.slope_noise + 8 * jet.noise * fastest[rows, None]
        falling = (jet.slope < -threshold) & ~known[rows]
        falling |= (jet.slope <= threshold) & (jet.high < 0)
        out = at_zero & (falling | ~young)
        finished = out.any(axis=1)
        if finished.any():
            crossing = np.where(young, now[:, None], _crossing(jet, now))
            time[rows[finished]] = np.where(out, crossing, np.inf)[finished].min(axis=1)
            exits[rows[finished]] = out[finished]
        grown = _first_zero(np.maximum(jet.value - jet.noise, 0.0), jet.slope - jet.slope_noise, jet.low)
        bends = jet.low < 0
        upward = np.where(bends, 2 * np.maximum(jet.slope, 0.0) / np.where(bends, -jet.low, 1.0), np.inf)
        return np.where(young, upward, grown).min(axis=1), finished

    _walk(sums, np.zeros_like(end), end, _forward_trial(sums), rule)
    return time, exits
