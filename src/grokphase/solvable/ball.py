r"""Ball model: a linear student without bias separates two unit balls in D dimensions.

Positive inputs are uniform in the unit ball around +ε e₁, negative ones around −ε e₁ (Fig. 6).  The
student answers sgn(w·x); its test error depends on w only through h = ε w₁/|w|, the distance of the plane
from the ball's centre,

    E(h) = ½ I_{1−h²}((D+1)/2, ½) for 0 ≤ h ≤ 1,    E(h) = 1 − E(−h) for h < 0,    E = 0 beyond h = 1,

with I the regularised incomplete beta function (Eq. 22).  Near h = 1, E ∝ (1 − h)^ν, ν = (D+1)/2 (Eq. 23).

Conventions: labels are ±1, the first N samples of a set are positive; the loss is Eq. 19 with penalty
λ₁|w|₁ + ½λ₂|w|².  D = 1 is allowed: the balls are intervals and nothing lies across.

Exact: test error, sampling, Monte Carlo (within its standard error).  Approximate: the first-order grokking
probability, see :mod:`grokphase.solvable.ball_probability`, and the two-mode law of the grokking time, see
:mod:`grokphase.solvable.two_mode`.

References: Žunkovič & Ilievski 2024, Sec. 3.3, Eqs. 18–34, Appendix B; corrected as in ERRATA.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from grokphase._checks import FloatArray, choice, generator, integer, integers, real, real_array
from grokphase.solvable._parameters import common_shape, full_shape, store_parameters
from grokphase.solvable.ball_probability import (
    BallParameters,
    first_order,
    lower_bound,
    monte_carlo,
    uniform_ball,
)

if TYPE_CHECKING:
    from grokphase.solvable.two_mode import TwoModeLaw

__all__ = ["BallModel", "cap_fraction"]

_LARGEST = 1e100  # squares of the parameters stay finite
_DEFAULT_TRIALS = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class BallModel:
    """Linear student between two unit balls centred at ±ε e₁.

    Parameters
    ----------
    dimension
        D ≥ 1.
    class_gap
        ε ≥ 0, distance of each ball's centre from the origin, in ball radii; the classes are separable
        for ε ≥ 1.
    l1, l2
        Regularisation strengths λ₁, λ₂ ≥ 0.

    ``class_gap``, ``l1`` and ``l2`` may be arrays; every method broadcasts over them.

    Raises
    ------
    ValueError
        If a parameter is out of range or the arrays do not broadcast.

    Examples
    --------
    >>> model = BallModel(dimension=5, class_gap=1.2, l2=0.1)
    >>> round(float(model.grokking_probability(10)), 4)
    0.9998
    >>> model.exponent
    3.0
    """

    dimension: int
    class_gap: float | FloatArray
    l1: float | FloatArray = 0.0
    l2: float | FloatArray = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", integer("dimension", self.dimension, minimum=1))
        names = ("class_gap", "l1", "l2")
        store_parameters(
            self, **{name: real_array(name, getattr(self, name), minimum=0.0, maximum=_LARGEST) for name in names}
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BallModel) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[object, ...]:
        values = (np.asarray(value) for value in (self.class_gap, self.l1, self.l2))
        return self.dimension, *((value.shape, value.tobytes()) for value in values)

    @property
    def exponent(self) -> float:
        """Critical exponent ν = (D + 1)/2 of the test error (Eq. 23)."""
        return (self.dimension + 1) / 2

    def test_error_at(self, h: ArrayLike) -> FloatArray:
        """Exact test error as a function of the distance h of the plane from the ball's centre (Eq. 22).

        Parameters
        ----------
        h
            h = ε w₁/|w|, any real number; negative where the plane is on the wrong side.

        Returns
        -------
        error
            Fraction of misclassified inputs, shape of ``h``; relative error below 1e-12 for any h < 1.

        Raises
        ------
        ValueError
            If ``h`` is not real.

        Examples
        --------
        >>> BallModel(dimension=3, class_gap=1.0).test_error_at([-2.0, -0.5, 0.0, 0.5, 1.0])
        array([1.     , 0.84375, 0.5    , 0.15625, 0.     ])
        """
        h = real_array("h", h, infinite=True)
        size = np.minimum(np.abs(h), 1.0)
        return self._cap(size**2, (1 - size) * (1 + size), h < 0)

    def test_error(self, weights: ArrayLike) -> FloatArray:
        """Exact test error of a student with given weights (Eqs. 18, 22).

        Parameters
        ----------
        weights
            w, shape (..., D); only its direction matters.  The leading dimensions broadcast with
            ``class_gap``.

        Returns
        -------
        error
            Shape (...).  A student with w = 0 answers nothing, which counts as error 1.

        Raises
        ------
        ValueError
            If the last dimension of ``weights`` is not D, or a weight is not finite.

        Notes
        -----
        1 − h² = (|w⊥|² − (ε² − 1) w₁²)/|w|², which is rounded by a few 1e-16 (absolute), as are the weights.

        Examples
        --------
        >>> BallModel(dimension=2, class_gap=1.25).test_error([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        array([0. , 0.5, 1. ])
        """
        w = self._weights(weights)
        eps = np.asarray(self.class_gap)
        largest = np.abs(w).max(axis=-1)
        zero = largest == 0
        w = w / np.where(zero, 1.0, largest)[..., None]
        along, across = w[..., 0] ** 2, (w[..., 1:] ** 2).sum(axis=-1)
        norm = np.where(zero, 1.0, along + across)
        gap = across - (eps - 1) * (eps + 1) * along
        h_squared = np.minimum(eps**2 * along / norm, 1.0)
        error = self._cap(h_squared, np.clip(gap / norm, 0.0, 1.0), w[..., 0] < 0)
        return np.where(zero, 1.0, error)[()]

    def sample(
        self,
        samples_per_class: int,
        rng: np.random.Generator | int,
        shift: float = 0.0,
        inner: float = 0.0,
        size: int | tuple[int, ...] | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Draw training sets, typical or not (Sec. 3.3.1).

        Parameters
        ----------
        samples_per_class
            N; the first N inputs are positive, the last N negative.
        rng
            Generator or seed.
        shift
            Before a direction is normalised, its Gaussian is moved by ±``shift`` along axis 1 (the axis
            of the classes) and along axis 2, + for positive samples.  0 gives isotropic directions.
        inner
            Smallest distance from the ball's centre, 0 ≤ inner < 1; distances are drawn by volume above it.
        size
            Shape of a batch of training sets; it must end in the shape of ``class_gap``.  ``None``: that shape.

        Returns
        -------
        inputs, labels
            Shapes (*size, 2N, D) and (*size, 2N).

        Raises
        ------
        ValueError
            If an argument is out of range.

        Notes
        -----
        With ``shift = inner = 0`` points are uniform in the ball: radius U^(1/D).  The paper's radius √U with
        U on (r₀, 1) is uniform only for D = 2; its r₀ = 0.8 of Fig. 7 means distances above 0.8^½ = 0.894.

        Examples
        --------
        >>> inputs, labels = BallModel(dimension=128, class_gap=1.2).sample(10, 0, shift=10.0, inner=0.8)
        >>> inputs.shape, labels.shape, labels[0]
        ((20, 128), (20,), np.float64(1.0))
        """
        num = integer("samples_per_class", samples_per_class, minimum=1)
        generate = generator("rng", rng)
        shift = real("shift", shift)
        inner = real("inner", inner, minimum=0.0)
        if inner >= 1:
            raise ValueError(f"inner must be below 1, the radius of the ball, got {inner:g}")
        gap = np.asarray(self.class_gap)
        batch = full_shape(size, gap.shape)
        labels = np.repeat([1.0, -1.0], num)
        offset = shift * labels[:, None] * (np.arange(self.dimension) < 2)
        inputs = uniform_ball(generate, (*batch, 2 * num), self.dimension, offset, inner)
        inputs[..., 0] += gap[..., None] * labels
        return inputs, np.broadcast_to(labels, inputs.shape[:-1]).copy()

    @overload
    def grokking_probability(
        self, samples_per_class: ArrayLike, method: Literal["first-order", "lower-bound"] = "first-order"
    ) -> FloatArray: ...

    @overload
    def grokking_probability(
        self,
        samples_per_class: ArrayLike,
        method: Literal["monte-carlo"],
        *,
        trials: int | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> tuple[FloatArray, FloatArray]: ...

    def grokking_probability(
        self,
        samples_per_class: ArrayLike,
        method: str = "first-order",
        *,
        trials: int | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Probability that a training set leads to zero test error.

        Parameters
        ----------
        samples_per_class
            N ≥ 1; broadcasts with the parameters of the model.
        method
            ``"first-order"``: large-N theory, Appendix B corrected, λ₁ kept to first order.
            ``"lower-bound"``: Eq. 33, all weights across at rest; a lower bound of the large-N theory for
            any λ₂. ``"monte-carlo"``: exact stationary weights of drawn training sets.
        trials
            Monte Carlo only: number of training sets, 10 000 unless given.
        rng
            Monte Carlo only, and needed there: generator or seed.

        Returns
        -------
        probability
            Or, for Monte Carlo, the pair (estimate, standard error).

        Raises
        ------
        ValueError
            If an argument is out of range, or ``trials`` or ``rng`` is given to another method.

        Notes
        -----
        Zero test error means w₁ > 0 and |w⊥|² ≤ (ε² − 1) w₁²; it is impossible for ε < 1, and at ε = 1 it
        needs w⊥ = 0, which only L1 can give.  The standard error is the spread of the posterior of the
        probability after Jeffreys' prior, √(p(1−p)/(trials+2)) with p = (hits + ½)/(trials + 1): it stays
        above zero when no set, or every set, succeeds (then 0.7/trials; the true value is within 3/trials
        with 95 % confidence).  With 2N < D, λ₁ = λ₂ = 0 the weights of least norm are taken.

        Examples
        --------
        >>> model = BallModel(dimension=5, class_gap=1.01, l2=3.0)
        >>> model.grokking_probability([5, 10, 20]).round(4)
        array([0.1606, 0.4149, 0.7741])
        >>> estimate, stderr = model.grokking_probability(10, "monte-carlo", trials=2000, rng=1)
        >>> bool(abs(estimate - 0.4073) < 4 * stderr)
        True
        """
        method = choice("method", method, ("first-order", "lower-bound", "monte-carlo"))
        samples = integers("samples_per_class", samples_per_class, minimum=1).astype(np.float64)
        common_shape(class_gap=self.class_gap, l1=self.l1, l2=self.l2, samples_per_class=samples)
        if method == "monte-carlo":
            num = _DEFAULT_TRIALS if trials is None else integer("trials", trials, minimum=1)
            estimate, stderr = monte_carlo(self._parameters, samples, num, generator("rng", rng))
            return estimate[()], stderr[()]
        if trials is not None or rng is not None:
            raise ValueError(f"trials and rng belong to method='monte-carlo', got method={method!r}")
        law = first_order if method == "first-order" else lower_bound
        return law(self._parameters, samples)[()]

    def grokking_time(self) -> "TwoModeLaw":
        """Law of the grokking time of the idealised two-mode flow (Sec. 3.3.3, corrected).

        Returns
        -------
        law
            Fast part, middle part and atom; see :class:`grokphase.solvable.two_mode.TwoModeLaw`.

        Raises
        ------
        ValueError
            If λ₁ > 0, or D < 2, or ε ≤ 1, for which the law does not exist.

        Examples
        --------
        >>> law = BallModel(dimension=5, class_gap=2.0, l2=0.01).grokking_time()
        >>> position, weight = law.atom
        >>> round(float(position), 3), round(float(weight), 3)
        (0.941, 0.91)
        """
        if np.any(np.asarray(self.l1) > 0):
            raise ValueError(f"l1 must be 0 for the two-mode law of the grokking time, got {self.l1}")
        from grokphase.solvable.two_mode import TwoModeLaw  # here, so that probabilities do not load it

        return TwoModeLaw(class_gap=self.class_gap, dimension=self.dimension, l2=self.l2)

    @property
    def _parameters(self) -> BallParameters:
        return BallParameters(self.dimension, *map(np.asarray, (self.class_gap, self.l1, self.l2)))

    def _cap(self, h_squared: FloatArray, complement: FloatArray, wrong_side: np.ndarray) -> FloatArray:
        """Volume fraction of the cap beyond h."""
        cap = cap_fraction((self.dimension + 1) / 2, h_squared, complement)
        return np.where(wrong_side, 1 - cap, cap)[()]

    def _weights(self, weights: ArrayLike) -> FloatArray:
        w = real_array("weights", weights, ndim=1)
        if w.shape[-1] != self.dimension:
            raise ValueError(f"weights must have shape (..., {self.dimension}), got {w.shape}")
        common_shape(class_gap=self.class_gap, **{"weights[..., 0]": w[..., 0]})
        return w


def cap_fraction(half: float, h_squared: ArrayLike, complement: ArrayLike) -> FloatArray:
    """½ I_{1−h²}(half, ½) from both h² and 1 − h², each free of cancellation.

    It is the fraction that a plane at the distance h ≥ 0 from the centre cuts off a unit ball, half = (D+1)/2, or a
    unit sphere, half = (D−1)/2.
    """
    h_squared, complement = np.asarray(h_squared), np.asarray(complement)
    far = h_squared >= 0.5
    cap = np.empty(far.shape)
    cap[far] = special.betainc(half, 0.5, complement[far])
    cap[~far] = special.betaincc(0.5, half, h_squared[~far])
    return cap / 2
