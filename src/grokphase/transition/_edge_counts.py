r"""Exponent of a power law at the edge of a sample's support, as the slope of counts in a log-log plot.

Object.  Two straight-line fits, both with every scale weighing the same:

- ``counts_slope``: ln N(r) against ln r, N(r) the number of values within r of the edge; the slope is δ = 1 − ξ,
  the local (pointwise) dimension of the sample's measure at the edge.  This works on fractals as well: where N is
  r^δ times a log-periodic function, the slope's error falls as the inverse square of the logarithm of the range.
- ``histogram_slope``: ln of the largest histogram density against ln of the number of bins (Fig. 16); the slope
  is ξ if the densest bin is the one at the edge.

Error.  Counts within nested intervals have Cov(ln N, ln N') = 1/max(N, N') to first order, which gives the standard
error of any linear fit.  Where the residuals are larger than that explains, the excess is taken for an
oscillation of amplitude a with the period P of the strongest Fourier component; it can shift the slope by
12aP/(2πL²) on a range of length L, and this is added in quadrature.

Approximate: the covariance is of first order (counts of ``FEWEST`` or more); the errors are for independent samples.
The histogram's own error does not contain its bias: the largest of many bins with few values is dense by chance, which
makes ξ too large.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1, Fig. 16.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["FEWEST", "Slope", "counts_slope", "histogram_slope", "largest_bins"]

FEWEST = 25
"""No smaller count enters the fit of counts; if the largest is k, none below √k does."""

_SCALES = 64  # radii of the fit, evenly spaced in ln r


class Slope(NamedTuple):
    """Slope of a straight line and its standard error."""

    value: float
    stderr: float


def counts_slope(distances: FloatArray, resolution: float) -> Slope:
    """δ from ascending distances to the edge, the last being the largest radius; those below ``resolution`` agree."""
    fewest = max(FEWEST, int(distances.size**0.5))  # so that the error falls as a power of k, not only as 1/ln k
    start = max(distances[fewest - 1], resolution)
    if start >= distances[-1]:
        raise ValueError(
            f"values must differ near the edge, got {distances.size - fewest} at the same distance from it"
        )
    radii = np.geomspace(start, distances[-1], _SCALES)
    radii[0], radii[-1] = start, distances[-1]  # not off by a rounding error: a count would change
    return _slope(np.log(radii), np.searchsorted(distances, radii, side="right").astype(np.float64))


def histogram_slope(bins: NDArray[np.int64], largest: FloatArray) -> Slope:
    """ξ from the largest counts of histograms with so many bins over the same range."""
    slope = _slope(np.log(bins), largest)
    return Slope(1 + slope.value, slope.stderr)  # density = count · bins / (values · range)


def largest_bins(values: FloatArray, bins: NDArray[np.int64], half: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest count of each histogram over the range of the values, and its bin.

    Bins that reach into the ``half`` "min" or "max" of the range are searched, or all ("any").
    """
    low, high = float(values.min()), float(values.max())
    position = (values - low) / (high - low)
    counts, places = np.empty_like(bins), np.empty_like(bins)
    for index, number in enumerate(bins.tolist()):
        histogram = np.bincount(np.minimum((position * number).astype(np.int64), number - 1), minlength=number)
        first = number // 2 if half == "max" else 0
        last = -(-number // 2) if half == "min" else number
        places[index] = first + int(histogram[first:last].argmax())
        counts[index] = histogram[places[index]]
    return counts, places


def _slope(abscissa: FloatArray, counts: FloatArray) -> Slope:
    """Least-squares slope of ln counts, with the error of the module's header."""
    offset = abscissa - abscissa.mean()
    weights = offset / (offset @ offset)
    log_counts = np.log(counts)
    slope = float(weights @ log_counts)
    covariance = 1 / np.maximum(counts[:, None], counts)
    variance = float(weights @ covariance @ weights)

    size = abscissa.size
    residuals_of = np.eye(size) - 1 / size - np.outer(offset, weights)
    residuals = residuals_of @ log_counts
    excess = residuals @ residuals - np.trace(residuals_of @ covariance @ residuals_of.T)
    amplitude = np.sqrt(2 * max(float(excess), 0.0) / size)
    periods = 1 + int(np.abs(np.fft.rfft(residuals))[1 : max(2, size // 4)].argmax())
    oscillation = 12 * amplitude / (2 * np.pi * periods * np.ptp(abscissa))
    return Slope(slope, float(np.hypot(np.sqrt(variance), oscillation)))
