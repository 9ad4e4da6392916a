"""Law of the grokking time in the one-dimensional exponential model, exact for any N, λ₁, λ₂.

Object: t_G = zero-test time − zero-train time (Eq. 16), given that the test error vanishes for good and that
b(0) lies above every positive sample. Up to the factor N and the gap, the smallest positive sample is M ~
Exp(1), the rest of the data enters through u = G_{N−1} − G′_N, and with s = (1+λ₂)t, c = (eˢ−1)/(1+λ₂), e =
2Nε_λ

    {t_G > t} = {M > (e−u) c/(2+c), |M+u| < e}.

Conventions: q = 2/(2+c), r = 2−q, V = (1+c)e; pois(j; e) = e^{−e} eʲ/j!; P(k, x) is the regularised lower
incomplete gamma function. The density of u is an Erlang mixture on either side of 0, with weights

    w⁺_k = C(2N−2−k, N−1) 2^{−(2N−1−k)}  (u > 0),        w⁻_k = C(2N−2−k, N−2) 2^{−(2N−1−k)}  (u < 0),

so that, with T_i = Σ_{k≥i} w⁻_k 2^{i−1−k} and the normalisation Z = Pr(|M+u| < e) of Eq. 14,

    Z f(t) = (q²/2) eˢ { Σ_j pois(j; e) Σ_{k<j} w⁺_k (j−k) q^{j−k−1}
                         + e^{−(1−q)e} Σ_k w⁻_k [e r^{−k} P(k, rV) + k r^{−k−1} P(k+1, rV)] },
    Z Pr(t_G > t) = q { Σ_j pois(j; e) Σ_{k<j} w⁺_k q^{j−k−1}
                         + e^{−(1−q)e} [T_1 (1−e^{−qe})/q + Σ_i T_i r^{−i} P(i, rV)] }.

All terms are positive and the sums run in log space, so density and survival function keep their relative
accuracy (1e-11 or better for N ≤ 1000, down to 1e-250); `cdf` is 1 − `sf`, accurate to rounding in the
absolute sense. Mean and spread are trapezoidal sums in log c, whose error falls exponentially with the
number of nodes. Cost grows as √N, for times so late that Pr(t_G > t) underflows as N.

Reference: Žunkovič & Ilievski 2024, Eqs. 16, 17, 69-74. Eqs. 17 and 74 as printed hold for N = 2, λ₂ = 0
only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import exprel, gammainc, gammaincinv

from grokphase._checks import FloatArray, generator, integer, real_array
from grokphase.solvable._gamma_difference import gamma_difference_probability, log_poisson, log_stage_weights
from grokphase.solvable._parameters import common_shape, full_shape, store_parameters

__all__ = ["GrokkingTimeLaw"]

LogJoint = Callable[[int, FloatArray, FloatArray, FloatArray], FloatArray]

# Weights below exp(−46) of the largest do not show in double precision.
_NEGLIGIBLE = 46.0
# Trapezoidal nodes of the moments: spacing and margin in log c; the integrand falls like c to the left, 1/c
# to the right.
_STEP, _MARGIN = 1 / 8, 42.0
_BLOCK = 1 << 20
# Smallest and largest 2Nε_λ: squares must not leave the range of double precision.
_GAP_RANGE = 1e-140, 1e140
# Times beyond this, in units of 1/(1+λ₂), count as infinity.
_FOREVER = 1e300
_ROWS = 64  # Poisson weights computed at once
# A bracketed Newton iteration needs about ten rounds; pure bisection, the worst case, needs fewer than these.
_MAX_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class GrokkingTimeLaw:
    """Exact law of the grokking time t_G given zero test error for good (Eq. 16; Fig. 5).

    Made by ``ExponentialModel.grokking_time``. Method names follow :mod:`scipy.stats`. The parameters may be
    arrays: every method broadcasts its argument with them.

    Parameters
    ----------
    samples_per_class
        N ≥ 1, a single integer.
    effective_gap
        ε_λ > 0, any shape (at ε_λ = 0 zero test error has probability 0: there is nothing to condition on).
    l2
        λ₂ ≥ 0, any shape that broadcasts with ``effective_gap``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or an argument of a method is.

    Examples
    --------
    >>> law = GrokkingTimeLaw(samples_per_class=3, effective_gap=0.4, l2=0.5)
    >>> print(round(law.mean(), 5), round(law.sf(1.0), 5), round(law.ppf(0.5), 5))
    0.57562 0.16259 0.41592
    """

    samples_per_class: int
    effective_gap: float | FloatArray
    l2: float | FloatArray = 0.0

    def __post_init__(self) -> None:
        gap = real_array("effective_gap", self.effective_gap, minimum=0.0, exclusive=True)
        l2 = real_array("l2", self.l2, minimum=0.0)
        n = integer("samples_per_class", self.samples_per_class, minimum=1)
        low, high = (bound / (2 * n) for bound in _GAP_RANGE)
        if ((gap < low) | (gap > high)).any():
            raise ValueError(
                f"effective_gap must be between {low:g} and {high:g} at samples_per_class = {n}, "
                f"got values from {gap.min():g} to {gap.max():g}"
            )
        object.__setattr__(self, "samples_per_class", n)
        store_parameters(self, effective_gap=gap, l2=l2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Broadcast shape of the parameters."""
        return np.broadcast_shapes(np.shape(self.effective_gap), np.shape(self.l2))

    def pdf(self, time: ArrayLike) -> FloatArray:
        """Density f(t) per unit of gradient-flow time; 0 for t < 0."""
        return np.exp(self.logpdf(time))

    def logpdf(self, time: ArrayLike) -> FloatArray:
        """Logarithm of the density, also where the density itself underflows; −inf for t < 0."""
        return self._evaluate(_log_density, time, before=-np.inf)

    def cdf(self, time: ArrayLike) -> FloatArray:
        """Pr(t_G ≤ t)."""
        return -np.expm1(self.logsf(time))

    def sf(self, time: ArrayLike) -> FloatArray:
        """Pr(t_G > t), with full relative accuracy."""
        return np.exp(self.logsf(time))

    def logsf(self, time: ArrayLike) -> FloatArray:
        """Logarithm of Pr(t_G > t), also where the probability itself underflows."""
        return self._evaluate(_log_survival, time, before=0.0)

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile: the time t with Pr(t_G ≤ t) = probability.

        Newton's method on log Pr(t_G > t), kept inside a bracket; accurate to rounding in ``sf``.
        """
        probability = real_array("probability", probability, minimum=0.0, maximum=1.0)
        common_shape(probability=probability, parameters=self._rate)
        arrays = np.broadcast_arrays(probability, self._scaled_gap, self._rate, self._log_total)
        p, e, rate, log_total = (array.ravel() for array in arrays)
        inner = (p > 0) & (p < 1)
        time = np.where(p == 1, np.inf, 0.0)
        log_target = np.log1p(-p[inner]) + log_total[inner]
        time[inner] = _solve_survival(self.samples_per_class, e[inner], rate[inner], log_target)
        return time.reshape(arrays[0].shape)[()]

    def mean(self) -> FloatArray:
        """Mean grokking time ∫ Pr(t_G > t) dt."""
        return self._moments[0][()]

    def std(self) -> FloatArray:
        """Standard deviation of the grokking time."""
        first, second = self._moments
        return np.sqrt(second - first**2)[()]

    def rvs(self, size: int | tuple[int, ...] | None, rng: np.random.Generator | int) -> FloatArray:
        """Independent grokking times, drawn exactly and without rejection.

        Parameters
        ----------
        size
            Shape of the result; it must end in the shape of the parameters. None: the shape of the
            parameters.
        rng
            Generator or seed.

        Notes
        -----
        Two Poisson clocks, one for each class, run until one has rung N times. The other then lacks j + 1
        rings, and waits |z| ~ Erlang(j + 1) for them, independent of the time ~ Gamma(2N−1−j)/2 gone by: z =
        2N x̄. Given |z| < e, j has weight w_j P(j+1, e). The smallest of N spacings with sum G is G·Beta(1,
        N−1)/N.
        """
        rng = generator("rng", rng)
        n, shape = self.samples_per_class, full_shape(size, self.shape)
        e, rate = self._scaled_gap, self._rate
        stages = np.arange(1, _relevant(log_stage_weights(n, _stage_bound(n))) + 1)
        weights = np.exp(log_stage_weights(n, stages.size)) * gammainc(stages, e[..., None])
        lacking = _choose_rows(weights, rng.random(shape))
        excess = gammaincinv(lacking, rng.random(shape) * gammainc(lacking, e))
        positive_last = rng.random(shape) < 0.5
        positive_sum = rng.standard_gamma(2 * n - lacking) / 2 + np.where(positive_last, excess, 0.0)
        share = -np.expm1(-rng.standard_exponential(shape) / (n - 1)) if n > 1 else 1.0
        room = np.where(positive_last, np.maximum(e - excess, e * 2.0**-53), e + excess)
        return (np.log1p(rate * 2 * positive_sum * share / room) / rate)[()]

    def _evaluate(self, log_joint: LogJoint, time: ArrayLike, before: float) -> FloatArray:
        """Logarithm of a joint quantity over Z; ``before`` is its value for t < 0, −inf that at infinity."""
        time = real_array("time", time, infinite=True)
        common_shape(time=time, parameters=self._rate)
        finite = (time >= 0) & (time < _FOREVER / self._rate)
        value = log_joint(self.samples_per_class, self._scaled_gap, self._rate, np.where(finite, time, 0.0))
        return np.where(finite, value - self._log_total, np.where(time < 0, before, -np.inf))[()]

    @cached_property
    def _scaled_gap(self) -> FloatArray:
        return np.asarray(2.0 * self.samples_per_class * np.broadcast_to(self.effective_gap, self.shape))

    @cached_property
    def _rate(self) -> FloatArray:
        return np.asarray(1.0 + np.broadcast_to(self.l2, self.shape))

    @cached_property
    def _log_total(self) -> FloatArray:
        return np.log(gamma_difference_probability(self.samples_per_class, self._scaled_gap))

    @cached_property
    def _moments(self) -> tuple[FloatArray, FloatArray]:
        """First and second moment, ∫ Pr(t_G > t) dt and ∫ 2t Pr(t_G > t) dt, as trapezoidal sums in log c."""
        n = self.samples_per_class
        e, rate, log_total = self._scaled_gap.ravel(), self._rate.ravel(), self._log_total.ravel()
        moments = np.empty((2, e.size))
        # Grokking times are of order c = 1/e, or of order c = 1 if e is small and large c are cut off at 1/e.
        start = -_MARGIN - np.log(np.maximum(e, 1.0).max(initial=1.0) * rate.max(initial=1.0))
        stop = _MARGIN - np.log(np.minimum(e, 1.0).min(initial=1.0))
        log_c = np.arange(start, stop, _STEP)[:, None]
        # Later nodes do not show, even against a second moment as small as 1/e².
        shows = _log_survival_bound(n, e, log_c) > log_total - _MARGIN - 2 * np.log(np.maximum(e, 1.0))
        log_c = log_c[: 1 + np.count_nonzero(shows.any(axis=1))]
        c = np.exp(log_c)
        rows = max(1, _BLOCK // log_c.size)
        for first in range(0, e.size, rows):
            block = slice(first, first + rows)
            survival = np.exp(_log_survival_at(n, e[block], log_c) - log_total[block])
            speed = c / (1 + rate[block] * c)  # dt / d log c
            time = np.log1p(rate[block] * c) / rate[block]
            moments[0, block] = _STEP * (survival * speed).sum(axis=0)
            moments[1, block] = _STEP * (2 * time * survival * speed).sum(axis=0)
        return moments[0].reshape(self.shape), moments[1].reshape(self.shape)


def _log_density(n: int, e: FloatArray, rate: FloatArray, time: FloatArray) -> FloatArray:
    """Log Z f(t)."""
    log_c = _log_c(rate, time)
    log_q, beta, r, x = _flow_variables(e, log_c)
    weights = _negative_weights(n)
    total = np.zeros(np.broadcast_shapes(e.shape, log_c.shape))
    power, gamma = np.ones_like(r), gammainc(1, x)
    for k, weight in enumerate(weights, start=1):
        power = power / r
        gamma_next = gammainc(k + 1, x)
        total += weight * power * (e * gamma + k / r * gamma_next)
        gamma = gamma_next
    bracket = np.logaddexp(_log_positive_side(n, e, log_q, order=2), np.log(total) - beta * e)
    return 2 * log_q - np.log(2) + rate * time + bracket


def _log_survival(n: int, e: FloatArray, rate: FloatArray, time: FloatArray) -> FloatArray:
    """Log Z Pr(t_G > t)."""
    return _log_survival_at(n, e, _log_c(rate, time))


def _log_survival_at(n: int, e: FloatArray, log_c: FloatArray) -> FloatArray:
    log_q, beta, r, x = _flow_variables(e, log_c)
    weights = _negative_weights(n)
    # T_i = Σ_{k≥i} w⁻_k 2^{i−1−k}: sixty powers of a half are all that shows.
    halved = np.convolve(weights, 0.5 ** np.arange(60, 0, -1))[59:]
    total = halved[0] * e * exprel(-np.exp(log_q) * e)
    power = np.ones_like(r)
    for i, weight in enumerate(halved, start=1):
        power = power / r
        total = total + weight * power * gammainc(i, x)
    bracket = np.logaddexp(_log_positive_side(n, e, log_q, order=1), np.log(total) - beta * e)
    return log_q + bracket


def _log_survival_bound(n: int, e: FloatArray, log_c: FloatArray) -> FloatArray:
    """Log of the bound E exp(−β(e−u)) ≥ Z Pr(t_G > t), taken no later than where β = min(ε_λ, 1/2)."""
    _, beta, _, _ = _flow_variables(e, log_c)
    beta = np.minimum(beta, np.minimum(e / (2 * n), 0.5))
    return -beta * e - (n - 1) * np.log1p(-beta * beta) - np.log1p(beta)


def _log_positive_side(n: int, e: FloatArray, log_q: FloatArray, order: int) -> FloatArray:
    """Log Σ_{k≥1} w⁺_k Σ_{j>k} pois(j; e) q^{j−k−1}, with a factor (j−k) in the inner sum if ``order`` is 2.

    The inner sums obey B_{k−1} = q B_k + pois(k; e) and D_{k−1} = q D_k + B_{k−1}. Beyond the last stage that
    shows they are Poisson tails of mean qe, negligible unless this mean is larger.
    """
    beta, mean, last = -np.expm1(log_q), np.exp(log_q) * e, n - 1
    # B_k grows by factors below both 1/q and e/(k+1). Against the first, w⁺_k wins from k = 2(N−1)(1−q)/(2−q)
    # on and the terms then fall no slower than exp(−k²/4N); against the second, like Poisson weights from
    # i on, where i² − 2i(N−1+e) + 2e(N−1) = 0.
    slowly = 2 * last * beta / (1 + beta) + _stage_bound(n)
    rapidly = _poisson_end(2 * last * e / (last + e + np.hypot(last, e)))
    stages = int(min(last, np.minimum(slowly, rapidly).max(initial=0.0)))
    top = int(_poisson_end(stages))
    log_weights = log_stage_weights(n, stages + 1) - np.log(2)
    with np.errstate(divide="ignore"):
        beyond = gammainc(top + 1, np.where(mean > stages, mean, 0.0))
        shift = -beta * e - (top + 1) * log_q
        single = shift + np.log(beyond)
        first_moment = (mean - top) * beyond + mean * np.exp(log_poisson(top, mean))
        double = np.where(beyond > 0, shift + np.log(first_moment), -np.inf)
    total = np.full(single.shape, -np.inf)
    for first in range(top, 0, -_ROWS):
        counts = np.arange(first, max(first - _ROWS, 0), -1)
        for k, log_pois in zip(counts, log_poisson(counts.reshape(-1, *[1] * e.ndim), e), strict=True):
            if k <= stages:
                total = np.logaddexp(total, log_weights[k] + (double if order == 2 else single))
            single = np.logaddexp(single + log_q, log_pois)
            if order == 2:
                double = np.logaddexp(double + log_q, single)
    return total


def _poisson_end(mean: FloatArray | int) -> FloatArray:
    """Counts that a Poisson variable exceeds with a probability below exp(−42)."""
    return mean + 9 * np.sqrt(mean) + 20


def _negative_weights(n: int) -> FloatArray:
    """w⁻_k = w_{k−1} (N−1) / (2N−1−k), k = 1.. while it shows."""
    log_weights = log_stage_weights(n, _stage_bound(n))
    k = np.arange(1, _relevant(log_weights) + 1)
    ratio = (n - 1) / (2 * n - 1 - k) if n > 1 else 1.0
    return np.exp(log_weights[: k.size]) * ratio


def _stage_bound(n: int) -> int:
    """Number of stages after which w_j ~ exp(−j²/4N) no longer shows."""
    return min(n, int(np.sqrt(4 * _NEGLIGIBLE * n)) + 2)


def _relevant(log_weights: FloatArray) -> int:
    return int(np.count_nonzero(log_weights > log_weights[0] - _NEGLIGIBLE))


def _log_c(rate: FloatArray, time: FloatArray) -> FloatArray:
    s = rate * time
    with np.errstate(divide="ignore"):  # c = 0 at t = 0
        return s + np.log(-np.expm1(-s)) - np.log(rate)


def _flow_variables(e: FloatArray, log_c: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Log q, β = 1 − q, r = 1 + β and x = rV."""
    log_q = -np.logaddexp(0.0, log_c - np.log(2))
    beta = np.exp(log_c - np.log(2) + log_q)
    r = 1 + beta
    with np.errstate(over="ignore"):
        return log_q, beta, r, r * (1 + np.exp(log_c)) * e


