r"""The idealised flow of the ball model: one fast and one slow mode, and its zero-error times.

For N → ∞ and λ₂ + 1/(D+2) ≪ 1 the weights along and across the shift of the classes relax independently,

    w₁(t) = 1/ε + (w₁(0) − 1/ε) e^{−ε² t},    w_⊥(t) = w_⊥(0) e^{−L t},    L = λ₂ + 1/(D+2),

(Eqs. 38, 39); the training error is zero while w₁ ≥ |w_⊥|/ε, the test error while w₁ ≥ |w_⊥|/√(ε²−1).  Both
times are "for good": the start of the last interval of zero error, which has no end.

Words: ``along`` is w₁(0), ``across`` is ρ = |w_⊥(0)|.  With κ = ε²/L > 1, G = ε/√(ε²−1), the last zeros of
1 − (1 − εw₁(0)) e^{−ε²t} − ρ b e^{−Lt}, with b = 1 (train) and b = G (test), are the two times.  A flow that has
training error at the start crosses the training cone at |w_⊥| = R, w₁ = R/ε, and needs from there the time t with

    R(t) = (1 − X)/(g − X),    g = G e^{−Lt} = e^{L(t_a − t)},    X = e^{−ε²t},

where t_a = ln(G)/L is the common time of all flows that cross late (w₁ = 1/ε, R = 1): the paper's atom.  Hence
t_G > t is, at a given w₁(0), an interval of ρ in closed form (:func:`early_branches`, :func:`late_branches`).

Exact for this flow.  It is not the flow of a finite training set: compare :class:`grokphase.GradientFlow`.
References: Žunkovič & Ilievski 2024, Eqs. 34–47; ERRATA, row 43.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from grokphase._checks import FloatArray
from grokphase.solvable._tanh_sinh import integrate_unit

__all__ = ["Branch", "Rates", "early_branches", "last_time", "late_branches", "late_end", "zero_times"]

Radius = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

_MAX_ROUNDS = 100  # Newton needs about ten, sixty at a double root
_LEAST_DECAY = 1e-300  # as good as none, and one may divide by it
_BEYOND = 9.0  # standard deviations past the last peak of a Gaussian times a power: exp(−81/2) = 3e-18


class Rates(NamedTuple):
    """Parameters of the flow, arrays of one shape."""

    gap: FloatArray  # ε
    slow: FloatArray  # L
    dimension: int

    @property
    def fast(self) -> FloatArray:
        """Rate ε² of w₁."""
        return self.gap**2

    @property
    def ratio(self) -> FloatArray:
        """κ = ε²/L."""
        return self.fast / self.slow

    @property
    def log_contrast(self) -> FloatArray:
        """Ln G, half of ln(ε²/(ε²−1))."""
        return np.log1p(1 / ((self.gap - 1) * (self.gap + 1))) / 2

    @property
    def peak_time(self) -> FloatArray:
        """t_a, Eq. 47 corrected."""
        return self.log_contrast / self.slow

    @property
    def fast_end(self) -> FloatArray:
        """Largest |w_⊥(0)| for which the test error vanishes while w₁ relaxes, 1/G (Eq. 40)."""
        return np.exp(-self.log_contrast)

    @property
    def widest(self) -> FloatArray:
        """Largest |w_⊥| at which a flow can cross the training cone for good, κ/(κ−1)."""
        return self.fast / (self.fast - self.slow)

    @property
    def reach(self) -> float:
        """|w₁(0)| beyond this adds nothing: the rest of an integrand grows at most like its (D−1)th power."""
        return float(np.sqrt(self.dimension - 1) + _BEYOND)


class Branch(NamedTuple):
    """A stretch of w₁(0) = start + direction·d, 0 ≤ d ≤ length, on which t_G > t for low(d) < ρ < high(d).

    ``low`` and ``high`` map d to the radius and its derivative in t, ``width`` to ln(high/low), free of cancellation;
    the last two are None for no upper limit.
    """

    start: FloatArray
    length: FloatArray
    direction: int
    low: Radius
    high: Radius | None = None
    width: Callable[[FloatArray], FloatArray] | None = None

    def average(self, weight: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Integral of a function of d over the stretch with the density of w₁(0), one number for each row."""

        def integrand(x: FloatArray, _: FloatArray) -> FloatArray:
            d = self.length * x
            return np.exp(-((self.start + self.direction * d) ** 2) / 2) * weight(d)

        integral, _ = integrate_unit(integrand)
        return self.length[:, 0] / np.sqrt(2 * np.pi) * integral


# --- one initial condition ---


