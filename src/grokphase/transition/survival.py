r"""How late runs grok when not all of them do: survival curve and means with right-censored runs.

Object.  The delay is max(t_G, 0): how long after zero training error a run still had test errors.  S(t) = P(delay >
t) is estimated by Kaplan & Meier from runs that got there (events) and runs whose record ended before (censored:
the delay exceeds what was recorded).  Its restricted mean, the mean of min(delay, τ), is ∫₀^τ S dt, with
Greenwood's variance

    Σ_i [∫_{t_i}^τ S dt]² d_i / (n_i (n_i − d_i)),

d_i delays at t_i of n_i runs at risk.

Conventions.  Clipping at zero makes everything known that matters: a run whose test error got to zero but not its
training error has t_G < 0 for certain, so its delay is 0.  A run in which neither got there is not at risk (its
clock has not started) and is left out, but counted: all is conditional on zero training error.

Exact: the product-limit estimate.  Approximate: intervals (log-log, pointwise) and standard errors are asymptotic.
Fails where the end of a record depends on the run's prospects, as with runs stopped because they looked hopeless.
Sampling of time rounds both ends of the delay up to a record, which leaves its mean as it is for equally spaced
records.

References: E. L. Kaplan & P. Meier, J. Am. Stat. Assoc. 53 (1958) 457-481.  ``scipy.stats.ecdf``.
"""

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from grokphase._checks import FloatArray, choice, real
from grokphase.transition.zero_times import CensoredTimes

__all__ = ["MeanTime", "MedianTime", "Survival", "mean_delay", "median_delay", "survival_curve"]


class MeanTime(NamedTuple):
    """A mean and its standard error (infinite for a single run)."""

    mean: float
    stderr: float


