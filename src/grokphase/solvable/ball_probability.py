r"""Chance of zero test error in the ball model: first-order law, lower bound, Monte Carlo.

Two unit balls in D dimensions are centred at ±ε e₁; N points of each make a training set; the student
ends at the stationary weights w of Eq. 19 and has zero test error iff ``w₁ > 0`` and ``|w⊥|² ≤ (ε² − 1)
w₁²`` (Eq. 76).

**First order in N^(−1/2)** (Appendix B, with λ₁ kept to first order).  With L = λ₂ + 1/(D+2), q = L + ε²,
w⁰ = (ε − λ₁)₊/q, the weight without fluctuations, and g₁..g_D independent standard normal,

    q w₁ = ε − λ₁ + √V₁ g₁,                     V₁ = (1 − 2εw⁰)²/(2N(D+2)) + (w⁰)²(D+1)/(N(D+2)²(D+4)),
    L |w_j| = √V (|g_j| − s)₊,  s = λ₁/√V,      V  = [(1 − εw⁰)² + (w⁰)²/(D+4)]/(2N(D+2)).

In the paper's letters q α₁ = 1 − 2εw⁰, q α₂ = −w⁰, L α₃ = 1 − εw⁰, L α₄ = −w⁰ (Eq. 82 corrected).  Hence
P = ∫ φ(g₁) F(c w₁²) dg₁ over w₁ > 0, where F is the distribution function of Σ_j (|g_j| − s)₊² over the D − 1
coordinates across (a chi-square law without L1).  F is evaluated by contour integration, see
:func:`squared_excess_cdf`.

Exact: the integrals, to 1e-12 relative, down to 1e-250.  Approximate: the first-order law itself.  It is
good to a few percent for D ≤ 10 ≤ N and fails where D is not small against 2N at small λ₂ (ERRATA, table
of quality).  For λ₁ > ε it keeps the leading, exponentially small chance that a fluctuation wakes w₁.
Monte Carlo is exact within its standard error.  Where 2N < D and λ₂ = 0, Monte Carlo takes the stationary
point of least norm, which a flow started at w(0) = 0 reaches.

References: Žunkovič & Ilievski 2024, Eqs. 24, 25, 33, 75–90, Table 2; corrected as in ERRATA.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from grokphase._checks import FloatArray
from grokphase.solvable import elastic_net

__all__ = [
    "BallParameters",
    "cone_probability",
    "contour_cdf",
    "first_order",
    "gaussian_nodes",
    "generalises",
    "lower_bound",
    "monte_carlo",
    "squared_excess_cdf",
    "stationary_weights",
    "uniform_ball",
]

ComplexArray = NDArray[np.complexfloating[Any, Any]]

_REACH = 8.5  # standard deviations kept on either side of the peak: exp(-8.5²/2) = 2e-16
_LEGENDRE_NODES, _LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(96)
_CONTOUR_END = 6.25  # the integrand falls as exp(-u²) along the contour: 1e-17 of its peak
_CONTOUR_NODES = 96  # relative error below 1e-12 wherever F > 1e-15 ...
_CONTOUR_NODES_DEEP = 1024  # ... and below that, where the factor M^n is steep
_DEEP = 1e-15
_TINY = 1e-280  # arguments below this are zero: their reciprocals squared would overflow
_BLOCK = 2**21  # numbers held at a time; changes no result
_DRAWN = 2**21  # numbers drawn from one generator at most, 1024 trials at most: changes the sampled sets
_TRIALS_PER_BLOCK = 1024


class BallParameters(NamedTuple):
    """Parameters of the ball model as float64 arrays that broadcast against each other and against N."""

    dimension: int
    class_gap: FloatArray
    l1: FloatArray
    l2: FloatArray


# --- large-N theory ---


def first_order(model: BallParameters, samples_per_class: FloatArray) -> FloatArray:
    """Grokking probability to first order in N^(−1/2) (Eqs. 76, 82–89 corrected; see the module header)."""
    dim, eps, l1, l2 = model
    spread = 1 / (2 * samples_per_class * (dim + 2))  # variance of one coordinate of x̄, Eq. 83
    across = l2 + 1 / (dim + 2)  # L
    along = across + eps**2  # q
    still = np.maximum(eps - l1, 0) / along  # w⁰

    square = 2 * still**2 * (dim + 1) / ((dim + 2) * (dim + 4))  # from the fluctuations of the mean of x₁²
    variance_along = spread * ((1 - 2 * eps * still) ** 2 + square)
    response = (across + eps * np.minimum(l1, eps)) / along  # 1 − εw⁰ without its cancellation
    variance_across = spread * (response**2 + still**2 / (dim + 4))

    opening = np.sqrt(np.maximum((eps - 1) * (eps + 1), 0)) * across / along  # largest L|w⊥| / (q w₁)
    sigma, unit = np.sqrt(variance_along), np.sqrt(variance_across)
    probability = cone_probability((eps - l1) / sigma, opening * sigma / unit, l1 / unit, dim - 1)
    return np.where(eps < 1, 0.0, probability)


def lower_bound(model: BallParameters, samples_per_class: FloatArray) -> FloatArray:
    """Probability that w₁ > 0 and every weight across rests at zero, for λ₂ ≫ 1 (Eq. 33)."""
    dim, eps, l1, l2 = model
    scale = np.sqrt(samples_per_class * (dim + 2))
    bound = special.erfc(scale * (l1 - eps)) / 2 * special.erf(scale * l1) ** (dim - 1)
    bound, _ = np.broadcast_arrays(bound, l2)  # the bound is free of λ₂
    return np.where(eps < 1, 0.0, bound)


def cone_probability(margin: FloatArray, slope: FloatArray, threshold: FloatArray, count: int) -> FloatArray:
    """Probability that w = margin + g₀ is positive and Σ_j (|g_j| − threshold)₊² ≤ (slope w)².

    All g standard normal, ``count`` of them in the sum; the arrays broadcast.
    """
    shape = np.broadcast_shapes(margin.shape, slope.shape, threshold.shape)
    margin, slope, threshold = (np.broadcast_to(a, shape).ravel() for a in (margin, slope, threshold))
    probability = np.empty(margin.size)
    rows = _BLOCK // _LEGENDRE_NODES.size
    for start in range(0, margin.size, rows):
        block = slice(start, start + rows)
        nodes, weights = gaussian_nodes(margin[block], count)
        value = (slope[block, None] * (margin[block, None] + nodes)) ** 2
        inside = squared_excess_cdf(value, threshold[block, None], count)
        probability[block] = (weights * inside).sum(axis=1)
    return np.minimum(probability, 1.0).reshape(shape)


def gaussian_nodes(margin: FloatArray, growth: int) -> tuple[FloatArray, FloatArray]:
    r"""Nodes and weights for ∫ φ(g) f(g) dg over g > −``margin``.

    For smooth f with φf log-concave and d log f / d log(g + margin) ≤ ``growth``: then the peak lies
    between 0 and the root of g (g + margin) = growth, and φf falls at least as fast as a unit Gaussian on
    both sides of it.  The last axis of both results runs over the nodes.
    """
    peak = (np.sqrt(margin**2 + 4 * growth) - margin) / 2
    start = np.maximum(-margin, -_REACH)
    half = (peak + _REACH - start) / 2
    nodes = start[..., None] + half[..., None] * (1 + _LEGENDRE_NODES)
    weights = half[..., None] * _LEGENDRE_WEIGHTS * np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    return nodes, weights


def squared_excess_cdf(value: FloatArray, threshold: FloatArray, count: int) -> FloatArray:
    r"""Distribution function of S = Σ (|g_j| − s)₊² over ``count`` independent standard normal g_j.

    Parameters
    ----------
    value
        Argument x ≥ 0; broadcasts with ``threshold``.
    threshold
        s ≥ 0.
    count
        Number n of terms.

    Returns
    -------
    probability
        Pr(S ≤ x), relative error below 1e-12 down to 1e-250.

    Notes
    -----
    With v = √(½ + z), the transform of one term is

        E exp(−z (|g| − s)₊²) = M(v) = erf(s/√2) + exp(−s²/2) erfcx(s/2v) / (√2 v),

    and Pr(S ≤ x) = (1/2πi) ∫ e^{zx} M^n dz/z.  On the line v = (a + iu)/√x, a parabola around z = −½, the
    integrand falls as exp(−u²), so the midpoint rule converges geometrically; the pole z = 0 adds exactly
    1/(1 + exp(2π(a − √(x/2))/h)), on whichever side of it the line runs.  At the saddle point nothing
    cancels in either tail.

    Examples
    --------
    >>> float(squared_excess_cdf(np.array(3.0), np.array(0.0), 4).round(6))  # chi-square
    0.442175
    >>> float(squared_excess_cdf(np.array(0.0), np.array(1.0), 4).round(6))  # all four at rest: erf(1/√2)⁴
    0.217217
    """
    value, threshold = np.broadcast_arrays(value, threshold)
    at_rest = special.erf(threshold / np.sqrt(2)) ** count
    spread = threshold > 0
    cdf = np.where(spread, at_rest, special.gammainc(count / 2, value / 2) if count else 1.0)
    mixed = spread & (value > _TINY) & (count * special.erfc(threshold / np.sqrt(2)) > 1e-17)
    if count and mixed.any():
        cdf[mixed] = _by_contour(value[mixed], threshold[mixed], count)
    return np.clip(cdf, at_rest, 1.0)


def _by_contour(value: FloatArray, threshold: FloatArray, count: int) -> FloatArray:
    saddle = _saddle(value, threshold, count)
    cdf = contour_cdf(value, threshold, count, saddle, _excess_transform, _CONTOUR_NODES)
    deep = cdf < _DEEP
    cdf[deep] = contour_cdf(value[deep], threshold[deep], count, saddle[deep], _excess_transform, _CONTOUR_NODES_DEEP)
    return cdf


def contour_cdf(
    value: FloatArray,
    threshold: FloatArray,
    count: int,
    saddle: FloatArray,
    transform: Callable[[ComplexArray, FloatArray], ComplexArray],
    num_nodes: int,
) -> FloatArray:
    """Invert transform(v, threshold)^count along v = (saddle + iu)/√value; see :func:`squared_excess_cdf`.

    ``value`` > 0, ``threshold`` and ``saddle`` have one dimension and the same length.
    """
    step = _CONTOUR_END / num_nodes
    offsets: ComplexArray = 1j * step * (np.arange(num_nodes) + 0.5)
    total = np.empty_like(value)
    rows = _BLOCK // num_nodes
    for start in range(0, value.size, rows):
        block = slice(start, start + rows)
        x = value[block, None]
        v = (saddle[block, None] + offsets) / np.sqrt(x)
        z = v * v - 0.5
        power = np.exp(z * x + count * np.log(transform(v, threshold[block, None])))
        total[block] = (power * v / (z * np.sqrt(x))).real.sum(axis=1)
    pole = special.expit(2 * np.pi / step * (np.sqrt(value / 2) - saddle))
    return 2 * step / np.pi * total + pole


def _excess_transform(v: ComplexArray, threshold: FloatArray) -> ComplexArray:
    """M(v) of one squared excess; v = √(½ + z)."""
    return special.erf(threshold / np.sqrt(2)) + _active(v, threshold)


def _active(v: Any, threshold: FloatArray) -> Any:
    """Part of M(v) from |g| above the threshold; real for real v."""
    return np.exp(-(threshold**2) / 2) * special.erfcx(threshold / (2 * v)) / (np.sqrt(2) * v)


def _saddle(value: FloatArray, threshold: FloatArray, count: int) -> FloatArray:
    """Point a = v√x at which e^{zx} M^n / v is smallest on the real axis, by bisection.

    −d log M/d log v lies between 0 and 1, which brackets a; the sum needs a only to a fraction of the
    peak's width.
    """
    low = np.full(value.shape, -np.log(2) / 2)
    high = np.full(value.shape, np.log((count + 1) / 2) / 2)
    resting = special.erf(threshold / np.sqrt(2))
    for _ in range(12):
        middle = (low + high) / 2
        a = np.exp(middle)
        v = a / np.sqrt(value)
        y = threshold / (2 * v)
        active = _active(v, threshold)
        # erfcx' = 2y erfcx − 2/√π; the difference cancels for large y, where the term no longer matters
        shape = np.maximum(1 + 2 * y * y - 2 * y / (np.sqrt(np.pi) * special.erfcx(y)), 0)
        left = 2 * a * a - 1 < count * shape * active / (resting + active)
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return np.exp((low + high) / 2)


# --- Monte Carlo ---


def uniform_ball(
    rng: np.random.Generator, shape: tuple[int, ...], dimension: int, offset: FloatArray, inner: float
) -> FloatArray:
    """Points (*shape, D) of the unit ball: direction of a Gaussian moved by ``offset``, radius by volume.

    With ``offset`` zero they are uniform in the shell ``inner`` ≤ |x| ≤ 1.
    """
    points = rng.standard_normal((*shape, dimension)) + offset
    hollow = inner**dimension
    radius = (hollow + (1 - hollow) * rng.random(shape)) ** (1 / dimension)
    points *= (radius / np.linalg.norm(points, axis=-1))[..., None]
    return points


def monte_carlo(
    model: BallParameters, samples_per_class: FloatArray, trials: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Fraction of drawn training sets that end with zero test error, and its standard error.

    Trials come in blocks of a size fixed by N and D alone, each with its own generator seeded from ``rng``,
    so the numbers do not depend on how the work is split, and a longer run begins with the sets of a shorter
    one.  All elements of the parameter arrays see the same sets, as if each were a call on its own.
    """
    dim = model.dimension
    eps, l1, l2, samples = (a.ravel() for a in np.broadcast_arrays(*model[1:], samples_per_class))
    batch = np.broadcast_shapes(*(a.shape for a in model[1:]), samples_per_class.shape)
    root = np.random.SeedSequence(rng.integers(2**63, size=2).tolist())
    hits = np.zeros(eps.shape)
    for num in np.unique(samples.astype(np.int64)):
        members = np.flatnonzero(samples == num)
        labels = np.repeat([1.0, -1.0], num)
        for points in _blocks_of_sets(root, trials, int(num), dim):
            at_once = max(1, _BLOCK // points.size)
            for first in range(0, members.size, at_once):
                group = members[first : first + at_once]
                inputs = np.broadcast_to(points, (group.size, *points.shape)).copy()
                inputs[..., 0] += eps[group, None, None] * labels
                weights = stationary_weights(inputs, labels, l1[group, None], l2[group, None])
                hits[group] += generalises(weights, eps[group, None]).sum(-1)
    estimate = hits / trials
    smoothed = (hits + 0.5) / (trials + 1)
    stderr = np.sqrt(smoothed * (1 - smoothed) / (trials + 2))
    return estimate.reshape(batch), stderr.reshape(batch)


def _blocks_of_sets(
    root: np.random.SeedSequence, trials: int, samples_per_class: int, dimension: int
) -> Iterator[FloatArray]:
    """Points of ``trials`` training sets, (block, 2N, D) at a time, before the classes are moved apart."""
    num = 2 * samples_per_class
    per_block = int(np.clip(_DRAWN // (num * dimension), 1, _TRIALS_PER_BLOCK))
    for index, done in enumerate(range(0, trials, per_block)):
        seed = np.random.SeedSequence(root.entropy, spawn_key=(index,))
        draw = np.random.default_rng(seed)
        # a full block even at the end, so that a longer run begins with the numbers of a shorter one
        points = uniform_ball(draw, (per_block, num), dimension, np.zeros(dimension), 0.0)
        yield points[: trials - done]


def generalises(weights: FloatArray, class_gap: FloatArray) -> NDArray[np.bool_]:
    """Whether weights (..., D) have zero test error (Eq. 76)."""
    along, across = weights[..., 0], (weights[..., 1:] ** 2).sum(-1)
    return (along > 0) & (across <= (class_gap - 1) * (class_gap + 1) * along**2) & (class_gap >= 1)


def stationary_weights(inputs: FloatArray, labels: FloatArray, l1: FloatArray, l2: FloatArray) -> FloatArray:
    """Minimisers of Eq. 19 for a batch of training sets; of least norm where they are not unique and λ₁ = 0.

    Parameters
    ----------
    inputs, labels
        Shapes (..., n, D) and (n,).
    l1, l2
        Broadcast with the leading dimensions of ``inputs``.

    Returns
    -------
    weights
        Shape (..., D).
    """
    num, dim = inputs.shape[-2:]
    l1, l2 = np.broadcast_to(l1, inputs.shape[:-2]), np.broadcast_to(l2, inputs.shape[:-2])
    weights = np.empty((*inputs.shape[:-2], dim))
    smooth = l1 == 0
    if smooth.any():
        weights[smooth] = _ridge(inputs[smooth], labels, l2[smooth])
    if not smooth.all():
        x = inputs[~smooth]
        gram = x.swapaxes(-1, -2) @ x / num + l2[~smooth][..., None, None] * np.eye(dim)
        weights[~smooth] = elastic_net.stationary(gram, labels @ x / num, l1[~smooth])
    return weights


def _ridge(inputs: FloatArray, labels: FloatArray, l2: FloatArray) -> FloatArray:
    """Without L1: one linear system, in the D weights or in the n samples, whichever are fewer."""
    num, dim = inputs.shape[-2:]
    transposed = inputs.swapaxes(-1, -2)
    ridge = num * l2[..., None, None]
    if dim < num:
        gram = transposed @ inputs + ridge * np.eye(dim)
        return np.linalg.solve(gram, (labels @ inputs)[..., None])[..., 0]
    kernel = inputs @ transposed + ridge * np.eye(num)
    target = np.broadcast_to(labels[:, None], (*kernel.shape[:-1], 1))
    return (transposed @ np.linalg.solve(kernel, target))[..., 0]