def _solve_survival(n: int, e: FloatArray, rate: FloatArray, log_target: FloatArray) -> FloatArray:
    """Times at which log Z Pr(t_G > t) = log_target."""
    low, high = np.zeros(e.shape), np.full(e.shape, np.inf)
    time = np.zeros(e.shape)
    active = np.arange(e.size)
    for _ in range(_MAX_ROUNDS):
        t, lo, hi = time[active], low[active], high[active]
        log_survival = _log_survival(n, e[active], rate[active], t)
        surplus = log_survival - log_target[active]
        low[active] = lo = np.where(surplus > 0, t, lo)
        high[active] = hi = np.where(surplus > 0, hi, t)
        hazard = np.exp(_log_density(n, e[active], rate[active], t) - log_survival)
        step = t + surplus / hazard
        # Without an upper end yet go no further than where the survival function falls like exp(−(1+λ₂)t),
        # or double.
        late = (1 + np.log1p(1 / e[active]) + np.maximum(surplus, 0.0)) / rate[active]
        step = np.where(np.isinf(hi), np.minimum(step, np.maximum(late, 2 * t)), step)
        inside = (step == t) | ((step > lo) & (step < hi))
        time[active] = step = np.where(inside, step, np.where(np.isinf(hi), 2 * t, (lo + hi) / 2))
        # The error after a Newton step is of the order of its square.
        settled = (np.abs(step - t) <= 1e-9 * step) | (np.abs(surplus) <= 4e-16)
        active = active[~settled]
        if not active.size:
            break
    return time


def _choose_rows(weights: FloatArray, uniform: FloatArray) -> NDArray[np.int64]:
    """1 + index drawn from the weights along the last axis, by inversion, one row for each parameter set."""
    cumulative = np.cumsum(weights, axis=-1)
    cumulative /= cumulative[..., -1:]
    rows = np.arange(cumulative[..., 0].size).reshape(cumulative.shape[:-1])
    # Row i occupies (i, i+1]: one sorted list serves all rows.
    ladder = (cumulative + rows[..., None]).ravel()
    found = np.searchsorted(ladder, rows + uniform, side="right") - rows * cumulative.shape[-1]
    return np.minimum(found, cumulative.shape[-1] - 1) + 1
