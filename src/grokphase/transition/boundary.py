r"""Divergence exponent of a density at the edge of its support.

Object (Secs. 3.3.4, 4.3.1).  If the density of a variable is ρ(r) ∝ r^−ξ at distance r from the edge of its support,
the number of values within r of the edge grows as r^δ with δ = 1 − ξ.  ξ = 0: the density ends at a finite value;
0 < ξ < 1: it diverges; ξ < 0: it vanishes there; ξ → 1: part of the sample sits on the edge itself.

Three estimates.

- ``"counts"``: slope of the number of values against the distance.  Right for smooth densities and on fractals;
  95% intervals cover ξ ≥ 0 in 92 to 98% of samples.
- ``"likelihood"``: Hill's estimator with exact intervals, the edge integrated out where it is not given.  Sharper
  than the former on the same values but more easily bent by what is not a power law, so that it uses fewer
  by default; biased on a fractal.
- ``"histogram"``: the published one (Fig. 16): slope of the largest histogram density against the number of bins.
  For ξ ≤ 0 it measures the fluctuation of the fullest bin and comes out too large, by 0.1 to 0.3; for ξ > 0.5 its
  bias is about one standard error.

On a fractal.  Contexts of a tensor network fill a Cantor-like set; their measure has no density, and what "diverges"
is the ratio of measure to interval length.  1 − ξ is the local (pointwise) dimension δ of the measure at the edge:
if the edge is the fixed point of a map with weight p and contraction c, δ = ln p/ln c.  The number of values is r^δ
times a function that is periodic in ln r with period ln 1/c.  ``"counts"`` converges to δ; ``"likelihood"`` depends
on the phase of the oscillation and does not (its ``goodness`` is then small); ``"histogram"`` converges to the
smallest local dimension anywhere, that of the densest point, which need not be the edge.

Conventions.  The edge is a given number, or the extreme of the sample; δ ≤ 1 makes the latter as good (its distance
from the edge is of order n^{−1/δ}).  Values within ``resolution`` of the edge are known only to be that near: by
default 16 units in the last place of the edge.  Smaller distances can be handed over themselves, with ``edge=0``.

Approximate: a density is a power law only near the edge.  By default the n^0.75 (counts) or n^0.6 (likelihood)
nearest values are used, few enough that for ξ ≥ 0 and a density with a Taylor series the bias is below the error.
For ξ < 0 ``"counts"`` give a ξ that is too large by about one standard error, by more if the edge is unknown: use the
likelihood, or fewer values.  Standard errors are those of independent samples; values from an exhaustive list of
inputs scatter less.

References: Žunkovič & Ilievski 2024, Secs. 3.3.4 and 4.3.1, Eq. 50, Fig. 16, Table 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from grokphase._checks import FloatArray, choice, integer, integers, real, real_array
from grokphase.transition import _edge_counts as by_counts
from grokphase.transition import _edge_likelihood as by_likelihood

__all__ = ["PUBLISHED_BINS", "BoundaryDivergence", "boundary_divergence", "largest_density"]

PUBLISHED_BINS = 2 ** np.arange(5, 18)
"""Numbers of bins in Fig. 16."""
PUBLISHED_BINS.flags.writeable = False

_POWERS = {"counts": 0.75, "likelihood": 0.6}  # of n: the values used by default
_FEWEST_EVENTS = 10
_NO_EDGE = 10.0  # r^10 with the edge anywhere is an exponential tail for all practical purposes
_MOST_BINS = 2**27
_UNITS_OF_EDGE = 16  # default resolution in units in the last place


@dataclass(frozen=True)
class BoundaryDivergence:
    """Divergence exponent ξ with its error; see :func:`boundary_divergence`."""

    value: float
    stderr: float
    low: float
    high: float
    confidence: float
    method: str
    edge: float
    count: int
    goodness: float | None

    @property
    def dimension(self) -> float:
        """δ = 1 − ξ, the local dimension at the edge."""
        return 1 - self.value


def boundary_divergence(
    values: ArrayLike,
    edge: str | float = "max",
    *,
    method: str = "counts",
    count: int | None = None,
    bins: ArrayLike | None = None,
    resolution: float | None = None,
    confidence: float = 0.95,
) -> BoundaryDivergence:
    """Exponent ξ of a density ρ(r) ∝ r^−ξ at distance r from the edge of its support.

    Parameters
    ----------
    values
        The sample, shape (samples,), in any order.
    edge
        ``"max"`` or ``"min"``: the edge is at the upper or lower end of the sample.  A number: the edge's position; the
        sample must lie on one side of it.  ``"any"``, with ``method="histogram"`` only: the densest bin
        of all.
    method
        ``"counts"``, ``"likelihood"`` or ``"histogram"``.
    count
        Number of values next to the edge to use, not counting those within ``resolution`` of it; by default
        n^0.75 for ``"counts"``, n^0.6 for ``"likelihood"``.  Not for ``"histogram"``.
    bins
        Numbers of bins for ``"histogram"``, at least two different ones; by default the published ones, 2⁵ to 2¹⁷.
    resolution
        Distance from the edge below which values carry no information.
    confidence
        Level of the interval, between 0 and 1.

    Returns
    -------
    value, stderr
        ξ and its standard error.
    low, high
        Ends of the interval for ξ.
    dimension
        1 − ξ.
    method, confidence
        As given.
    edge
        Position of the edge; for ``"histogram"`` the centre of the densest of the finest bins.
    count
        Number of values used; for ``"histogram"`` the number in the densest of the finest bins (below about 25 the
        slope is that of counting noise).
    goodness
        ``"likelihood"``: p-value of a power law for the values used.  Else None.

    Raises
    ------
    ValueError
        If an argument is out of range, the sample lies on both sides of the edge, too few values differ from the
        edge, or the likelihood finds none (δ > 10).

    Notes
    -----
    Sec. 3.3.4: ρ(δh) ≈ ρ_ξ δh^−ξ, which gives the test error the exponent ν = (D + 1 − 2ξ)/2 (Eq. 50).

    Examples
    --------
    >>> sample = 1 - np.random.default_rng(0).random(10_000) ** (1 / 0.4)  # F(r) = r^0.4, so ξ = 0.6
    >>> result = boundary_divergence(sample)
    >>> round(result.value, 2), round(result.stderr, 2), result.low < 0.6 < result.high
    (0.58, 0.02, True)
    """
    sample = _sample(values)
    choice("method", method, ("counts", "likelihood", "histogram"))
    confidence = real("confidence", confidence, minimum=0.0, maximum=1.0, exclusive=True)
    if method == "histogram":
        if count is not None or resolution is not None:
            raise ValueError('count and resolution must be None for method="histogram", which takes bins')
        return _from_histograms(sample, edge, bins, confidence)
    if bins is not None:
        raise ValueError(f'bins must be None for method="{method}", which takes count')

    position, distances = _distances(sample, edge)
    if resolution is None:
        resolution = _UNITS_OF_EDGE * float(np.spacing(abs(position)))
    resolution = real("resolution", resolution, minimum=0.0)
    within = int(np.searchsorted(distances, resolution, side="right"))
    count = _count(count, distances.size, within, method)
    nearest = distances[: within + count + 1]
    if nearest[within] == nearest[-1]:
        raise ValueError(f"values must differ near the edge, got {count + 1} at the same distance from it")

    if method == "counts":
        slope = by_counts.counts_slope(nearest, resolution)
        return _record(1 - slope.value, slope.stderr, confidence, method, position, count)
    known = within > 1 or not isinstance(edge, str)  # else the extreme is an unknown distance from the edge
    if known:
        delta = by_likelihood.known_edge(nearest, within, resolution, confidence)
    else:
        delta = by_likelihood.unknown_edge(nearest, confidence)
        if delta.median > _NO_EDGE:
            raise ValueError(
                f"values show no edge near {position:.6g}: their density falls off as at the end of an unbounded tail; "
                "give the edge as a number, or use more values"
            )
    return BoundaryDivergence(
        value=1 - delta.median,
        stderr=delta.deviation,
        low=1 - delta.high,
        high=1 - delta.low,
        confidence=confidence,
        method=method,
        edge=position,
        count=count,
        goodness=by_likelihood.power_law_p_value(nearest[within:], within if known else 0),
    )


def largest_density(values: ArrayLike, bins: ArrayLike = PUBLISHED_BINS, edge: str = "any") -> FloatArray:
    """Largest density of the sample's histogram, for every number of bins: the dots of Fig. 16.

    Parameters
    ----------
    values
        The sample, shape (samples,).
    bins
        Numbers of bins, of any shape; the bins divide the range of the sample evenly.
    edge
        ``"max"`` or ``"min"`` restricts the search to the half of the range next to that end.

    Returns
    -------
    density
        Of the shape of ``bins``.

    Raises
    ------
    ValueError
        If an argument is out of range, or all values agree.

    Examples
    --------
    >>> largest_density([0.0, 0.1, 0.2, 1.0], [1, 2, 4])
    array([1. , 1.5, 3. ])
    """
    sample = _sample(values)
    numbers = integers("bins", bins, minimum=1, maximum=_MOST_BINS)
    choice("edge", edge, ("min", "max", "any"))
    counts, _ = by_counts.largest_bins(sample, numbers.ravel(), edge)
    width = float(np.ptp(sample)) / numbers
    return counts.reshape(numbers.shape) / (sample.size * width)


def _sample(values: ArrayLike) -> FloatArray:
    sample = real_array("values", values, ndim=1)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"values must have shape (samples,) with at least two samples, got shape {sample.shape}")
    if sample.min() == sample.max():
        raise ValueError(f"values must differ, got {sample.size} times {sample[0]:g}: there is no density")
    return sample


def _distances(sample: FloatArray, edge: str | float) -> tuple[float, FloatArray]:
    """Position of the edge and ascending distances from it."""
    if isinstance(edge, str):
        choice("edge", edge, ("max", "min"))
        position = float(sample.max() if edge == "max" else sample.min())
    else:
        position = real("edge", edge)
        if sample.min() < position < sample.max():
            raise ValueError(
                f"edge must not lie inside the sample, got {position:g} between {sample.min():g} and {sample.max():g}"
            )
    return position, np.sort(np.abs(sample - position))


def _count(count: int | None, size: int, within: int, method: str) -> int:
    """Number of values to use: one value further out gives the radius, those ``within`` the resolution are extra."""
    available = size - within - 1
    least = _FEWEST_EVENTS if method == "likelihood" else by_counts.FEWEST
    if available < least:
        raise ValueError(
            f"values must hold more than {least} further from the edge than the resolution for "
            f'method="{method}", got {available + 1} of {size}'
        )
    if count is None:
        return min(max(least, int(size ** _POWERS[method])), available)
    return integer("count", count, minimum=least, maximum=available)


def _from_histograms(sample: FloatArray, edge: Any, bins: ArrayLike | None, confidence: float) -> BoundaryDivergence:
    choice("edge", edge, ("max", "min", "any"))
    numbers = np.unique(integers("bins", PUBLISHED_BINS if bins is None else bins, minimum=1, maximum=_MOST_BINS))
    if numbers.size < 2:
        raise ValueError(f"bins must hold at least two different numbers of bins, got {numbers.tolist()}")
    counts, places = by_counts.largest_bins(sample, numbers, edge)
    slope = by_counts.histogram_slope(numbers, counts.astype(np.float64))
    centre = float(sample.min()) + float(np.ptp(sample)) * (float(places[-1]) + 0.5) / float(numbers[-1])
    return _record(slope.value, slope.stderr, confidence, "histogram", centre, int(counts[-1]))


def _record(value: float, stderr: float, confidence: float, method: str, edge: float, count: int) -> BoundaryDivergence:
    """Result with a normal interval."""
    half = float(ndtri((1 + confidence) / 2)) * stderr
    return BoundaryDivergence(value, stderr, value - half, value + half, confidence, method, edge, count, None)
