r"""The paper's formulas for the grokking probability of the ball model, as printed and corrected.

All are large-N laws for the chance that w₁ > 0 and |w⊥|² ≤ (ε² − 1) w₁², with L = λ₂ + 1/(D+2), q = L + ε².

========  ====================================  ==============================================================
equation  printed for                           what ``corrected=True`` changes
========  ====================================  ==============================================================
30        λ₁ = 0, N ≫ L ≫ 1                     all terms of order N^(−1/2), in one incomplete gamma function
32        λ₁ > 0, N ≫ L ≫ 1                     1 + ε²/L for 1 + (ε/L)²; R_k the law of squared *excesses*
33        32 without its sum: a lower bound     nothing
86        λ₁ = 0, first order in N^(−1/2)       α₃ = 1/q (Eq. 82); limit *divided* by the variance
89        0 < λ₁ ≪ 1, first order               as 86; √2 in p_λ; R_k the law of squared *excesses*
90        89 without its sum: a lower bound     √2 in both error functions
========  ====================================  ==============================================================

Conventions: with ``corrected=False`` the formula is taken literally, R_k being the law of the sum of k
squared normal variables given that each exceeds the threshold; the result need not be sensible.
Corrected or not, 32, 33, 89 and 90 keep λ₁ out of the coefficients, unlike
:meth:`grokphase.BallModel.grokking_probability`.

Exact: the integrals, to 1e-10 (absolute for the printed R_k).  Where the formulas fail: ERRATA, table of
quality.

References: Žunkovič & Ilievski 2024, Eqs. 30–33 and 82–90, Table 2; ERRATA.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from grokphase._checks import FloatArray, choice, integers
from grokphase.solvable.ball import BallModel
from grokphase.solvable.ball_probability import cone_probability, contour_cdf, gaussian_nodes

__all__ = ["ball_probability"]

_CONTOUR_NODES = 256
_NEVER = 1e3  # a margin of so many standard deviations has probability zero


class Cone(NamedTuple):
    """Zero error as w = margin + g₀ > 0 and Σ_j (|g_j| − threshold)₊² ≤ (slope w)², all g standard normal."""

    margin: FloatArray
    slope: FloatArray
    threshold: FloatArray
    cut: FloatArray
    """The formula's p_λ is erfc(cut/√2); right if equal to the threshold."""


def ball_probability(
    model: BallModel,
    samples_per_class: ArrayLike,
    equation: Literal[30, 32, 33, 86, 89, 90] = 30,
    corrected: bool = True,
    bound: Literal["excess", "chi2"] = "excess",
) -> FloatArray:
    """Grokking probability of the ball model by one of the paper's formulas.

    Parameters
    ----------
    model
        The ball model, ε ≥ 1; Eqs. 30 and 86 need λ₁ = 0.
    samples_per_class
        N ≥ 1; broadcasts with the model's parameters.
    equation
        Number of the equation.
    corrected
        ``False``: literally as printed, even where that is absurd.  ``True``: see the table above.
    bound
        Eqs. 32 and 89 only: law R_k of the k weights that do not rest.  ``"excess"``: the formula's own.
        ``"chi2"``: chi-square with k degrees of freedom instead, the paper's lower estimate.

    Returns
    -------
    probability

    Raises
    ------
    ValueError
        If an argument is out of range, ε < 1, λ₁ > 0 for an equation without it, or ``bound`` is given to
        an equation without R_k.

    Notes
    -----
    Eq. 30 corrected: P = γ((D−1)/2, N(D+2) ε²(ε²−1) / (1 + ε²/(L²(D+4)))), γ regularised.

    Examples
    --------
    >>> model = BallModel(dimension=5, class_gap=1.01, l2=3.0)  # Monte Carlo: 0.409
    >>> print([round(float(ball_probability(model, 10, 30, corrected)), 4) for corrected in (False, True)])
    [0.2005, 0.4147]
    >>> print([round(float(ball_probability(model, 10, 86, corrected)), 4) for corrected in (False, True)])
    [0.0, 0.4149]
    """
    if not isinstance(model, BallModel):
        raise ValueError(f"model must be a BallModel, got {type(model).__name__}")
    choice("equation", equation, (30, 32, 33, 86, 89, 90))
    choice("bound", bound, ("excess", "chi2"))
    if bound == "chi2" and equation not in (32, 89):
        raise ValueError(f"bound='chi2' belongs to equations 32 and 89, got equation={equation}")
    samples = integers("samples_per_class", samples_per_class, minimum=1).astype(np.float64)
    gap, l1 = np.asarray(model.class_gap), np.asarray(model.l1)
    if (gap < 1).any():
        raise ValueError(f"class_gap must be ≥ 1 for the published probabilities, got {model.class_gap}")
    if equation in (30, 86) and (l1 > 0).any():
        raise ValueError(f"l1 must be 0 for equation {equation}, got {model.l1}")

    if equation == 30 and corrected:
        return _one_line(model, samples)[()]
    if equation in (30, 32, 33):
        cone = _strong_ridge(model, samples, printed=equation == 32 and not corrected)
    else:
        cone = _first_order(model, samples, printed=not corrected)
    count = model.dimension - 1
    if equation in (33, 90):
        stretch = 1.0 if corrected or equation == 33 else np.sqrt(2)  # Eq. 90's error function lacks its √2
        return (special.ndtr(stretch * cone.margin) * special.erf(cone.cut / np.sqrt(2)) ** count)[()]
    if bound == "chi2":
        return _mixture(cone, count, _chi_square_given)[()]
    if corrected or equation in (30, 86):
        return cone_probability(cone.margin, cone.slope, cone.threshold, count)[()]
    return _mixture(cone, count, _truncated_given)[()]