class MedianTime(NamedTuple):
    """A median with its interval; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Survival:
    """Share of runs that have not grokked yet; see :meth:`Transition.survival`.

    Attributes
    ----------
    time
        Delays, ascending, from 0 on.
    probability
        P(delay > time): a step function that keeps its value up to the next time.
    low, high
        Pointwise interval.
    confidence
        Its level.
    events, censored, unknown
        Runs that grokked, runs whose record ended before, runs without zero training or test error.
    """

    time: FloatArray
    probability: FloatArray
    low: FloatArray
    high: FloatArray
    confidence: float
    events: int
    censored: int
    unknown: int

    @property
    def horizon(self) -> float:
        """Longest delay about which the data say anything."""
        return float(self.time[-1])

    @property
    def median(self) -> float:
        """First delay at which at most half of the runs are left; infinite if it does not come."""
        return float(self.time[(self.probability <= 0.5).argmax()]) if self.probability[-1] <= 0.5 else np.inf


class _Delays(NamedTuple):
    events: FloatArray
    censored: FloatArray
    unknown: int


def _delays(grokking: CensoredTimes) -> _Delays:
    at_once = ~grokking.reached & (grokking.high < np.inf)
    waiting = ~grokking.reached & (grokking.low > -np.inf) & ~at_once
    events = np.concatenate([np.maximum(grokking.value[grokking.reached], 0.0), np.zeros(at_once.sum())])
    # A record that ends where the training error becomes zero has observed no delay at all.
    return _Delays(
        events, np.maximum(grokking.low[waiting], 0.0), int(len(grokking) - events.size - np.count_nonzero(waiting))
    )


def survival_curve(grokking: CensoredTimes, confidence: float) -> Survival:
    """Kaplan-Meier estimate; see :meth:`Transition.survival`."""
    confidence = real("confidence", confidence, minimum=0.0, maximum=1.0, exclusive=True)
    events, censored, unknown = _delays(grokking)
    if not events.size + censored.size:
        raise ValueError("no run reached zero training or test error: there is no delay to speak of")
    curve = stats.ecdf(stats.CensoredData(uncensored=events, right=censored)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # log-log is undefined where the curve is 0 or 1: filled below
        interval = curve.confidence_interval(confidence, method="log-log")
    time, probability = curve.quantiles, curve.probabilities
    low, high = interval.low.probabilities, interval.high.probabilities
    if time[0] > 0:
        time, probability = np.append(0.0, time), np.append(1.0, probability)
        low, high = np.append(np.nan, low), np.append(np.nan, high)
    # Where nothing has happened yet: the exact binomial bound.  Where nobody is left: what held before.
    none_yet = (1 - confidence) / 2
    all_runs = events.size + censored.size
    low = np.where(probability == 1, none_yet ** (1 / all_runs), np.where(probability == 0, 0.0, low))
    high = np.where(probability == 1, 1.0, high)
    for place in np.flatnonzero(probability == 0):
        high[place] = high[place - 1] if place else 1 - none_yet ** (1 / all_runs)
    return Survival(time, probability, low, high, confidence, events.size, censored.size, unknown)


def median_delay(grokking: CensoredTimes, confidence: float) -> MedianTime:
    """Median delay, and the interval of medians that the data do not reject.

    Where all runs are observed for longer than the ones that got there took, ranks of the delays bound the median by
    the binomial law, without approximation: it takes six runs.  Else the pointwise interval of the survival curve is
    inverted (Brookmeyer & Crowley, Biometrics 38 (1982) 29-41).
    """
    events, censored, _ = _delays(grokking)
    if not events.size + censored.size:
        return MedianTime(None, None, None)
    curve = survival_curve(grokking, confidence)
    value = curve.median if np.isfinite(curve.median) else None
    if censored.min(initial=np.inf) >= events.max(initial=-np.inf):
        ranked = np.append(np.sort(events), np.full(censored.size, np.inf))
        # Fewer than `rank` of the runs lie below the median with a probability of at most (1 − confidence)/2.
        rank = int(stats.binom.ppf((1 - confidence) / 2, ranked.size, 0.5))
        ends = (float(ranked[rank - 1]), float(ranked[-rank])) if rank else (-np.inf, np.inf)
        low, high = (end if np.isfinite(end) else None for end in ends)
        return MedianTime(value, low, high)
    low, high = (
        float(curve.time[(bound <= 0.5).argmax()]) if bound.min() <= 0.5 else None for bound in (curve.low, curve.high)
    )
    return MedianTime(value, low, high)


def mean_delay(grokking: CensoredTimes, restricted_to: float | None, runs: str) -> MeanTime:
    """Mean delay; see :meth:`Transition.mean_grokking_time`."""
    choice("runs", runs, ("all", "reached", "published"))
    events, censored, _ = _delays(grokking)
    if restricted_to is not None:
        restricted_to = real("restricted_to", restricted_to, minimum=0.0, exclusive=True)
    if runs != "all":
        kept = events[events > 0] if runs == "published" else events
        if not kept.size:
            raise ValueError(f"no run is left with runs={runs!r}: there is no mean")
        kept = np.minimum(kept, np.inf if restricted_to is None else restricted_to)
        stderr = float(kept.std(ddof=1) / kept.size**0.5) if kept.size > 1 else np.inf
        return MeanTime(float(kept.mean()), stderr)

    if not events.size + censored.size:
        raise ValueError("no run reached zero training or test error: there is no mean")
    horizon = float(max(events.max(initial=0.0), censored.max(initial=0.0)))
    complete = censored.max(initial=-1.0) < events.max(initial=-1.0)  # then the curve ends at zero
    if restricted_to is None:
        if not complete:
            raise ValueError(
                f"{censored.size} runs have not grokked, so the mean is unknown: give restricted_to ≤ {horizon:g} "
                "for the mean of the delay cut there"
            )
        restricted_to = horizon
    elif restricted_to > horizon and not complete:
        raise ValueError(f"restricted_to must be ≤ {horizon:g}, the longest delay recorded, got {restricted_to:g}")
    return _restricted_mean(events, censored, restricted_to)


def _restricted_mean(events: FloatArray, censored: FloatArray, end: float) -> MeanTime:
    times, deaths = np.unique(events, return_counts=True)
    leaving = np.sort(np.concatenate([events, censored]))
    at_risk = leaving.size - np.searchsorted(leaving, times)  # censored at the same time are still at risk
    survivors = np.cumprod(1 - deaths / at_risk)
    inside = times < end
    times, deaths, at_risk, survivors = times[inside], deaths[inside], at_risk[inside], survivors[inside]
    first = times[0] if times.size else end
    pieces = survivors * np.diff(np.append(times, end))
    remaining = np.cumsum(pieces[::-1])[::-1]  # ∫ from each event on
    mean = float(first + pieces.sum())
    # The last run at risk leaves remaining = 0: its term is 0/0 and counts nothing.
    contributes = at_risk > deaths
    variance = np.sum((remaining**2 * deaths)[contributes] / (at_risk * (at_risk - deaths))[contributes])
    if leaving.size == 1:
        return MeanTime(mean, np.inf)
    return MeanTime(mean, float(np.sqrt(variance)))
