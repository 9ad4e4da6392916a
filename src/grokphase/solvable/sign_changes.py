r"""Times at which functions change sign, found for many problems at once without stepping over any.

A *problem* holds F functions of time t ≥ 0 and asks when they are all positive: three questions, one answer each.

    last_violation   the latest time at which some function is not positive   (walks backwards)
    first_entry      the earliest time from which all functions are positive  (walks forwards)
    first_exit       all start ≥ 0: the earliest time at which one leaves      (walks forwards)

Each is a walk towards the answer in steps that provably hold no zero.  On a trial interval of length h the second
derivative is enclosed, q ≤ f″, and then f(t ± s) ≥ f ± s f′ + s² q / 2 for all s ≤ h: the walk goes to the first zero
of this parabola, or by h.  Close to a simple zero the number of correct digits doubles or better with every step; a
near miss costs more and smaller steps.  Where terms nearly cancel (rates that are nearly equal) parabolas are short;
walks that take long also try a Taylor polynomial of order 10 with enclosed remainder, bounded below by its coefficients
in the basis of Bernstein, in which the cancellation shows.

Values within the rounding error of their own evaluation count as zero: two zeros closer than that are one, and a
function that comes this close to zero without crossing has touched it.  Unbounded windows are cut at a time after which
every function provably keeps its sign.

References: Moore (1966) for interval Newton steps; Žunkovič & Ilievski 2024, Eq. 21 for the functions.
"""

from collections.abc import Callable
from math import comb

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.solvable.exponential_sums import Expansion, ExponentialSums, Sums

__all__ = ["first_entry", "first_exit", "last_violation"]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
_BEGINNING = 1e-150  # of the fastest time scale: before that squares of what starts at zero underflow
_MAX_ROUNDS = 20_000
_PATIENCE = 40  # rounds by parabolas alone; few walks take longer
_HIGH_ORDER = 10  # even
_BERNSTEIN = np.array(
    [[comb(j, k) / comb(_HIGH_ORDER, k) for k in range(_HIGH_ORDER + 1)] for j in range(_HIGH_ORDER + 1)]
)
"""Coefficients of a polynomial on [0, 1] in the basis of Bernstein, from those of the powers."""
_REACH = 0.55  # a backward trial goes at most by this fraction of the time that is left


# --- local information ---