def _arrays(model: BallModel, samples: FloatArray) -> tuple[FloatArray, ...]:
    """ε, λ₁, L, q and 2N(D + 2) with a common shape."""
    eps, l1, l2, samples = np.broadcast_arrays(model.class_gap, model.l1, model.l2, samples)
    ridge = l2 + 1 / (model.dimension + 2)
    return eps, l1, ridge, ridge + eps**2, 2 * samples * (model.dimension + 2)


def _one_line(model: BallModel, samples: FloatArray) -> FloatArray:
    """Eqs. 82–86 corrected with w₁ replaced by its mean ε/q."""
    eps, _, ridge, _, precision = _arrays(model, samples)
    noise = 1 + (eps / ridge) ** 2 / (model.dimension + 4)
    limit = precision * eps**2 * (eps - 1) * (eps + 1) / noise
    return _chi_square_cdf(limit, model.dimension - 1)


def _strong_ridge(model: BallModel, samples: FloatArray, printed: bool) -> Cone:
    """Eqs. 30–33: w₁ ∝ x̄₁ + ε − λ₁ and w_j ∝ soft threshold of x̄_j."""
    eps, l1, ridge, _, precision = _arrays(model, samples)
    shrink = 1 + ((eps / ridge) ** 2 if printed else eps**2 / ridge)
    threshold = l1 * np.sqrt(precision)
    return Cone((eps - l1) * np.sqrt(precision), np.sqrt((eps - 1) * (eps + 1)) / shrink, threshold, threshold)


def _first_order(model: BallModel, samples: FloatArray, printed: bool) -> Cone:
    """Eqs. 81–90 with the coefficients of Eq. 82."""
    dim = model.dimension
    eps, l1, ridge, total, precision = _arrays(model, samples)
    alpha1 = 1 / total - 2 * eps**2 / total**2
    alpha2 = -eps / total**2
    alpha3 = 1 / ridge - eps / (ridge * total) if printed else 1 / total
    alpha4 = -eps / (ridge * total)
    beta = eps / total - alpha2 / (dim + 2)
    along = (alpha1**2 + 2 * alpha2**2 * (dim + 1) / ((dim + 2) * (dim + 4))) / precision  # Eq. 84
    across = (alpha3**2 + alpha4**2 / (dim + 4)) / precision  # Eq. 85
    margin = (beta + alpha2 / (dim + 2) - l1 / total) / np.sqrt(along)
    opening = np.sqrt((eps - 1) * (eps + 1) * along)
    slope = opening * np.sqrt(across) if printed else opening / np.sqrt(across)  # Eq. 86
    threshold = l1 / ridge / np.sqrt(across)
    return Cone(margin, slope, threshold, np.sqrt(2) * threshold if printed else threshold)


def _mixture(cone: Cone, count: int, given: Callable[[Cone, int], FloatArray]) -> FloatArray:
    """Sum over the number k of weights that do not rest (Eqs. 32, 89); ``given(cone, k)`` is the integral."""
    resting, active = special.erf(cone.cut / np.sqrt(2)), special.erfc(cone.cut / np.sqrt(2))
    total = resting**count * special.ndtr(cone.margin)
    for k in range(1, count + 1):
        log_choose = -np.log(count + 1) - special.betaln(count - k + 1, k + 1)
        weight = np.exp(log_choose + special.xlogy(k, active) + special.xlogy(count - k, resting))
        total = total + weight * given(cone, k)
    return total


def _chi_square_given(cone: Cone, k: int) -> FloatArray:
    nodes, weights = gaussian_nodes(cone.margin, k)
    limit = (cone.slope[..., None] * (cone.margin[..., None] + nodes)) ** 2
    return (weights * _chi_square_cdf(limit, k)).sum(-1)


def _truncated_given(cone: Cone, k: int) -> FloatArray:
    """R_k as printed: k squared normal variables, each given to exceed the threshold."""
    with np.errstate(divide="ignore"):  # slope 0 at ε = 1
        # the sum exceeds k threshold², which needs w > start
        start = np.where(cone.threshold > 0, np.sqrt(k) * cone.threshold / cone.slope, 0.0)
    margin = np.maximum(cone.margin - start, -_NEVER)
    nodes, weights = gaussian_nodes(margin, k)
    limit = (cone.slope[..., None] * (cone.margin[..., None] + nodes)) ** 2
    limit, threshold = np.broadcast_arrays(limit, cone.threshold[..., None])
    beyond = limit - k * threshold**2
    cdf = np.zeros_like(beyond)
    inside = beyond > 1e-280
    saddle = np.full(int(inside.sum()), np.sqrt(k + 0.5))
    cdf[inside] = contour_cdf(beyond[inside], threshold[inside], k, saddle, _truncated_transform, _CONTOUR_NODES)
    return (weights * np.clip(cdf, 0.0, 1.0)).sum(-1)


def _truncated_transform(v: np.ndarray, threshold: FloatArray) -> np.ndarray:
    """E exp(−z (g² − s²)) given |g| > s, with v = √(½ + z)."""
    return special.erfcx(threshold * v) / (np.sqrt(2) * v * special.erfcx(threshold / np.sqrt(2)))


def _chi_square_cdf(limit: FloatArray, count: int) -> FloatArray:
    return special.gammainc(count / 2, limit / 2) if count else np.ones_like(limit)
