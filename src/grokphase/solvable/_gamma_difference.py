"""Law of |G − G′| for two independent Gamma(N, 1) variables: both tails, to full relative accuracy.

The grokking probability of the exponential model is Pr(|G − G′| < z) at z = 2Nε_λ (Eqs. 11-14). Watch two
Poisson clocks until one has rung N times: the other then lacks j + 1 rings with probability

    w_j = C(2N−2−j, N−1) 2^{−(2N−2−j)},        w_{j+1} / w_j = 2(N−1−j) / (2N−2−j),        j = 0 .. N−1,

and waits an Erlang(j + 1) time for them, independent of the time already gone by. Hence, with pois(i; z) =
e^{−z} zⁱ/i!,

    Pr(|G − G′| > z) = Σ_{i<N} pois(i; z) S_i,    S_i = Σ_{j≥i} w_j,
    Pr(|G − G′| < z) = Σ_{i≥1} pois(i; z) C_i,    C_i = Σ_{j<i} w_j.

All terms are positive and log-concave in i, so a window around the largest term gives the sum to rounding.
The tail beyond the median is summed, the other one is 1 minus it. The relative error of both stays below
1e-12 down to 1e-290 for N up to 10^6 and beyond; smaller tails underflow gradually to 0. The closed form
printed as Eq. 14 (a difference of hypergeometric functions) loses all its digits near N = 20.

Reference: Žunkovič & Ilievski 2024, Eqs. 11-15; Poisson weights after C. Loader, *Fast and accurate
computation of binomial probabilities* (2000).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from grokphase._checks import FloatArray

__all__ = ["gamma_difference_probability", "log_poisson", "log_stage_weights"]

IntArray = NDArray[np.int64]

# Terms e^-42 below the largest are beyond double precision even when thousands of them are added.
_NEGLIGIBLE = 42.0
# exp(-760) is 0 in double precision.
_UNDERFLOW = 760.0
# Beyond this z the upper tail is 0 for every N allowed (up to 10^9).
_LARGEST_BOUND = 1e13
_BLOCK = 1 << 20


def gamma_difference_probability(shape: ArrayLike, bound: ArrayLike, *, upper: bool = False) -> FloatArray:
    """Pr(|G − G′| < bound), or > bound if ``upper``, for independent G, G′ ~ Gamma(shape, 1).

    Parameters
    ----------
    shape
        Integers N ≥ 1.
    bound
        z ≥ 0; broadcasts with ``shape``.
    upper
        Return the complement, with its own full relative accuracy.

    Returns
    -------
    ndarray of the broadcast shape.
    """
    shapes, bounds = np.broadcast_arrays(np.asarray(shape, dtype=np.int64), np.asarray(bound, dtype=np.float64))
    n, z = shapes.ravel(), np.minimum(bounds.ravel(), _LARGEST_BOUND)
    below_median = z < 0.95 * np.sqrt(n)  # roughly: either side of it the other tail is no smaller than 0.4
    tail = np.zeros(z.shape)
    rising = np.flatnonzero(below_median & (z > 0))
    tail[rising] = _lower_tail(n[rising], z[rising])
    falling = np.flatnonzero(~below_median & (_log_chernoff(n, z) > -_UNDERFLOW))
    tail[falling] = _upper_tail(n[falling], z[falling])
    return np.where(below_median == upper, 1.0 - tail, tail).reshape(shapes.shape)


def log_stage_weights(shape: int, count: int) -> FloatArray:
    """Log w_j for j = 0 .. count−1, −inf from j = N on."""
    n = shape - 1
    j = np.arange(count - 1)
    with np.errstate(divide="ignore"):
        log_ratios = np.where(j < n, np.log1p(-np.minimum(j / np.maximum(2.0 * n - j, 1.0), 1.0)), -np.inf)
    return np.cumsum(np.concatenate([np.log(_central_binomial(np.array([n]))), log_ratios]))[:count]


def log_poisson(count: ArrayLike, mean: ArrayLike) -> FloatArray:
    """Logarithm of e^{−mean} mean^count / count! for mean > 0, in Loader's form: no cancellation."""
    k, z = np.asarray(count, dtype=np.float64), np.asarray(mean, dtype=np.float64)
    safe = np.maximum(k, 1.0)
    return np.where(k == 0, -z, -_stirling_error(safe) - _deviance(safe, z) - 0.5 * np.log(2 * np.pi * safe))


