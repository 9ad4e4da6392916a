"""One-dimensional exponential model of grokking: exact flow, errors, zero-error times, probability.

Object: inputs x with label y = ±1, y x = ε + Exp(1); the student is f(x) = sgn(x − b) (Eq. 3) and its bias b
follows the gradient flow of Eq. 5,

    db/dt = mean(x − y) − λ₁ sgn(b) − (1+λ₂) b.

Conventions: time is in units of the flow; a balanced set has mean(x − y) = x̄, the mean of all 2N inputs.
The test error is that of both classes together (Eq. 7), 0 for |b| ≤ ε, and a positive sample at x = b counts
as correct: times are entrances into closed intervals. At b = 0 the flow is a differential inclusion: it
rests there while |x̄| ≤ λ₁. Samples x̄ = (G − G′)/2N with G, G′ ~ Gamma(N, 1): the gap drops out of the mean
of a balanced set.

Everything here is exact. Where b(∞) lies on the edge of an interval, the edge is reached only
asymptotically, hence at time inf, unless λ₁ brings b to rest there. Eqs. 6, 7 and 8 as printed fail after b
has changed its sign, for b < −ε, and for λ₂ > 0; the corrected forms are used.

Reference: Žunkovič & Ilievski 2024, Sec. 3.2, Eqs. 3-17, Figs. 2-5.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from grokphase._checks import FloatArray, choice, generator, integer, integers, labels_pm1, real, real_array
from grokphase.solvable._gamma_difference import gamma_difference_probability
from grokphase.solvable._parameters import common_shape, full_shape, store_parameters
from grokphase.solvable.exponential_time import GrokkingTimeLaw

__all__ = ["ExponentialModel"]

Which = Literal["first", "final"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExponentialModel:
    """Linear student on exponentially distributed inputs in one dimension (Sec. 3.2).

    The parameters may be arrays; methods broadcast their arguments with them.

    Parameters
    ----------
    class_gap
        ε ≥ 0, half the distance between the classes.
    l1, l2
        λ₁, λ₂ ≥ 0, regularisation strengths of the penalty λ₁|b| + λ₂b²/2.

    Raises
    ------
    ValueError
        If a parameter is not a real number ≥ 0 or the shapes do not broadcast.

    Examples
    --------
    >>> m = ExponentialModel(class_gap=0.4, l1=0.0, l2=0.1)
    >>> print(round(m.effective_gap, 2), round(m.grokking_probability(10), 4))
    0.44 0.9485
    >>> print(round(m.zero_test_time(initial=2.0, mean=0.1), 4))
    1.6552
    """

    class_gap: float | FloatArray
    l1: float | FloatArray = 0.0
    l2: float | FloatArray = 0.0
    effective_gap: float | FloatArray = field(init=False, repr=False)
    """Effective gap ε_λ = ε(1+λ₂) + λ₁ (Eq. 10)."""

    exponent: ClassVar[float] = 1.0
    """Exponent ν of the test error at the transition (Eq. 9), whatever the parameters."""

    def __post_init__(self) -> None:
        gap, l1, l2 = (real_array(name, getattr(self, name), minimum=0.0) for name in ("class_gap", "l1", "l2"))
        store_parameters(self, class_gap=gap, l1=l1, l2=l2)
        with np.errstate(over="ignore"):
            effective_gap = np.asarray(gap * (1 + l2) + l1)
        if np.isinf(effective_gap).any():
            raise ValueError("class_gap, l1 and l2 must be smaller: class_gap * (1 + l2) + l1 overflows")
        store_parameters(self, effective_gap=effective_gap)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExponentialModel) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        values = (np.asarray(value) for value in (self.class_gap, self.l1, self.l2))
        return tuple((value.shape, value.tobytes()) for value in values)

    @property
    def prefactor(self) -> float | FloatArray:
        """Slope ε_λ/2 of the test error in t_ε − t, a mean over data with zero final error (Eq. 10)."""
        return self.effective_gap / 2

    def bias(self, time: ArrayLike, initial: ArrayLike, mean: ArrayLike) -> FloatArray:
        """Bias b(t) of the student, exact through sign changes and rests at 0.

        Parameters
        ----------
        time
            t ≥ 0; infinity gives the stationary bias.
        initial
            b(0), any sign.
        mean
            x̄, mean of all 2N inputs of a balanced training set.

        Returns
        -------
        float or ndarray
            Broadcast of the arguments and the parameters.

        Raises
        ------
        ValueError
            If an argument is not real or ``time`` is negative.

        Notes
        -----
        Eq. 6, restarted where b = 0: with x̄_λ = (x̄ − λ₁ sgn b(0))/(1+λ₂) of the sign opposite to b(0), the
        zero is at t₀ = ln(1 − b(0)/x̄_λ)/(1+λ₂); then b = (1 − e^{−(1+λ₂)(t−t₀)}) sgn(x̄) max(|x̄|−λ₁,
        0)/(1+λ₂).

        Examples
        --------
        >>> m = ExponentialModel(class_gap=0.1, l1=0.1, l2=0.5)
        >>> print(round(m.bias(1.2, initial=1.2, mean=-0.6), 6), m.bias(3.0, initial=1.2, mean=-0.06))
        -0.136549 0.0
        """
        t = real_array("time", time, minimum=0.0, infinite=True)
        b0, mean = real_array("initial", initial), real_array("mean", mean)
        shape = common_shape(time=t, initial=b0, mean=mean, parameters=self.effective_gap)
        rate, pull = 1 + self.l2, mean - self.l1 * np.sign(b0)
        zero = np.where(b0 == 0, 0.0, self._leg(b0, np.zeros(()), pull))
        changed = (t >= zero) & np.isfinite(zero)
        since = np.where(changed, t, 0.0) - np.where(changed, zero, 0.0)
        with np.errstate(over="ignore"):  # e^{−∞} is what such late times need
            before = b0 * np.exp(-rate * t) - pull / rate * np.expm1(-rate * t)
            after = _shrink(mean, self.l1) / rate * -np.expm1(-rate * since)
        return np.where(np.broadcast_to(changed, shape), after, before)[()]

    def test_error(self, bias: ArrayLike) -> FloatArray:
        """Probability that a fresh example of either class is misclassified.

        Parameters
        ----------
        bias
            b, any real number or ±inf.

        Returns
        -------
        float or ndarray
            Broadcast of ``bias`` and ``class_gap``.

        Notes
        -----
        Eq. 7 for both classes: E = (1 − e^{ε − |b|})/2 for |b| > ε, else 0.

        Examples
        --------
        >>> m = ExponentialModel(class_gap=0.5)
        >>> print(m.test_error([-0.5, 0.2]), round(m.test_error(-1.5), 4))
        [0. 0.] 0.3161
        """
        bias = real_array("bias", bias, infinite=True)
        common_shape(bias=bias, class_gap=self.class_gap)
        excess = np.maximum(np.abs(bias) - self.class_gap, 0.0)
        return -np.expm1(-excess)[()] / 2

    def zero_test_time(self, initial: ArrayLike, mean: ArrayLike, which: Which = "final") -> FloatArray:
        """Time t_ε at which the test error becomes zero.

        Parameters
        ----------
        initial
            b(0).
        mean
            x̄, mean of all 2N inputs of a balanced training set.
        which
            ``"first"``: zero for the first time. ``"final"``: zero for good.

        Returns
        -------
        float or ndarray
            0 if the error is zero from the start, inf if it never is (or, for ``"final"``, does not stay so).

        Notes
        -----
        Eq. 8 with the factor 1/(1+λ₂) that its print lacks. The flow is monotone: it enters |b| ≤ ε at most
        once.

        Examples
        --------
        >>> m = ExponentialModel(class_gap=0.3, l1=0.05, l2=0.5)
        >>> print(round(m.zero_test_time(initial=2.0, mean=0.1), 3))
        1.332
        >>> print(m.zero_test_time(0.0, 0.9), m.zero_test_time(0.0, 0.9, which="first"))
        inf 0.0
        """
        b0, mean = real_array("initial", initial), real_array("mean", mean)
        common_shape(initial=b0, mean=mean, parameters=self.effective_gap)
        gap = np.asarray(self.class_gap)
        return self._entrance(b0, mean, -gap, gap, which)

    def zero_train_time(
        self, initial: ArrayLike, inputs: ArrayLike, labels: ArrayLike, which: Which = "final"
    ) -> FloatArray:
        """Time at which every sample of a training set is classified correctly.

        Parameters
        ----------
        initial
            b(0).
        inputs, labels
            Training sets along the last axis; labels are ±1. The set need not be balanced, and one class may
            be missing.
        which
            ``"first"``: zero train error for the first time. ``"final"``: for good.

        Returns
        -------
        float or ndarray
            Broadcast of ``initial``, the parameters and the leading axes; inf as in :meth:`zero_test_time`.

        Examples
        --------
        >>> m = ExponentialModel(class_gap=0.3)
        >>> print(round(m.zero_train_time(2.0, [0.9, 1.5, -0.4, -1.0], [1, 1, -1, -1]), 4))
        0.9904
        """
        labels = labels_pm1("labels", labels)
        inputs = real_array("inputs", inputs, ndim=1)
        if not inputs.shape[-1] or inputs.shape[-1] != labels.shape[-1]:
            raise ValueError(
                "inputs and labels must hold the same number of samples, at least one; "
                f"got shapes {inputs.shape} and {labels.shape}"
            )
        b0 = real_array("initial", initial)
        sets = common_shape(inputs=inputs, labels=labels)[:-1]
        common_shape(initial=b0, training_sets=np.empty(sets), parameters=self.effective_gap)
        lowest_positive = np.where(labels > 0, inputs, np.inf).min(axis=-1)
        highest_negative = np.where(labels < 0, inputs, -np.inf).max(axis=-1)
        return self._entrance(b0, (inputs - labels).mean(axis=-1), highest_negative, lowest_positive, which)

    def sample(
        self,
        samples_per_class: int,
        rng: np.random.Generator | int,
        shift: float = 0.0,
        size: int | tuple[int, ...] | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Balanced training sets: N positive samples first, then N negative ones.

        Parameters
        ----------
        samples_per_class
            N ≥ 1.
        rng
            Generator or seed.
        shift
            All samples are moved away from the origin by this much: the non-typical sets of Fig. 3.
        size
            Leading shape of the draw; None is the shape of the parameters (one set for a model with scalar
            parameters).

        Returns
        -------
        inputs, labels : ndarray
            Both of shape size + (2N,).

        Examples
        --------
        >>> inputs, labels = ExponentialModel(class_gap=1.0).sample(3, rng=0, shift=5.0)
        >>> print(labels, bool((inputs * labels >= 6).all()))
        [ 1.  1.  1. -1. -1. -1.] True
        """
        n, rng, shift = (
            integer("samples_per_class", samples_per_class, minimum=1),
            generator("rng", rng),
            real("shift", shift),
        )
        lead = full_shape(size, np.shape(self.effective_gap))
        labels = np.broadcast_to(np.repeat([1.0, -1.0], n), (*lead, 2 * n)).copy()
        distance = np.asarray(self.class_gap)[..., None] + shift + rng.standard_exponential((*lead, 2 * n))
        return labels * distance, labels

    def grokking_probability(self, samples_per_class: ArrayLike, complement: bool = False) -> FloatArray:
        """Probability that training on 2N random samples ends with zero test error.

        Parameters
        ----------
        samples_per_class
            N, integers from 1 to 10^9; broadcasts with the parameters.
        complement
            Return 1 − P instead, with its own full relative accuracy.

        Notes
        -----
        P = Pr(|x̄| < ε_λ) = Pr(|G − G′| < 2Nε_λ), Eqs. 11-14. Both tails have a relative error below 1e-12
        down to 1e-250.

        Examples
        --------
        >>> m = ExponentialModel(class_gap=0.4)
        >>> print(round(m.grokking_probability(2), 6), round(1 - 1.8 * np.exp(-1.6), 6))  # Eq. 15
        0.636586 0.636586
        >>> print(f"{m.grokking_probability(1000, complement=True):.5g}")
        5.9239e-67
        """
        n = integers("samples_per_class", samples_per_class, minimum=1)
        common_shape(samples_per_class=n, parameters=self.effective_gap)
        return gamma_difference_probability(n, 2.0 * n * self.effective_gap, upper=bool(complement))[()]

    def grokking_time(self, samples_per_class: int) -> GrokkingTimeLaw:
        """Law of the grokking time t_G, given zero test error for good and b(0) above every positive sample.

        Parameters
        ----------
        samples_per_class
            N ≥ 1, a single integer.

        Returns
        -------
        GrokkingTimeLaw
            With pdf, logpdf, cdf, sf, ppf, mean, std, rvs(size, rng).

        Raises
        ------
        ValueError
            If the effective gap is 0: zero test error then has probability 0.

        Examples
        --------
        >>> law = ExponentialModel(class_gap=0.2, l1=0.1, l2=0.5).grokking_time(3)
        >>> print(round(law.mean(), 5))
        0.57562
        """
        return GrokkingTimeLaw(samples_per_class, self.effective_gap, self.l2)

    def _entrance(
        self, b0: FloatArray, mean: FloatArray, low: FloatArray, high: FloatArray, which: Which
    ) -> FloatArray:
        """Time at which the flow enters [low, high], for the first time or for good; inf if never."""
        choice("which", which, ("first", "final"))
        edge = np.clip(b0, low, high)
        entrance = np.where(edge == b0, 0.0, self._passage(b0, edge, mean))
        possible = low <= high
        if which == "final":
            # b(∞) within the interval, multiplied by 1 + λ₂: no quotient can round to the wrong side.
            limit, rate = _shrink(mean, self.l1), 1 + self.l2
            possible = possible & (limit >= rate * low) & (limit <= rate * high)
        return np.where(possible, entrance, np.inf)[()]

    def _passage(self, b0: FloatArray, target: FloatArray, mean: FloatArray) -> FloatArray:
        """Time at which the flow from b0 passes ``target``; inf if it never does."""
        same_side = b0 * np.sign(target) > 0
        turning = np.where(same_side, target, 0.0)
        to_zero = np.where(b0 == 0, 0.0, self._leg(b0, turning, mean - self.l1 * np.sign(b0)))
        onwards = self._leg(np.zeros(()), target, _shrink(mean, self.l1))
        return to_zero + np.where(same_side | (target == 0), 0.0, onwards)

    def _leg(self, start: FloatArray, stop: FloatArray, pull: FloatArray) -> FloatArray:
        """Time from start to stop under db/dt = pull − (1+λ₂) b; inf if the flow does not get there."""
        rate = 1 + self.l2
        remaining = rate * stop - pull
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            gained = np.log1p(rate * ((start - stop) / remaining)) / rate
        return np.where((start - stop) * np.sign(remaining) > 0, gained, np.inf)


def _shrink(value: FloatArray, threshold: float | FloatArray) -> FloatArray:
    """Soft threshold: sgn(v) max(|v| − threshold, 0)."""
    return np.sign(value) * np.maximum(np.abs(value) - threshold, 0.0) + 0.0  # no -0.0
