r"""Exponent of a power law at the edge of a sample's support, by likelihood.

Object.  Near its edge the distribution function of the distance r from the edge is F(r) = C r^δ, so that the
density is ∝ r^−ξ with ξ = 1 − δ.  The k smallest distances, divided by the next one, R, are then k independent
draws from (r/R)^δ whatever lies beyond R (Hill's conditioning), and have the likelihood

    L(δ) = δ^k e^{−δT},    T = Σ_i ln(R/r_i),

which with the prior dδ/δ makes δ a Gamma(k) variable divided by T.  Intervals from it are exact in the frequency
sense, since δT is Gamma(k) distributed.  Distances below the resolution ρ only say r < ρ: they add ln(R/ρ) to T and
nothing to k.

Where the edge is unknown, the sample's extreme is at an unknown distance v from it, the i-th value at v + s_i
(s_1 = 0).  Averaging over v and over the scale with the invariant (Haar) measure leaves the likelihood of the
ratios s_i/s_m, m = k + 1, which neither shift nor scale of the data can change:

    L(δ) = δ^{m−1} ∫₀^∞ dv (s_m + v)^{−mδ} Π_{i=1}^m (s_i + v)^{δ−1}.

For δ < 1 the integral is dominated by v ≲ s_2 (the extreme is as good as the edge); for δ > 2 it is an
ordinary estimate of the end point.  The prior is dδ/δ again.

Exact for a pure power law: to rounding where the edge is known, else up to the match of a Bayesian with a
frequency interval, which simulations show to be within a percent of coverage from k = 20 on.  Where F is C r^δ
times a log-periodic function, as on fractals, T depends on the phase at R and the estimate is biased for any
number of values: counts are unbiased there.

References: B. M. Hill, Ann. Statist. 3 (1975) 1163-1174.  P. Hall, Ann. Statist. 10 (1982) 556-568.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.integrate import cumulative_trapezoid
from scipy.special import logsumexp

from grokphase._checks import FloatArray

__all__ = ["Posterior", "known_edge", "power_law_p_value", "unknown_edge"]

_SMALLEST, _LARGEST = 1e-4, 100.0  # range of δ that is searched
_COARSE, _FINE = 64, 200  # points in δ: to find the peak, and to integrate it, 14 a standard deviation
_RELEVANT = 25.0  # log-likelihoods further than this below the peak do not matter
_STEP, _STEP_COUNT = 0.05, 10_000  # step in ln v up to so many values; the integrand's width is at least 1/√m
_BELOW, _ABOVE = 20.0, 8.0  # ln v runs from ln s_2 − 20 (with an exact tail beyond) to ln s_m + 8
_BLOCK = 2**22  # elements held at a time


class Posterior(NamedTuple):
    """Median, standard deviation and central interval of δ."""

    median: float
    deviation: float
    low: float
    high: float


def known_edge(distances: FloatArray, censored: int, resolution: float, confidence: float) -> Posterior:
    """δ from ascending distances, the last being R; of the first ``censored`` it is only known that r < ρ."""
    total = float(np.log(distances[-1] / distances[censored:-1]).sum())
    if censored:
        total += censored * float(np.log(distances[-1] / resolution))
    law = stats.gamma(distances.size - 1 - censored, scale=1 / total)
    tail = (1 - confidence) / 2
    return Posterior(float(law.median()), float(law.std()), float(law.ppf(tail)), float(law.isf(tail)))


def unknown_edge(separations: FloatArray, confidence: float) -> Posterior:
    """δ from ascending distances to the sample's extreme: the first is 0, the second is not."""
    evaluate = _MarginalLikelihood(separations / separations[-1])
    ends, relevant = (_SMALLEST, _LARGEST), np.zeros(0, dtype=np.intp)
    while relevant.size < _COARSE // 4:
        grid = np.geomspace(*ends, _COARSE)
        height = evaluate(grid)
        relevant = np.flatnonzero(height > height.max() - _RELEVANT)
        ends = grid[max(relevant[0] - 1, 0)], grid[min(relevant[-1] + 1, _COARSE - 1)]
    grid = np.geomspace(*ends, _FINE)
    height = evaluate(grid)
    log_grid, weight = np.log(grid), np.exp(height - height.max())  # a density in ln δ: the prior is flat there
    cumulative = cumulative_trapezoid(weight, log_grid, initial=0.0)
    tail = (1 - confidence) / 2
    low, median, high = np.interp([tail, 0.5, 1 - tail], cumulative / cumulative[-1], grid)
    share = weight / weight.sum()
    mean = share @ grid
    return Posterior(float(median), float(np.sqrt(share @ (grid - mean) ** 2)), float(low), float(high))


class _MarginalLikelihood:
    """ln L(δ) for an unknown edge; ``ratios`` are s_i/s_m, ascending from 0 to 1.

    By the trapezoidal rule in ln v on the whole line, whose error is exponentially small.
    """

    def __init__(self, ratios: FloatArray) -> None:
        self._size = ratios.size
        step = _STEP * min(1.0, (_STEP_COUNT / ratios.size) ** 0.5)
        start = np.log(ratios[1]) - _BELOW
        self._log_v = start + step * np.arange(int((_ABOVE - start) / step) + 2)
        v = np.exp(self._log_v)
        self._end = np.log1p(v)
        self._sum = np.empty_like(v)  # Σ ln(s_i + v) without the first term, ln v
        block = max(1, _BLOCK // ratios.size)
        for first in range(0, v.size, block):
            here = slice(first, first + block)
            self._sum[here] = np.log(ratios[1:] + v[here, None]).sum(axis=1)
        self._step = step

    def __call__(self, exponents: FloatArray) -> FloatArray:
        delta = exponents[:, None]
        log_integrand = delta * self._log_v + (delta - 1) * self._sum - self._size * delta * self._end
        body = logsumexp(log_integrand, axis=1)
        # Points further left form a geometric series, as the integrand is ∝ v^δ there; those further right vanish.
        tail = log_integrand[:, 0] - np.log(np.expm1(exponents * self._step))
        return (self._size - 1) * np.log(exponents) + np.logaddexp(body, tail) + np.log(self._step)


def power_law_p_value(distances: FloatArray, nearer: int) -> float:
    """p-value of F ∝ r^δ over the range of the ascending, positive distances, for any δ.

    ``nearer`` values have smaller distances.  The normalised spacings j·ln(r_{j+1}/r_j) of a power law are independent
    and exponential (Rényi), so that their partial sums divided by the whole are ordered uniform numbers:
    Cramér-von Mises tests that.
    """
    spacings = np.arange(nearer + 1, nearer + distances.size) * np.diff(np.log(distances))
    partial = np.cumsum(spacings)
    return float(stats.cramervonmises(partial[:-1] / partial[-1], "uniform").pvalue)