def _upper_tail(n: IntArray, z: FloatArray) -> FloatArray:
    last = n - 1.0
    # Where consecutive terms pois(i; z) w_i are equal: i² − 2i(N−1+z) + 2z(N−1) = 0, smaller root.
    peak = 2 * last * z / (last + z + np.hypot(last, z))
    reach = 9 * np.sqrt(peak) + 40  # Poisson deviations of more than 9 standard deviations
    stop = np.minimum(n, np.ceil(peak + reach).astype(np.int64) + 1)
    # w_j falls no slower than exp(−j²/4N): S_i needs the stages up to here.
    stages = np.minimum(n, np.ceil(np.sqrt(stop**2.0 + 4 * _NEGLIGIBLE * n)).astype(np.int64) + 1)
    tail = np.empty(z.shape)
    first = np.maximum(np.floor(peak - reach).astype(np.int64), 0)
    for block in _blocks(stages):
        distinct, row = np.unique(n[block], return_inverse=True)
        weights = _stage_weights(distinct, int(stages[block].max()))
        survival = np.zeros((distinct.size, weights.shape[1] + 1))
        survival[:, :-1] = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
        tail[block] = _poisson_average(survival, row, first[block], stop[block], z[block])
    return tail


def _lower_tail(n: IntArray, z: FloatArray) -> FloatArray:
    reach = 9 * np.sqrt(z) + 15
    first = np.maximum(np.floor(z - reach).astype(np.int64), 1)
    stop = np.ceil(z + reach).astype(np.int64) + 1
    tail = np.empty(z.shape)
    for block in _blocks(stop):
        distinct, row = np.unique(n[block], return_inverse=True)
        weights = _stage_weights(distinct, int(stop[block].max()) - 1)
        cumulative = np.zeros((distinct.size, weights.shape[1] + 1))
        np.cumsum(weights, axis=1, out=cumulative[:, 1:])
        tail[block] = _poisson_average(cumulative, row, first[block], stop[block], z[block])
    return tail


def _poisson_average(table: FloatArray, row: IntArray, first: IntArray, stop: IntArray, z: FloatArray) -> FloatArray:
    """Σ_i pois(i; z) table[row, i] over first ≤ i < stop; the table's last column repeats for ever."""
    steps = np.arange(int((stop - first).max()))
    index = first[:, None] + steps
    relative = np.empty(index.shape)  # pois(i; z) / pois(first; z)
    relative[:, 0] = 1.0
    np.divide(z[:, None], index[:, 1:], out=relative[:, 1:])
    np.cumprod(relative, axis=1, out=relative)
    relative *= table[row[:, None], np.minimum(index, table.shape[1] - 1)]
    return np.exp(log_poisson(first, z) + np.log(relative.sum(axis=1)))


def _stage_weights(shapes: IntArray, count: int) -> FloatArray:
    """w_j, one row for each N, one column for each j < count; 0 from j = N on."""
    n = shapes[:, None] - 1.0
    j = np.arange(count - 1)
    weights = np.empty((shapes.size, count))
    weights[:, 0] = _central_binomial(shapes - 1)
    np.divide(2 * np.maximum(n - j, 0.0), np.maximum(2 * n - j, 1.0), out=weights[:, 1:])
    return np.cumprod(weights, axis=1, out=weights)


def _central_binomial(n: IntArray) -> FloatArray:
    """C(2n, n) / 4ⁿ."""
    safe = np.maximum(n, 1).astype(np.float64)
    value = np.exp(_stirling_error(2 * safe) - 2 * _stirling_error(safe)) / np.sqrt(np.pi * safe)
    return np.where(n == 0, 1.0, value)


def _stirling_error(k: FloatArray) -> FloatArray:
    """Log k! − log(√(2πk) (k/e)^k) for k ≥ 1."""
    small = np.minimum(k, 16.0)
    direct = gammaln(small + 1) - (small + 0.5) * np.log(small) + small - 0.5 * np.log(2 * np.pi)
    u = 1 / (k * k)
    series = (1 / 12 - u * (1 / 360 - u * (1 / 1260 - u * (1 / 1680 - u / 1188)))) / k
    return np.where(k < 16, direct, series)


def _deviance(k: FloatArray, z: FloatArray) -> FloatArray:
    """K log(k/z) + z − k without cancellation where k is close to z (Loader's bd0)."""
    v = (k - z) / (k + z)
    v = np.where(np.abs(v) < 0.1, v, 0.0)
    square = v * v
    series = np.zeros_like(v)
    for order in range(21, 1, -2):  # atanh series: 0.1^22 is below rounding
        series = square * (series + 1 / order)
    near = (k - z) * v + 2 * k * v * series
    with np.errstate(divide="ignore"):  # z/k may underflow: the deviance is then infinite
        far = z - k - k * np.log(z / k)
    return np.where(v != 0, near, far)


def _log_chernoff(n: IntArray, z: FloatArray) -> FloatArray:
    """Upper bound of log Pr(|G − G′| > z)."""
    tilt = z / (n + np.hypot(n, z))
    return np.log(2) - n * np.log1p(-tilt * tilt) - tilt * z


def _blocks(widths: IntArray) -> Iterator[IntArray]:
    """Index sets of similar width (within a factor of two) that keep width × size within memory."""
    octave = np.frexp(widths)[1]
    for exponent in np.unique(octave):
        members = np.flatnonzero(octave == exponent)
        rows = max(1, _BLOCK >> int(exponent))
        for start in range(0, members.size, rows):
            yield members[start : start + rows]
