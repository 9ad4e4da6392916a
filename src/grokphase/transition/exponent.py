r"""Exponent ν of the mean test error before it becomes zero, E ∝ (t_ε − t)^ν, with an interval that is meant.

Object.  The mean error of the runs, aligned at the first zero record, is fitted with a power law and a correction,
E = A s^ν e^{cs} (:mod:`grokphase.transition._scaling_law`, which averages over where between two records the zero
lies, and fits how far the zero of the recorded error is from the law's own where errors are counted).

Where the members differ less near the zero than they must if it lies anywhere between two records (a tenth of that
variance), the zeros lie at one place between their records, and this place is fitted.

Interval.  Three parts; the last two are systematic, and widen it on both sides.

- *Runs.*  Bootstrap over runs, whole records at a time; the percentiles are taken further out so that they cover as
  Student's t does (expanded percentiles).
- *Oscillations.*  Whatever the residuals show beyond the scatter of the runs is taken for one oscillation in ln s,
  of any period up to half the window; the largest change of ν that such an oscillation can make is its error.
- *Curvature.*  The next correction, −(cs)²/2 in the logarithm, is left out of the fit; its effect on ν is an error.

Window.  The near end is the first record before the zero, or where the mean error is ten grains (errors that are
counted).  The far end is tried in steps of 0.1 decades.  The one with the narrowest interval balances scatter and
bias; the fit uses a far end 0.6 decades nearer, where the bias is small beside the scatter.  All are reported
(``plateau``).

Refusals.  :class:`ShortScalingWindow`, with the fit in it, if the window spans less than ``min_decades``, too few
runs cover it, errors at its near end are a few counts, all runs reach zero between the same two records, the
correction is not small at the far end, there is evidence of a jump (:mod:`grokphase.transition.order`), or the interval
reaches below 0.2, where a power is not told from a jump.  That a jump cannot be excluded is no reason to refuse.

Approximate: coverage is asymptotic in the number of runs.  Measured with ``benchmarks/coverage_exponent.py``, 500
ensembles in each of 18 cases (exponents 0.5, 1 and 2.5; clean, log-periodic, noisy, coarse, counted, fewer runs): the
intervals at 95% cover in 97.8 ± 0.7% to 100% of the answers, by case, 99.1% of all.  Refused were 22 of the 9000
(at most 1.2% in a case), 6 of them as jumps.  Coverage is more than 95% because the systematic part is a bound, mostly
of one sign: the scatter of the runs alone covers in 90 to 97%, and adding the two in quadrature misses the exact
exponent of the ball model in five dimensions.  The intervals are 1.1 to 1.8 times as wide as would do.  The bias is at
most 4% of the exponent.  An oscillation whose period exceeds half the window looks like another exponent and is not
seen.  Runs with different exponents have no common one: the mean tends to the smallest.

References: Žunkovič & Ilievski 2024, Figs. 15, 19 and 24.  T. C. Hesterberg, Am. Stat. 69 (2015) 371-386 (expanded
percentiles).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from grokphase._checks import FloatArray
from grokphase.transition._scaling_law import SMALLEST_EXPONENT, BinnedErrors, Records, ScalingLaw

__all__ = [
    "FEWEST_RUNS",
    "Curve",
    "ExponentFit",
    "Plateau",
    "ShortScalingWindow",
    "Window",
    "choose_window",
    "fit_exponent",
    "reason_to_refuse",
]

FEWEST_RUNS = 8
"""Fewest runs whose scatter is worth an interval."""

_STEP = 0.1  # decades between the far ends that are tried
_NEARER = 6  # steps from the narrowest interval to the fit
_GRAINS = 10.0  # of mean error at the near end
_TOLERANCES = 3.0  # of mean error at the near end
_LARGEST_CORRECTION = 0.5  # |c| at the far end, beyond its standard error
_SAME_RECORDS = 3  # zero records must be spread over so many
_OSCILLATIONS = 40  # periods that are tried
_SMALLEST_SHARE = 1e-6  # of singular values
_SPREAD = 0.1  # of the variance that zeros anywhere between two records would give
_LEFT_OUT = 1e-3  # what the law itself leaves out in the logarithm of a bin


class Plateau(NamedTuple):
    """Exponent against the far end of the window, each of shape (window,); the intervals are two standard errors."""

    far: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray


class Curve(NamedTuple):
    """Mean error in the bins of a window, as recorded and as fitted, each of shape (bin,)."""

    distance: FloatArray
    error: FloatArray
    stderr: FloatArray
    fitted: FloatArray


@dataclass(frozen=True, eq=False)
class ExponentFit:
    """Exponent with its interval; see :meth:`Transition.exponent`."""

    value: float
    low: float
    high: float
    confidence: float
    window: tuple[float, float]
    goodness: float
    misfit: float
    systematic: float
    correction: float
    shift: float
    runs: int
    plateau: Plateau
    curve: Curve

    @property
    def decades(self) -> float:
        """Decades of distance to the transition that the window spans."""
        return float(np.log10(self.window[1] / self.window[0]))


class ShortScalingWindow(ValueError):  # noqa: N818 - it is a refusal: nothing went wrong
    """The records do not carry an exponent; the fit so far is in ``fit`` (None if not even that was possible)."""

    def __init__(self, reason: str, fit: ExponentFit | None = None) -> None:
        self.fit = fit
        super().__init__(reason)


@dataclass(frozen=True, eq=False)
class Window:
    """One window, its best fit and what is needed for errors."""

    bins: BinnedErrors
    law: ScalingLaw
    parameters: FloatArray

    @classmethod
    def fitted(cls, bins: BinnedErrors, tolerance: float, granularity: float, *, phase: bool = False) -> "Window":
        law = ScalingLaw(bins, tolerance / bins.scale, granularity / bins.scale, jump=False, phase=phase)
        return cls(bins, law, law.fit(bins.log_mean))

    def with_jump(self) -> "Window":
        """The best fit in the same window with J free."""
        law = self.law.with_jump()
        return Window(self.bins, law, law.fit(self.bins.log_mean))

    def without_jump(self) -> "Window":
        """The best fit of the same law with J = 0."""
        return Window(self.bins, self.law, self.law.fit(self.bins.log_mean, without_jump=True))

    def zeros_are_spread(self) -> bool:
        """Whether the members differ near the zero as they must if it lies anywhere between two records.

        Less than a tenth of that variance has a chance of 2e-3 with eight members, and far less with more.
        """
        errors = self.bins.errors[:, :2]
        relative = errors / errors.mean(axis=0)
        variance = (relative[:, 0] - relative[:, 1]).var(ddof=1)
        return bool(variance >= _SPREAD * self.law.variance_of_spread_zeros(self.parameters))

    def squared_misfit(self) -> float:
        """Sum of squared residuals."""
        return float(self.residual @ self.residual)

    def expected_misfit(self) -> float:
        """Sum of squared residuals that the scatter of the runs and what the law leaves out lead to."""
        rest = self._leaves()[1]
        return float(np.trace(rest @ self.bins.scatter @ rest.T)) + len(rest) * _LEFT_OUT**2

    def _leaves(self) -> tuple[FloatArray, FloatArray]:
        """Matrices that take changes of the log means to those of the parameters, and to those of the residuals."""
        slope = self.law.slope(self.parameters)
        solve = np.linalg.pinv(slope, rcond=_SMALLEST_SHARE)
        rest: FloatArray = np.eye(len(slope)) - slope @ solve
        return np.asarray(solve, dtype=np.float64), rest

    def of(self, name: str) -> float:
        """One of the parameters."""
        return float(self.parameters[self.law.place[name]])

    def errors(self, name: str) -> tuple[float, float]:
        """Standard error of a parameter from the scatter of the runs, and its systematic error."""
        solve, rest = self._leaves()
        gain = solve[self.law.place[name]]
        stderr = float(np.sqrt(max(gain @ self.bins.scatter @ gain, 0.0)))
        residual = self.residual
        excess = residual @ residual - np.trace(rest @ self.bins.scatter @ rest.T)
        oscillation = self._worst_oscillation(gain, rest) * np.sqrt(max(float(excess), 0.0))
        next_order = np.exp(2 * self.bins.log_distance) * self.law.vanishing_share(self.parameters)
        its_gain = solve[self.law.place["correction"]]
        size, its_stderr = abs(self.of("correction")), np.sqrt(max(its_gain @ self.bins.scatter @ its_gain, 0.0))
        coefficient = (size + its_stderr) ** 2 / 2
        if "phase" in self.law.place:
            # Nearly no scatter: the window is not so short that it hides what looks like c but is of order s².
            coefficient += max(size - its_stderr, 0.0) / max(abs(its_gain @ next_order), 1.0)
        curvature = abs(gain @ next_order) * coefficient
        return stderr, float(oscillation + curvature)

    @property
    def residual(self) -> FloatArray:
        """Logarithms of mean errors minus the fit, shape (bin,)."""
        return self.bins.log_mean - self.law.log_error(self.parameters[None])[0]

    def curve(self) -> Curve:
        """What was fitted, and the fit."""
        bins = self.bins
        error = bins.scale * bins.errors.mean(axis=0)
        fitted = bins.scale * np.exp(self.law.log_error(self.parameters[None])[0])
        return Curve(bins.far * np.exp(bins.log_distance), error, error * np.sqrt(bins.scatter.diagonal()), fitted)

    def _worst_oscillation(self, gain: FloatArray, rest: FloatArray) -> float:
        """Largest change of a parameter by an oscillation that leaves a residual of norm 1."""
        log_distance = self.bins.log_distance
        span = float(np.ptp(log_distance))
        shortest = 2 * span / (log_distance.size - 1)
        period = np.geomspace(shortest, max(span / 2, shortest), _OSCILLATIONS)[:, None]
        phase = 2 * np.pi * log_distance / period
        wave = np.stack([np.cos(phase), np.sin(phase)], axis=-1)  # (period, bin, 2)
        change, left = gain @ wave, rest @ wave
        # The phase is free: maximise (change·p)²/|left p|² over p.
        squared = np.linalg.pinv(left.swapaxes(1, 2) @ left, rcond=_SMALLEST_SHARE, hermitian=True)
        return float(np.einsum("pi,pij,pj->p", change, squared, change).max()) ** 0.5

    def goodness(self) -> float:
        """p-value of the residuals given the scatter of the runs (Hotelling); 1 if nothing is left to test."""
        solve, rest = self._leaves()
        runs, freedom = len(self.bins.errors), len(rest) - len(solve)
        if freedom < 1 or runs <= freedom:
            return 1.0
        covariance = rest @ self.bins.scatter @ rest.T
        size = float(np.trace(covariance))
        if size <= np.finfo(float).eps ** 2:  # records without any scatter
            return float(np.abs(self.residual).max() < np.finfo(float).eps ** 0.5)
        squared = self.residual @ np.linalg.pinv(covariance, rcond=_SMALLEST_SHARE, hermitian=True) @ self.residual
        return float(stats.f.sf(squared * (runs - freedom) / (freedom * (runs - 1)), freedom, runs - freedom))

    def interval(self, name: str, confidence: float, replicates: int, seed: int) -> tuple[float, float]:
        """Bootstrap interval of a parameter, widened by its systematic error, mostly of one sign."""
        runs = len(self.bins.errors)
        found = self.law.refit(self.bins.bootstrap(replicates, seed), self.parameters)[:, self.law.place[name]]
        tail = stats.norm.sf(np.sqrt(runs / (runs - 1)) * stats.t.isf((1 - confidence) / 2, runs - 1))
        low, high = np.quantile(found, [tail, 1 - tail])
        systematic = self.errors(name)[1]
        return float(low - systematic), float(high + systematic)


def choose_window(
    records: Records,
    tolerance: float,
    window: tuple[float, float] | None,
    min_decades: float,
) -> tuple[Window, Plateau]:
    """Window of the fit and the scan it was chosen from; raises :class:`ShortScalingWindow` if there is none."""
    runs = records.step.size
    if runs < 2:
        raise ShortScalingWindow(
            f"an exponent needs at least {FEWEST_RUNS} runs that reach zero test error, got {runs}"
        )
    granularity = records.granularity
    smallest = max(_GRAINS * granularity, _TOLERANCES * tolerance)
    near, furthest = _ends(records, smallest)
    if 10 * granularity < 1e-4 * records.mean_error(near):
        granularity = 0.0  # far below what any record in the window can resolve
    if window is not None:
        near, furthest = window
    number = int(np.floor((np.log10(furthest / near) - min_decades) / _STEP + 1e-9)) + 1 if furthest > near else 0
    if window is not None or number < 1:
        ends = np.array([furthest]) if furthest > near else np.zeros(0)
    else:
        ends = near * 10 ** (min_decades + _STEP * np.arange(number))
    binned = [bins for far in ends if (bins := records.binned(near, float(far))) is not None]
    if not any(bins.errors.shape[1] > 3 + (granularity > 0) for bins in binned):
        if window is None and near > records.step.max():
            raise ShortScalingWindow(
                f"mean errors below {smallest:.2g} are too few counts, or too near what counts as zero; above, the "
                f"records reach from {near:.4g} to {furthest:.4g} before the zero, where a fit needs "
                f"{10**min_decades:.3g} times the distance: test on more inputs"
            )
        raise ShortScalingWindow(
            f"the records before zero test error reach from {near:g} to {furthest:g}, too few of them for a fit: "
            "record the error more often"
        )
    chosen, plateau = _narrowest(binned, tolerance, granularity, phase=False)
    carries_phase = any(bins.errors.shape[1] > 4 + (granularity > 0) for bins in binned)
    if carries_phase and not chosen.zeros_are_spread():
        chosen, plateau = _narrowest(binned, tolerance, granularity, phase=True)
    return chosen, plateau


def _narrowest(
    binned: list[BinnedErrors], tolerance: float, granularity: float, *, phase: bool
) -> tuple[Window, Plateau]:
    """Window of the fit, nearer than the one with the narrowest interval, and the scan."""
    free = 3 + (granularity > 0) + phase
    candidates = [
        Window.fitted(bins, tolerance, granularity, phase=phase) for bins in binned if bins.errors.shape[1] > free
    ]
    errors = np.array([candidate.errors("exponent") for candidate in candidates])
    values = np.array([candidate.of("exponent") for candidate in candidates])
    width = 2 * errors[:, 0] + errors[:, 1]
    plateau = Plateau(
        np.array([candidate.bins.far for candidate in candidates]), values, values - width, values + width
    )
    enough = np.array([len(candidate.bins.errors) >= FEWEST_RUNS for candidate in candidates])
    narrowest = int(np.where(enough, width, np.inf).argmin()) if enough.any() else 0
    return candidates[max(narrowest - _NEARER, 0)], plateau


def _ends(records: Records, smallest_error: float) -> tuple[float, float]:
    """Nearest and furthest distance a window may have."""
    near = float(records.step.max())
    furthest = float(np.quantile(records.furthest, 0.1))
    grid = near * 10 ** np.arange(0, max(np.log10(furthest / near), 0.0), _STEP / 2) if furthest > near else np.zeros(0)
    for distance in grid:
        if records.mean_error(float(distance)) >= smallest_error:
            return float(distance), furthest
    return near, furthest


def fit_exponent(
    chosen: Window, plateau: Plateau, records: Records, confidence: float, replicates: int, seed: int
) -> ExponentFit:
    """Exponent in a chosen window with its interval."""
    bins, runs = chosen.bins, len(chosen.bins.errors)
    systematic = chosen.errors("exponent")[1]
    low, high = 0.0, np.inf  # what two or three runs say
    if runs >= FEWEST_RUNS:
        low, high = chosen.interval("exponent", confidence, replicates, seed)
    shift = 0.0
    if "shift" in chosen.law.place:
        shift = chosen.of("shift") * records.granularity
    return ExponentFit(
        value=chosen.of("exponent"),
        low=low,
        high=high,
        confidence=confidence,
        window=(bins.near, bins.far),
        goodness=chosen.goodness(),
        misfit=float(np.sqrt(np.mean(chosen.residual**2))),
        systematic=systematic,
        correction=chosen.of("correction"),
        shift=shift,
        runs=runs,
        plateau=plateau,
        curve=chosen.curve(),
    )


def reason_to_refuse(fit: ExponentFit, chosen: Window, records: Records, min_decades: float) -> str | None:
    """Why a fit cannot be trusted, and what would help; None if it can."""
    if fit.runs < FEWEST_RUNS:
        return f"an exponent needs at least {FEWEST_RUNS} runs that cover the window, got {fit.runs}"
    if fit.decades < min_decades * (1 - 1e-9):
        return (
            f"the window spans {fit.decades:.2f} decades, an exponent needs {min_decades:.2f}: record the error more "
            f"often near its zero, or pass min_decades={fit.decades:.2f} to accept this fit"
        )
    if chosen.bins.scale < _GRAINS * records.granularity:
        return (
            f"the mean error at the near end, {chosen.bins.scale:.2g}, is not {_GRAINS:g} times the smallest that is "
            f"told from zero, {records.granularity:.2g}: test on more inputs, or begin the window further away"
        )
    if np.unique(records.zero).size < _SAME_RECORDS:
        return (
            "all runs reach zero test error at the same records, so that its time between them is unknown: record the "
            "error more often"
        )
    if fit.low < SMALLEST_EXPONENT:
        return (
            f"the exponent may be {max(fit.low, 0.0):.2g}, and below {SMALLEST_EXPONENT:g} a power is not told from a "
            "jump: more runs or denser records would tell"
        )
    if abs(fit.correction) - chosen.errors("correction")[0] > _LARGEST_CORRECTION:
        return (
            f"no power law within {fit.window[1]:.3g} of the transition: at that distance the error is "
            f"{np.exp(fit.correction):.2g} times what the power law near the transition says; record more often"
        )
    return None