def _first_zero(value: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    """Smallest s > 0 with value + slope s + curvature s²/2 = 0, for value ≥ 0; infinite if there is none."""
    discriminant = slope**2 - 2 * value * curvature
    root = np.sqrt(np.maximum(discriminant, 0.0))
    falls, bends = (slope <= 0) & (discriminant >= 0), (slope > 0) & (curvature < 0)
    falling = 2 * value / np.where(falls & (root > slope), root - slope, 1.0)
    zero = np.where(falls & ((root > slope) | ((value == 0) & (curvature < 0))), falling, np.inf)
    return np.where(bends, (slope + root) / np.where(bends, -curvature, 1.0), zero)


def _next_trial(trial: FloatArray, step: FloatArray) -> FloatArray:
    """Trial length after a step: longer if the last was taken whole, else below the step just made.

    A trial comparable to the remaining distance makes the bound on f″, hence the next step, sharp.
    """
    return np.where(
        step >= trial,
        np.clip(step - trial, 1.5 * trial, 4.0 * trial),
        np.clip(step, 0.1 * trial, 0.5 * trial),
    )


# --- the walks ---

_Step = tuple[FloatArray, BoolArray, FloatArray]
_Rule = Callable[[Expansion, IntArray, FloatArray, FloatArray], _Step]
"""(expansion to order 2, problems, time, trial length) -> (step that holds no zero, finished, room).

The room (Q, F) is what the functions, times the direction of the question, may lack of being positive on a step.
"""


def _walk(sums: Sums, start: FloatArray, end: FloatArray, trial: FloatArray, rule: _Rule, sign: int = 1) -> IntArray:
    """Walk every problem from start to end as its rule allows; the rule keeps what it finds.

    A step may be made while all functions are positive (``sign`` 1) or any one is negative (``sign`` −1).  Returns the
    problems that arrived at their end.
    """
    direction = np.sign(end - start)
    back, shortest = direction < 0, 0.5 * _forward_trial(sums)
    rows = np.flatnonzero(direction)
    arrivals = [np.flatnonzero(direction == 0)]
    time, trial = start[rows], trial[rows]
    if rows.size < len(sums):
        sums = sums.take(rows)
    for count in range(_MAX_ROUNDS):
        if not rows.size:
            return np.concatenate(arrivals)
        left = np.abs(end[rows] - time)
        # Towards t = 0 by factors: fast terms that have died out here are large there.
        longest = np.where(back[rows], np.maximum(_REACH * time, shortest[rows]), np.inf)
        trial = np.minimum(trial, np.minimum(left, longest))
        ahead = np.where(trial < left, time + direction[rows] * trial, end[rows])
        with np.errstate(over="ignore"):  # an infinite step is a long one
            step, finished, room = rule(sums.expand(time, ahead, 2), rows, time, trial)
        if count >= _PATIENCE:
            # Terms that nearly cancel make parabolas short; the cancellation shows in the higher orders as well.
            expansion = sums.expand(time, ahead, _HIGH_ORDER)
            step = np.where(_certified(expansion, direction[rows] * trial, room, sign), np.maximum(step, trial), step)
        whole = step >= trial
        arrived = whole & (trial >= left) & ~finished
        arrivals.append(rows[arrived])
        time = np.where(whole, ahead, time + direction[rows] * np.minimum(step, trial))
        trial = _next_trial(trial, step)
        keep = ~(finished | arrived)
        if not keep.all():
            rows, time, trial, sums = rows[keep], time[keep], trial[keep], sums.take(keep)
    raise RuntimeError(f"{rows.size} of {len(start)} walks along sums of exponentials did not finish")


def _certified(expansion: Expansion, length: FloatArray, room: FloatArray, sign: int) -> BoolArray:
    """Whether all functions + room stay positive (or one function − room negative) up to ``length``, of either sign.

    The coefficients in the basis of Bernstein bound a polynomial from below.
    """
    last = expansion.low if sign > 0 else -expansion.high
    with np.errstate(over="ignore", invalid="ignore"):  # then nothing is certified
        powers = length[:, None, None] ** np.arange(_HIGH_ORDER + 1)[:, None]
        taylor = np.concatenate([sign * expansion.coefficients, last[:, None]], axis=1) * powers
        taylor[:, :-1] -= expansion.noise * np.abs(powers[:, :-1])
        taylor[:, 0] += room
        bounds = _BERNSTEIN @ taylor
    positive: BoolArray = np.all(bounds > 0, axis=1)
    return np.all(positive, axis=1) if sign > 0 else np.any(positive, axis=1)


def _forward_trial(sums: Sums) -> FloatArray:
    """First trial length of a forward walk: two of the fastest time scale, mostly too long and soon cut."""
    fastest = sums.fastest
    return 2.0 / np.where(fastest > 0, fastest, 2.0)


def _crossing(jet: Expansion, time: FloatArray) -> FloatArray:
    """Where each function that is within its noise of zero crosses it (one Newton step); ``time`` for a touch.

    A crossing that cannot be told from t = 0 is put there.
    """
    bend = 2 * np.maximum(np.abs(jet.low), np.abs(jet.high))
    transversal = (np.abs(jet.slope) > 8 * jet.slope_noise) & (jet.slope**2 >= 4 * bend * np.abs(jet.value))
    slope = np.where(transversal, jet.slope, 1.0)
    crossing = time[:, None] - np.where(transversal, jet.value / slope, 0.0)
    since_start = (np.abs(slope) + bend * time[:, None]) * time[:, None]
    return np.where(transversal & (since_start <= 4 * jet.value_noise), 0.0, crossing)


_Walk = Callable[[Sums, FloatArray], tuple[FloatArray, IntArray]]


def _each_in_its_form(walk: _Walk, sums: Sums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    """Do the walk; problems whose end the values after infinite time do not tell are put into plain form first."""
    if isinstance(sums, ExponentialSums):
        return walk(sums.plain(), stop)
    tied = np.isinf(stop)
    if tied.any():
        tied &= (~sums.idle() & (sums.settled()[0] == 0)).any(axis=1)
    if not tied.any():
        return walk(sums, stop)
    time, index = np.empty(len(sums)), np.empty(len(sums), dtype=np.int64)
    time[tied], index[tied] = walk(sums.take(tied).plain(), stop[tied])
    time[~tied], index[~tied] = walk(sums.take(~tied), stop[~tied])
    return time, index


def _pinned(
    jet: Expansion, free: FloatArray, now: FloatArray, trial: FloatArray
) -> tuple[BoolArray, FloatArray, IntArray]:
    """Whether the latest zero backwards from here is already known to rounding; the zero, and whose it is.

    It lies between the first zeros of the parabolas below and above the function, and no other function is known to be
    ``free`` of zeros for less.
    """
    rows, nearest = np.arange(len(free)), free.argmin(axis=1)
    step, others = free[rows, nearest], free.copy()
    others[rows, nearest] = np.inf
    value, slope = jet.value[rows, nearest], jet.slope[rows, nearest]
    noise, slope_noise = jet.value_noise[rows, nearest], jet.slope_noise[rows, nearest]
    low, high = 2 * jet.low[rows, nearest], 2 * jet.high[rows, nearest]
    surely = _first_zero(np.maximum(value + noise, 0.0), -slope + slope_noise, high)
    middle = _first_zero(np.maximum(value, 0.0), -slope, 0.5 * (low + high))
    resolution = 4 * (_EPS * now + noise / np.maximum(np.abs(slope), _TINY))
    # (inf − inf where nothing is ahead compares as False, hence the clipping)
    pinned = (surely <= trial) & (np.minimum(surely, 2 * now) - np.minimum(step, now) <= resolution)
    pinned &= middle <= np.minimum(trial, others.min(axis=1))
    return pinned, np.maximum(now - np.where(pinned, middle, 0.0), 0.0), nearest


def last_violation(sums: Sums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    """Latest time in [0, stop] at which some function is not positive, and which function it is.

    Parameters
    ----------
    sums
        Q problems.
    stop
        Shape (Q,); may be infinite (then no function may grow without bound).

    Returns
    -------
    time, index
        Shape (Q,).  Time 0 and index −1 if all functions are positive on (0, stop]; infinite time if some
        function is not positive in the end (the index names one).
    """
    return _each_in_its_form(_last_violation, sums, stop)


def _last_violation(sums: Sums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    time, index, idle = np.zeros(len(sums)), np.full(len(sums), -1), sums.idle()
    start, unbounded = stop, np.isinf(stop)
    if unbounded.any():
        sign, settled = sums.settled()
        never = unbounded & (sign <= 0).any(axis=1)
        time[never], index[never] = np.inf, sign[never].argmin(axis=1)
        start = np.where(never, 0.0, np.where(unbounded, settled, stop))

    def rule(jet: Expansion, rows: IntArray, now: FloatArray, trial: FloatArray) -> _Step:
        asleep = idle[rows]
        violated: BoolArray = (jet.value <= 2 * jet.value_noise) & ~asleep
        free = _first_zero(np.maximum(jet.value - jet.value_noise, 0.0), -jet.slope - jet.slope_noise, 2 * jet.low)
        free = np.where(asleep, np.inf, free)
        here = violated.any(axis=1)
        if here.any():
            crossing = np.where(jet.value < -2 * jet.value_noise, now[:, None], _crossing(jet, now))
            latest = np.where(violated, crossing, -np.inf)
            others = now - np.where(violated, np.inf, free).min(axis=1)
            index[rows[here]] = latest.argmax(axis=1)[here]
            time[rows[here]] = np.clip(latest.max(axis=1), others, stop[rows])[here]
        pinned, zero, nearest = _pinned(jet, free, now, trial)
        pinned &= ~here
        index[rows[pinned]], time[rows[pinned]] = nearest[pinned], zero[pinned]
        return free.min(axis=1), here | pinned, np.where(asleep, np.inf, 0.0)

    _walk(sums, start, np.zeros_like(start), 0.5 * start, rule)
    return np.where(time < _BEGINNING * _forward_trial(sums), 0.0, time), index


def first_entry(sums: Sums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    """Earliest time in [0, stop] from which on all functions are positive for a while, and the last to become so.

    Parameters
    ----------
    sums
        Q problems.
    stop
        Shape (Q,); may be infinite, as in :func:`last_violation`.

    Returns
    -------
    time, index
        Shape (Q,).  Infinite time and index −1 if there is none; index −1 also if all are positive from 0 on.
    """
    return _each_in_its_form(_first_entry, sums, stop)


def _first_entry(sums: Sums, stop: FloatArray) -> tuple[FloatArray, IntArray]:
    time, index, idle = np.full(len(sums), np.inf), np.full(len(sums), -1), sums.idle()
    end, surely = stop, np.zeros(len(sums), dtype=bool)
    unbounded = np.isinf(stop)
    if unbounded.any():
        sign, settled = sums.settled()
        end = np.where(unbounded, settled, stop)
        surely = unbounded & (sign > 0).all(axis=1)
    candidate, culprit = np.full(len(sums), np.nan), np.full(len(sums), -1)

    def rule(jet: Expansion, rows: IntArray, now: FloatArray, trial: FloatArray) -> _Step:
        asleep = idle[rows]
        violated = (jet.value <= 2 * jet.value_noise) & ~asleep
        deep = violated & (jet.value < -2 * jet.value_noise)
        finished: BoolArray = ~np.any(violated, axis=1)
        # Where nothing but rounding is left of the violations, step over it, and remember the crossing.
        brink = ~finished & ~deep.any(axis=1)
        time[rows[finished]] = np.where(np.isnan(candidate[rows]), now, candidate[rows])[finished]
        index[rows[finished]] = culprit[rows[finished]]
        crossing = np.where(violated, np.maximum(_crossing(jet, now), now[:, None]), -np.inf)
        candidate[rows] = np.where(brink, crossing.max(axis=1), np.nan)
        culprit[rows] = np.where(brink, crossing.argmax(axis=1), -1)

        depth = np.where(deep, -jet.value - jet.value_noise, 1.0)
        blocked = _first_zero(depth, -jet.slope - jet.slope_noise, -2 * jet.high)
        certain = np.where(deep, blocked, 0.0).max(axis=1)
        # What stays within a few roundings of zero cannot be told from a violation: that may be stepped over as well.
        room = np.where(deep, 0.0, np.where(violated, 4 * jet.value_noise, -np.inf))
        return np.where(brink, _over_the_brink(jet, violated, trial), certain), finished, room

    arrived = _walk(sums, np.zeros_like(end), end, _forward_trial(sums), rule, sign=-1)
    arrived = arrived[surely[arrived]]  # positive from the end of the window on
    time[arrived] = np.where(np.isnan(candidate[arrived]), end[arrived], candidate[arrived])
    index[arrived] = culprit[arrived]
    return time, index


def _over_the_brink(jet: Expansion, violated: BoolArray, trial: FloatArray) -> FloatArray:
    """The length after which functions within their noise of zero have left it, by slope or by curvature.

    The first s with |slope| s, or ½ |f″| s², above eight times the noise at s, which grows with the noise of the slope.
    """
    noise, slope_noise = 8 * jet.value_noise, 8 * jet.slope_noise
    excess = np.abs(jet.slope) - slope_noise
    by_slope = np.where(excess > 0, noise / np.where(excess > 0, excess, 1.0), np.inf)
    bend = np.maximum(np.abs(jet.low), np.abs(jet.high))
    root = slope_noise + np.sqrt(slope_noise**2 + 4 * bend * noise)
    by_curvature = np.where(bend > 0, root / np.where(bend > 0, 2 * bend, 1.0), np.inf)
    length = np.where(violated, np.minimum(by_slope, by_curvature), 0.0).max(axis=1)
    return np.maximum(length, 4 * _EPS * trial)


def first_exit(sums: Sums, stop: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Earliest time at which a function that starts non-negative becomes negative, and which ones do.

    A function leaves where it is zero within rounding or negative, and surely falls by its slope; or, if its slope is
    zero within rounding, where its curvature or its value is surely negative.  One that rests at zero within rounding
    does not leave.  An exit by less than the rounding error may be reported late, or for a function that just touches
    zero.

    Parameters
    ----------
    sums
        Q problems.
    stop
        Shape (Q,); may be infinite.

    Returns
    -------
    time, exits
        Shapes (Q,), infinite if there is none, and (Q, F), all the functions that leave at this time.
    """
    if isinstance(sums, ExponentialSums):
        sums = sums.plain()
    time, exits = np.full(len(sums), np.inf), np.zeros(sums.idle().shape, dtype=bool)
    end = np.where(np.isinf(stop), sums.settled()[1], stop) if np.isinf(stop).any() else stop
    fastest = sums.fastest

    def rule(jet: Expansion, rows: IntArray, now: FloatArray, trial: FloatArray) -> _Step:
        at_zero = jet.value <= 2 * jet.value_noise
        value, slope, room = jet.value - jet.value_noise, jet.slope.copy(), np.zeros_like(jet.value)
        crossing = np.full(len(now), np.inf)
        finished: BoolArray = np.any(at_zero, axis=1)
        touching = np.flatnonzero(finished)
        if touching.size:
            part, touched = jet.take(touching), at_zero[touching]
            out = touched & _falls(part, fastest[rows[touching], None])
            finished[touching] = out.any(axis=1)
            exits[rows[touching]] = out
            crossing[touching] = np.where(out, _crossing(part, now[touching]), np.inf).min(axis=1)
            # A function at zero may fall by its rounding error, so that one which rests there does not stop the walk.
            value[touching] = np.where(touched, 3 * part.value_noise, value[touching])
            slope[touching] += np.where(touched, 6 * part.slope_noise, 0.0)
            room[touching] = np.where(touched, 4 * part.value_noise - np.minimum(part.value, 0.0), 0.0)
        step = _first_zero(value, slope - jet.slope_noise, 2 * jet.low)
        others = now + np.where(at_zero, np.inf, step).min(axis=1)
        time[rows[finished]] = np.minimum(crossing, others)[finished]
        return step.min(axis=1), finished, room

    _walk(sums, np.zeros_like(end), end, _forward_trial(sums), rule)
    return time, exits


def _falls(jet: Expansion, fastest: FloatArray) -> BoolArray:
    """Whether functions that are zero within rounding surely become negative."""
    slack = 4 * jet.slope_noise + 8 * jet.value_noise * fastest
    below = (2 * jet.high < -8 * jet.value_noise * fastest**2) | (jet.value < -2 * jet.value_noise)
    return (jet.slope < -slack) | ((jet.slope <= slack) & below)
