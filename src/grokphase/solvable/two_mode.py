r"""Law of the grokking time in the idealised two-mode flow of the ball model (Sec. 3.3.3, Fig. 9, corrected).

Object: t_G = zero-test time − zero-train time, both for good, of the flow of Eqs. 38 and 39 (see
:mod:`grokphase.solvable.two_mode_flow`) started from standard normal weights: ρ² = |w_⊥(0)|² ~ χ²_{D−1} and
w₁(0) ~ N(0, 1).  By ρ² the initial conditions fall into three parts,

========  ===================  =======================================================================
part      ρ²                   train and test error vanish
========  ===================  =======================================================================
fast      below 1 − 1/ε²       both while w₁ relaxes
middle    1 − 1/ε² … 1         train while w₁ relaxes, test while w_⊥ does
slow      above 1              both while w_⊥ relaxes, up to a smear t_a = ln(ε²/(ε²−1))/(2L) later
========  ===================  =======================================================================

with L = λ₂ + 1/(D+2), and in each part t_G = 0 for flows that have no test error from the start on.  At a given
w₁(0) the set t_G > t is an interval of ρ in closed form, so that

    Pr(t_G > t) = ∫ φ(w) Pr(ρ_low(w, t) < ρ < ρ_high(w, t)) dw,

and the density is the derivative under the integral.

Exact: fast and middle part, to a relative error of about 1e-11.  Approximate, by default: the slow part is drawn
together into an atom at t_a of weight Pr(χ²_{D−1} > 1), which is its limit for L/ε² → 0.  The smear is not small at
the paper's parameters (D = 5, ε = 2, λ₂ = 0.01: 17 % of all flows are slow and end more than 0.001 away from t_a, 6 %
more than 0.1); ``resolved=True`` keeps it, and then every number is exact for the flow.  The flow itself stands for
N → ∞ at 1/ξ_train² = 1 + ε² (Eq. 37): simulated training of a finite set is another matter (ERRATA, rows 34, 37).

What differs from the paper: Eq. 43 gives the whole weight Pr(ρ² < 1 − 1/ε²) a positive t_G, although about a third
of it has none; it freezes w_⊥ on the fast path, which makes a tail to t = ∞ where the flow ends before t_a; it leaves
out the middle part; and Eq. 47 has ε⁴ for ε².

References: Žunkovič & Ilievski 2024, Eqs. 34–47; ERRATA, rows 34–47.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from grokphase._checks import FloatArray, generator, integer, real_array
from grokphase.solvable._parameters import common_shape, full_shape, store_parameters
from grokphase.solvable._tanh_sinh import integrate_unit
from grokphase.solvable.two_mode_flow import (
    Branch,
    Rates,
    early_branches,
    late_branches,
    late_end,
    zero_times,
)

__all__ = ["TwoModeLaw", "chi_density"]

Quantity = Callable[[Rates, FloatArray], FloatArray]

_LARGEST_GAP = 1e6
_BLOCK = 512  # times integrated together: some 10⁶ nodes at the finest step
_MOMENT_RTOL = 1e-9  # of the last refinement; the error is about its square
_BISECTIONS = 60  # 2^−60 of the support
_UNIT_RADIUS = 1.0  # the slow part begins at ρ = 1
# Gauss-Legendre on (0, 1): error 1e-16 for a function that changes by a factor e
_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(6) + np.array([[1.0], [0.0]])) / 2


@dataclass(frozen=True, eq=False)
class TwoModeLaw:
    """Law of the grokking time t_G of the idealised two-mode flow (Eqs. 38–47, corrected).

    Made by ``BallModel.grokking_time``.  Method names follow :mod:`scipy.stats`.  ``class_gap`` and ``l2`` may be
    arrays: every method broadcasts its argument with them.

    Parameters
    ----------
    dimension
        D ≥ 2: without a direction across there is nothing to wait for.
    class_gap
        ε > 1, at most 10⁶.
    l2
        λ₂ ≥ 0, below ε² − 1/(D+2): the mode along the shift must be the faster one.
    resolved
        ``False``: the slow part is an atom.  ``True``: it is spread as in the flow, and there is no atom.

    Raises
    ------
    ValueError
        If a parameter is out of range, or an argument of a method is.

    Examples
    --------
    >>> law = TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01)
    >>> print(*(round(float(x), 4) for x in (*law.atom, law.middle_weight, law.fast_weight, law.zero_weight)))
    0.941 0.9098 0.0352 0.055 0.0289
    >>> print(round(float(law.mean()), 4), round(float(law.resolve().mean()), 4))
    0.8669 0.8612
    """

    dimension: int
    class_gap: float | FloatArray
    l2: float | FloatArray = 0.0
    resolved: bool = False

    def __post_init__(self) -> None:
        dimension = integer("dimension", self.dimension, minimum=2)
        gap = real_array("class_gap", self.class_gap, minimum=1.0, maximum=_LARGEST_GAP)
        if (gap == 1).any():
            raise ValueError(f"class_gap must be > 1, got {self.class_gap!r}: the balls touch, t_G is infinite")
        l2 = real_array("l2", self.l2, minimum=0.0)
        common_shape(class_gap=gap, l2=l2)
        if (l2 + 1 / (dimension + 2) >= gap**2).any():
            raise ValueError(
                f"l2 must be < class_gap² − 1/(dimension + 2), got {self.l2!r}: "
                "the two-mode flow needs the mode along the shift to be the faster one"
            )
        if not isinstance(self.resolved, bool):
            raise ValueError(f"resolved must be True or False, got {self.resolved!r}")
        object.__setattr__(self, "dimension", dimension)
        store_parameters(self, class_gap=gap, l2=l2)

    def resolve(self) -> "TwoModeLaw":
        """The same law with the slow part spread out as it is in the flow."""
        return replace(self, resolved=True)

    # --- parts ---

    @property
    def atom(self) -> tuple[FloatArray, FloatArray]:
        """Position t_a (Eq. 47 corrected) and weight of the atom; weight 0 if the law is resolved."""
        position = self._rates.peak_time
        return position[()], np.full_like(position, self._atom_weight)[()]

    @property
    def fast_weight(self) -> FloatArray:
        """Pr(ρ² < 1 − 1/ε²) (Eq. 45), flows with t_G = 0 included."""
        gap = self._rates.gap
        return self._chi2_cdf((gap - 1) * (gap + 1) / gap**2)[()]

    @property
    def middle_weight(self) -> FloatArray:
        """Pr(1 − 1/ε² < ρ² < 1)."""
        width = -np.expm1(-self._rates.log_contrast)[..., None]  # 1 − 1/G without cancellation at large ε
        radius = self._rates.fast_end[..., None]
        inside, _ = integrate_unit(lambda x, _: chi_density(radius + width * x, self.dimension - 1))
        return (width[..., 0] * inside)[()]

    @property
    def zero_weight(self) -> FloatArray:
        """Pr(t_G = 0), an atom at 0: no test error from the start on; of the slow part only if the law is resolved."""
        return self.cdf(0.0)

    # --- distribution ---

    def pdf(self, time: ArrayLike) -> FloatArray:
        """Density of t_G without its atoms.

        Parameters
        ----------
        time
            t, any shape that broadcasts with the parameters.

        Returns
        -------
        density
            Integrates to 1 − ``zero_weight`` − (weight of ``atom``).  If the law is resolved it has an
            integrable singularity at t_a, too sharp for float64 where κ = ε²/L is large; use ``cdf`` there.

        Raises
        ------
        ValueError
            If ``time`` is not real.

        Examples
        --------
        >>> TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01).pdf([0.1, 0.5]).round(4)
        array([0.2416, 0.01  ])
        """
        return self._evaluate(self._early_pdf, self._late_pdf, time, before=0.0, after=0.0)

    def fast_pdf(self, time: ArrayLike) -> FloatArray:
        """Density of t_G > 0 from the fast part alone: what Eq. 43 stands for, without freezing w_⊥.

        Parameters
        ----------
        time
            t, any shape that broadcasts with the parameters.

        Returns
        -------
        density
            Part of ``pdf``; integrates to Pr(ρ² < 1 − 1/ε², w₁(0) < ρ/√(ε²−1)), less than ``fast_weight`` because
            some flows have t_G = 0.

        Raises
        ------
        ValueError
            If ``time`` is not real.

        Examples
        --------
        >>> TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01).fast_pdf([0.1, 0.5]).round(4)
        array([0.2413, 0.    ])
        """
        return self._evaluate(self._fast_pdf, None, time, before=0.0, after=0.0)

    def cdf(self, time: ArrayLike) -> FloatArray:
        """Probability of t_G ≤ t, atoms included; continuous from the right.

        Parameters
        ----------
        time
            t, any shape that broadcasts with the parameters.

        Returns
        -------
        probability
            Relative accuracy 1e-11 before t_a, absolute after it.

        Raises
        ------
        ValueError
            If ``time`` is not real.

        Examples
        --------
        >>> TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01).cdf([0.0, 0.1, 1.0]).round(4)
        array([0.0289, 0.0506, 1.    ])
        """
        return self._evaluate(self._early_cdf, self._late_cdf, time, before=0.0, after=1.0)

    def sf(self, time: ArrayLike) -> FloatArray:
        """Probability of t_G > t, atoms included; relative accuracy 1e-11 unless it is below 1e-18.

        Parameters
        ----------
        time
            t, any shape that broadcasts with the parameters.

        Returns
        -------
        probability

        Raises
        ------
        ValueError
            If ``time`` is not real.

        Examples
        --------
        >>> TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01).sf([0.0, 0.1, 1.0]).round(4)
        array([0.9711, 0.9494, 0.    ])
        """
        return self._evaluate(self._early_sf, self._late_sf, time, before=1.0, after=0.0)

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Smallest t with Pr(t_G ≤ t) ≥ probability, by bisection: the cdf may be all but vertical.

        Parameters
        ----------
        probability
            Between 0 and 1, any shape that broadcasts with the parameters.

        Returns
        -------
        time

        Raises
        ------
        ValueError
            If ``probability`` is outside [0, 1].

        Examples
        --------
        >>> TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01).resolve().ppf([0.01, 0.05, 0.5]).round(4)
        array([0.   , 0.088, 0.941])
        """
        wanted = real_array("probability", probability, minimum=0.0, maximum=1.0)
        end = self._end
        common_shape(probability=wanted, parameters=end)
        high = np.broadcast_to(end, np.broadcast_shapes(wanted.shape, end.shape)).copy()
        low = np.zeros_like(high)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            reached = self.cdf(middle) >= wanted
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return np.where(self.zero_weight >= wanted, 0.0, high)[()]

    def mean(self) -> FloatArray:
        """Expectation of t_G, atoms included."""
        shift, _ = self._about_peak()
        return (self._rates.peak_time + shift)[()]

    def std(self) -> FloatArray:
        """Standard deviation of t_G, atoms included."""
        shift, square = self._about_peak()
        return np.sqrt(square - shift**2)[()]

    def rvs(self, size: int | tuple[int, ...] | None, rng: np.random.Generator | int) -> FloatArray:
        """Grokking times of random initial weights, each from its own flow.

        Parameters
        ----------
        size
            Shape of the result; it must end in the shape of the parameters.  None: that shape.
        rng
            Generator or seed.

        Returns
        -------
        time

        Raises
        ------
        ValueError
            If ``size`` is not such a shape, or ``rng`` is neither a generator nor a seed.

        Examples
        --------
        >>> TwoModeLaw(dimension=5, class_gap=2.0, l2=0.01).rvs(4, rng=1).round(4)
        array([0.941, 0.941, 0.941, 0.941])
        """
        generator_ = generator("rng", rng)
        rates = self._rates
        shape = full_shape(size, rates.gap.shape)
        across = np.sqrt(generator_.chisquare(self.dimension - 1, shape))
        along = generator_.standard_normal(shape)
        train, test = zero_times(rates, along, across)
        time = np.maximum(test - train, 0.0)
        if not self.resolved:
            time = np.where(across > _UNIT_RADIUS, rates.peak_time, time)
        return time[()]

    # --- private ---

    @property
    def _rates(self) -> Rates:
        gap, l2 = np.broadcast_arrays(np.asarray(self.class_gap), np.asarray(self.l2))
        return Rates(gap, l2 + 1 / (self.dimension + 2), self.dimension)

    @property
    def _atom_weight(self) -> float:
        return 0.0 if self.resolved else float(self._chi_sf(np.asarray(_UNIT_RADIUS)))

    @property
    def _cap(self) -> FloatArray:
        """Largest ρ that the branches have to cover."""
        return np.asarray(np.inf if self.resolved else _UNIT_RADIUS)

    @property
    def _end(self) -> FloatArray:
        """End of the support, or of what shows of it."""
        return late_end(self._rates) if self.resolved else self._rates.peak_time

    def _evaluate(
        self, early: Quantity, late: Quantity | None, time: ArrayLike, *, before: float, after: float
    ) -> FloatArray:
        """``early`` for 0 ≤ t < t_a, ``late`` from there to the end of the support; both get columns of times."""
        t = real_array("time", time, infinite=True)
        common_shape(time=t, parameters=self._rates.gap)
        t, gap, slow, end = np.broadcast_arrays(t, self._rates.gap, self._rates.slow, self._end)
        peak = Rates(gap, slow, self.dimension).peak_time
        result = np.where(t < 0, before, after)
        for quantity, chosen in ((early, (t >= 0) & (t < peak)), (late, (t >= peak) & (t < end))):
            if quantity is not None:
                columns = (array[chosen][:, None] for array in (gap, slow, t))
                result[chosen] = _in_blocks(quantity, self.dimension, *columns)
        return result[()]

    def _early_pdf(self, rates: Rates, time: FloatArray) -> FloatArray:
        branches, _, _ = early_branches(rates, time, self._cap)
        return _total(self._flux, branches)

    def _fast_pdf(self, rates: Rates, time: FloatArray) -> FloatArray:
        branches, _, _ = early_branches(rates, time, rates.fast_end)
        return _total(self._flux, branches)

    def _late_pdf(self, rates: Rates, time: FloatArray) -> FloatArray:
        return _total(self._flux, late_branches(rates, _past_peak(rates, time)))

    def _early_sf(self, rates: Rates, time: FloatArray) -> FloatArray:
        if not self.resolved:
            return 1 - self._early_cdf(rates, time)  # at least the atom: nothing cancels
        branches, _, _ = early_branches(rates, time, self._cap)
        return _total(self._mass, branches)

    def _late_sf(self, rates: Rates, time: FloatArray) -> FloatArray:
        return _total(self._mass, late_branches(rates, _past_peak(rates, time)))

    def _early_cdf(self, rates: Rates, time: FloatArray) -> FloatArray:
        branches, left, right = early_branches(rates, time, self._cap)
        below = _total(self._mass_below, branches)
        # Beyond the branches every ρ < cap has t_G ≤ t; with cap = ∞ there is no beyond.
        outside = special.ndtr(left) + special.ndtr(-right)
        return below + (self._chi_cdf(self._cap) * outside)[:, 0]

    def _late_cdf(self, rates: Rates, time: FloatArray) -> FloatArray:
        return 1 - self._late_sf(rates, time)

    def _flux(self, branch: Branch) -> FloatArray:
        """Probability per unit time that leaves t_G > t through the ends of the intervals of ρ."""

        def density(d: FloatArray) -> FloatArray:
            low, speed = branch.low(d)
            leaving = chi_density(low, self.dimension - 1) * speed
            if branch.high is None:
                return leaving
            high, speed = branch.high(d)
            return leaving - chi_density(high, self.dimension - 1) * speed

        return branch.average(density)

    def _mass(self, branch: Branch) -> FloatArray:
        """Probability of the intervals of ρ."""

        def inside(d: FloatArray) -> FloatArray:
            low, _ = branch.low(d)
            return self._chi_sf(low) if branch.width is None else self._between(low, branch.width(d))

        return branch.average(inside)

    def _between(self, low: FloatArray, width: FloatArray) -> FloatArray:
        """Probability of low < ρ < low e^width, also where the two are all but equal."""
        freedom, width = self.dimension - 1, np.maximum(width, 0.0)
        probability = np.empty_like(low)
        narrow = width * (freedom + low**2) < 1  # the density of ln ρ changes by less than a factor e
        wide = low[~narrow]
        probability[~narrow] = self._chi_sf(wide) - self._chi_sf(wide * np.exp(width[~narrow]))
        radius = low[narrow, None] * np.exp(width[narrow, None] * _NODES)
        probability[narrow] = width[narrow] * ((radius * chi_density(radius, freedom)) @ _WEIGHTS)
        return probability

    def _mass_below(self, branch: Branch) -> FloatArray:
        """Probability of the ρ below the intervals."""
        return branch.average(lambda d: self._chi_cdf(branch.low(d)[0]))

    def _about_peak(self) -> tuple[FloatArray, FloatArray]:
        """E[t_G − t_a] and E[(t_G − t_a)²], integrals of cdf before t_a and of sf after it, split at their bends."""
        rates = self._rates
        peak, bend = rates.peak_time, np.log(rates.widest) / rates.slow
        before = (np.zeros_like(peak), np.maximum(peak - bend, 0.0), peak)
        after = (peak, np.minimum(peak + bend, self._end), self._end)
        law = replace(self, class_gap=rates.gap[..., None], l2=np.broadcast_to(self.l2, peak.shape)[..., None])
        early, late = np.zeros((2, 2, *peak.shape))
        for start, stop in pairwise(before):
            early = early + self._stretch(law.cdf, start, stop - start, early)
        for start, stop in pairwise(after):
            late = late + self._stretch(law.sf, start, np.maximum(stop - start, 0.0), early)
        return late[0] - early[0], late[1] + early[1]

    def _stretch(
        self, probability: Callable[[FloatArray], FloatArray], start: FloatArray, length: FloatArray, scale: FloatArray
    ) -> FloatArray:
        """Integrals of the probability and of 2|t − t_a| times it over a stretch of time; what matters is ``scale``."""
        if not length.any():
            return np.zeros((2, *length.shape))
        start, length, peak = start[..., None], length[..., None], self._rates.peak_time[..., None]

        def integrand(x: FloatArray, _: FloatArray) -> FloatArray:
            time = start + length * x
            values = length * probability(time)
            return np.stack([values, 2 * np.abs(time - peak) * values])

        return integrate_unit(integrand, rtol=_MOMENT_RTOL, atol=_MOMENT_RTOL * scale)[0]

    def _chi2_cdf(self, square: FloatArray) -> FloatArray:
        return special.gammainc((self.dimension - 1) / 2, square / 2)

    def _chi_cdf(self, radius: FloatArray) -> FloatArray:
        return self._chi2_cdf(radius**2)

    def _chi_sf(self, radius: FloatArray) -> FloatArray:
        return special.gammaincc((self.dimension - 1) / 2, radius**2 / 2)


def chi_density(radius: FloatArray, freedom: int) -> FloatArray:
    """Density of the length of ``freedom`` standard normal variables."""
    half = freedom / 2
    norm = (half - 1) * np.log(2) + special.gammaln(half)
    return np.exp(special.xlogy(freedom - 1, radius) - radius**2 / 2 - norm)


def _total(quantity: Callable[[Branch], FloatArray], branches: list[Branch]) -> FloatArray:
    """Sum over the branches, one number for each time."""
    return np.sum([quantity(branch) for branch in branches], axis=0)


def _past_peak(rates: Rates, time: FloatArray) -> FloatArray:
    """The next number after t_a for t_a itself, where the radius R = 1 is no coordinate."""
    return np.maximum(time, np.nextafter(rates.peak_time, np.inf))


def _in_blocks(quantity: Quantity, dimension: int, gap: FloatArray, slow: FloatArray, time: FloatArray) -> FloatArray:
    """Values of shape (n,) for columns of shape (n, 1), a bounded number of rows at a time."""
    values = np.empty(len(time))
    for start in range(0, len(values), _BLOCK):
        rows = slice(start, start + _BLOCK)
        values[rows] = quantity(Rates(gap[rows], slow[rows], dimension), time[rows])
    return values