def zero_times(rates: Rates, along: FloatArray, across: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Zero-train and zero-test time, both for good, of flows with given w₁(0) and |w_⊥(0)| > 0."""
    fast_part = 1 - rates.gap * along
    train = last_time(rates, fast_part, np.log(across))
    test = last_time(rates, fast_part, np.log(across) + rates.log_contrast)
    return train, test


def last_time(rates: Rates, fast_part: FloatArray, log_slow_part: FloatArray) -> FloatArray:
    """Last zero in t > 0 of 1 − α e^{−ε²t} − β e^{−Lt}, or 0 if there is none; arguments α and ln β."""
    approach = _from_below(rates, np.maximum(fast_part, 0.0), log_slow_part)
    return np.where(fast_part >= 0, approach, _from_above(rates, np.minimum(fast_part, 0.0), log_slow_part))


def _from_below(rates: Rates, fast_part: FloatArray, log_slow_part: FloatArray) -> FloatArray:
    """The zero for α ≥ 0: the function is concave and increasing, so Newton climbs to it from the left."""
    with np.errstate(divide="ignore"):
        time = np.maximum(np.maximum(np.log(fast_part) / rates.fast, log_slow_part / rates.slow), 0.0)
    for _ in range(_MAX_ROUNDS):
        fast_term = fast_part * np.exp(-rates.fast * time)
        slow_term = np.exp(log_slow_part - rates.slow * time)
        missing = np.maximum(fast_term + slow_term - 1, 0.0)
        step = missing / (rates.fast * fast_term + rates.slow * slow_term)
        time = time + step
        if (step <= 4e-16 * time).all():
            break
    return time


def _from_above(rates: Rates, fast_part: FloatArray, log_slow_part: FloatArray) -> FloatArray:
    """The last zero for α < 0, where w₁ starts above its limit and error may come back.

    With θ = β e^{−Lt} it is the smallest zero of θ − 1 − m θ^κ, m = |α| β^{−κ}: concave, so Newton climbs to it
    from θ = 1.  There is one only if the maximum, at θ = (κm)^{−1/(κ−1)}, lies beyond κ/(κ−1).
    """
    kappa = rates.ratio
    with np.errstate(divide="ignore"):
        log_m = np.log(-fast_part) - kappa * log_slow_part
    exists = (log_slow_part > 0) & (-(np.log(kappa) + log_m) >= (kappa - 1) * np.log(rates.widest))
    log_m = np.where(exists, log_m, -np.inf)
    excess = np.exp(log_m)  # θ − 1
    for _ in range(_MAX_ROUNDS):
        power = np.exp(log_m + kappa * np.log1p(excess))
        slope = 1 - kappa * power / (1 + excess)
        # The slope vanishes at a double root; there rounding must not throw the iterate off.
        step = np.where(slope > 0, np.maximum(power - excess, 0.0) / np.where(slope > 0, slope, 1.0), 0.0)
        excess = np.minimum(excess + step, rates.widest - 1)
        if (step <= 4e-16 * excess).all():
            break
    return np.where(exists, np.maximum(log_slow_part - np.log1p(excess), 0.0) / rates.slow, 0.0)


# --- all initial conditions with t_G > t ---


class _Crossing(NamedTuple):
    """The point of the training cone that is t away from zero test error."""

    decay: FloatArray  # X
    contrast: FloatArray  # g
    contrast_excess: FloatArray  # g − 1
    radius: FloatArray  # R
    missing: FloatArray  # 1 − R
    speed: FloatArray  # dR/dt


def _crossing(rates: Rates, time: FloatArray) -> _Crossing:
    decay = np.maximum(np.exp(-rates.fast * time), _LEAST_DECAY)
    excess = np.expm1(rates.slow * (rates.peak_time - time))
    passed = -np.expm1(-rates.fast * time)
    distance = excess + passed  # g − X
    radius, missing = passed / distance, excess / distance
    speed = (rates.fast * decay * missing + rates.slow * (1 + excess) * radius) / distance
    return _Crossing(decay, 1 + excess, excess, radius, missing, speed)


def early_branches(rates: Rates, time: FloatArray, cap: FloatArray) -> tuple[list[Branch], FloatArray, FloatArray]:
    """Where t_G > t with ρ < cap ≤ 1, or cap = ∞, for 0 ≤ t < t_a, and the ends (left, right) of w₁(0).

    From left to right in w₁(0): flows that cross the training cone after the start (``falling``), flows inside
    it whose test error vanishes at t (``rising``), flows that never have test error (``settled``).
    """
    at = _crossing(rates, time)
    gap, fast, slow, kappa = rates.gap, rates.fast, rates.slow, rates.ratio
    corner = at.radius / gap  # w₁ where the training cone is reached at the start
    turn = (at.missing + 1 / ((kappa - 1) * at.decay)) / gap  # length of ``rising``
    to_left, to_right = np.full_like(time, np.inf), np.full_like(time, np.inf)
    if np.isfinite(cap).all():
        to_left = np.maximum(_where_falling_ends(at, gap, kappa, cap), 0.0)
        room = np.maximum(cap - 1 + at.missing, 0.0)  # cap − R
        lifted = np.log(cap * at.contrast / rates.widest)
        settled = np.expm1(np.maximum(kappa * lifted, 0.0)) / ((kappa - 1) * gap * at.decay)
        to_right = np.where(lifted <= 0, at.contrast * room / (gap * at.decay), turn + settled)

    def falling(d: FloatArray) -> tuple[FloatArray, FloatArray]:
        stretch = np.exp(np.log1p(gap * d / at.missing) / kappa)
        return at.radius * stretch, at.speed * stretch * (at.missing + at.radius / kappa) / at.missing

    def rising(d: FloatArray) -> tuple[FloatArray, FloatArray]:
        radius = at.radius + gap * at.decay * d / at.contrast
        return radius, fast * at.decay * (at.missing - gap * d) / at.contrast + slow * radius

    def settled_radius(d: FloatArray) -> tuple[FloatArray, FloatArray]:
        lift = np.log1p((kappa - 1) * gap * at.decay * d) / kappa
        radius = rates.widest / at.contrast * np.exp(lift)
        return radius, np.zeros_like(radius)

    right = np.minimum(to_right, rates.reach)
    branches = [
        Branch(corner, np.minimum(to_left, rates.reach + corner), -1, falling),
        Branch(corner, np.minimum(right, turn), 1, rising),
        Branch(corner + turn, np.maximum(right - turn, 0.0), 1, settled_radius),
    ]
    return branches, corner - to_left, corner + to_right


def _where_falling_ends(at: _Crossing, gap: FloatArray, kappa: FloatArray, cap: FloatArray) -> FloatArray:
    """Distance d at which ``falling`` reaches ρ = cap: (1 − R)((cap/R)^κ − 1)/ε."""
    with np.errstate(divide="ignore"):
        log_radius = np.where(at.missing < 0.5, np.log1p(-np.minimum(at.missing, 0.5)), np.log(at.radius))
    return at.missing * np.expm1(np.minimum(kappa * (np.log(cap) - log_radius), 700.0)) / gap


def late_branches(rates: Rates, time: FloatArray) -> list[Branch]:
    """Where t_G > t for t_a < t < :func:`late_end`: flows with w₁(0) > 1/ε that cross both cones from above.

    The upper limit is the training cone crossed at R(t) or, past R = κ/(κ−1), touched from inside.
    """
    at = _crossing(rates, time)
    gap, fast, slow, kappa = rates.gap, rates.fast, rates.slow, rates.ratio
    log_contrast = slow * (rates.peak_time - time)
    touching = at.radius >= rates.widest
    excess = np.where(touching, 1 / (kappa - 1), -at.missing)  # R − 1
    radius, log_radius = 1 + excess, np.log1p(excess)
    spread = np.where(touching, 0.0, at.speed * (excess - radius / kappa) / (radius * excess))
    # Everything in y = εw₁(0) − 1, whose logarithm spans many decades.
    turn = 1 / ((kappa - 1) * at.decay)
    first = np.where(touching, turn * np.exp(kappa * (_log_tip(rates) - rates.log_contrast)), excess)

    def log_high(y: FloatArray) -> FloatArray:
        return log_radius + np.log(y / excess) / kappa

    def highest(y: FloatArray) -> tuple[FloatArray, FloatArray]:
        high = np.exp(log_high(y))
        return high, high * spread

    def rising(d: FloatArray) -> tuple[FloatArray, FloatArray]:
        y = first + gap * d
        low = (1 + at.decay * y) / at.contrast
        return low, slow * low - fast * at.decay * y / at.contrast

    def rising_width(d: FloatArray) -> FloatArray:
        y = first + gap * d
        return log_high(y) - (np.log1p(at.decay * y) - log_contrast)

    def log_settled(d: FloatArray) -> FloatArray:
        return np.log1p(1 / (kappa - 1)) - log_contrast + np.log1p((kappa - 1) * gap * at.decay * d) / kappa

    def settled(d: FloatArray) -> tuple[FloatArray, FloatArray]:
        low = np.exp(log_settled(d))
        return low, np.zeros_like(low)

    def settled_width(d: FloatArray) -> FloatArray:
        return log_high(turn + gap * d) - log_settled(d)

    length = np.maximum(rates.reach - (1 + first) / gap, _BEYOND)
    middle = np.minimum(np.maximum(turn - first, 0.0) / gap, length)
    return [
        Branch((1 + first) / gap, middle, 1, rising, lambda d: highest(first + gap * d), rising_width),
        Branch((1 + turn) / gap, length - middle, 1, settled, lambda d: highest(turn + gap * d), settled_width),
    ]


def late_end(rates: Rates) -> FloatArray:
    """A time that t_G exceeds with probability below 1e-18 (w₁(0) would have to exceed √(D−1) + 9)."""
    kappa = rates.ratio
    start = np.log((kappa - 1) * rates.gap * rates.reach)
    end = (start + kappa * (rates.log_contrast - _log_tip(rates))) / rates.fast
    return np.maximum(end, rates.peak_time + np.log(rates.widest) / rates.slow)


def _log_tip(rates: Rates) -> FloatArray:
    """Logarithm of the root v of κv − (κ−1) = (v/G)^κ in (1 − 1/κ, 1): the tip of the region past R = κ/(κ−1)."""
    kappa = rates.ratio
    tip = 1 - 1 / kappa
    for _ in range(_MAX_ROUNDS):
        power = np.exp(kappa * (np.log(tip) - rates.log_contrast))
        step = np.maximum(power - (kappa * tip - (kappa - 1)), 0.0) / (kappa - kappa * power / tip)
        tip = tip + step
        if (step <= 4e-16 * tip).all():
            break
    return np.log(tip)
