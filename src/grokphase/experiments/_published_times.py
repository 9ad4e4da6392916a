"""The published histograms of Figs. 23, 26 and 27, and how times of ours are compared with them.

Distributions: the Kolmogorov-Smirnov distance at the published bin edges.  Means: a published histogram with our means
within its bins has a mean of its own.  Where the printed one is larger, it is of other runs than the histogram: later
ones.

References: Žunkovič & Ilievski 2024, Figs. 23, 26, 27.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from grokphase._checks import FloatArray
from grokphase.experiments._aligned import Estimate
from grokphase.experiments._aligned_figures import panel_of
from grokphase.experiments._framework import STANDARD_ERRORS, Comparison, compare_number, published_rows
from grokphase.experiments._legends import Legend, figure_of

__all__ = ["BETWEEN", "Histogram", "Row", "compare_mean", "distance", "implied_mean", "published_histogram"]

BETWEEN = 1e-6
"""Times are whole epochs: an edge that is one belongs to the right."""


class Row(NamedTuple):
    """One row of panels."""

    reach: int
    quantity: str

    @property
    def name(self) -> str:
        """As a coordinate."""
        return f"K={self.reach} {self.quantity}"


class Histogram(NamedTuple):
    """A published histogram: edges of its bins (bin + 1,), numbers of runs (bin,)."""

    edges: FloatArray
    counts: FloatArray

    @property
    def runs(self) -> int:
        """All runs in it."""
        return int(self.counts.sum())


@cache
def published_histogram(row: Row, regularisation: str, bond: int) -> Histogram:
    """The published histogram of one ensemble."""
    panel = f"K={row.reach} {row.quantity} {panel_of('fig23', row.reach, regularisation)}"
    bins = [
        (float(line["bin_left"]), float(line["bin_right"]), float(line["y"]))
        for line in published_rows(figure_of(row.quantity, row.reach))
        if (line["panel"], line["series"]) == (panel, f"d={bond}")
    ]
    left, right, counts = np.array(bins).T
    return Histogram(np.append(left, right[-1]), counts)


def distance(values: FloatArray, histogram: Histogram) -> float:
    """Largest difference of the cumulative distributions at the inner edges of a published histogram."""
    ours = _below(values, histogram.edges[1:-1]) / values.size
    return float(np.abs(ours - np.cumsum(histogram.counts)[:-1] / histogram.runs).max())


def implied_mean(values: FloatArray, histogram: Histogram) -> float:
    """Mean of a published histogram, if its runs lie within its bins as ours do (in the middle where we have none)."""
    place = np.searchsorted(histogram.edges[1:-1] - BETWEEN, values, side="right")
    inside = np.bincount(place, minlength=histogram.counts.size)
    middle = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    means = np.bincount(place, values, minlength=middle.size) / np.maximum(inside, 1)
    # Where our run is beyond the last edge, its mean would be, too.
    means = np.where(inside > 0, np.minimum(means, histogram.edges[1:]), middle)
    return float(histogram.counts @ means / histogram.runs)


def _below(values: FloatArray, edges: FloatArray) -> FloatArray:
    return np.searchsorted(np.sort(values), edges - BETWEEN).astype(float)


def compare_mean(name: str, printed: Legend, ours: Estimate, histogram: Estimate, who: str) -> Comparison:
    """A printed mean time beside ours, and beside that of the published histogram.

    ``ours``: with the standard error of both; ``histogram``: with the published one alone; ``who``: behind the means.
    """
    later = printed.value - histogram.value > STANDARD_ERRORS * histogram.stderr + printed.error
    return compare_number(
        name,
        printed.value,
        ours.value,
        reading_error=printed.error,
        stderr=ours.stderr,
        why=f"{who} (standard error of both means, the published one from our spread); the published histogram has a "
        f"mean of {histogram.value:.3g}" + (": the printed one is of other runs, later ones" if later else ""),
        erratum=bool(later and abs(histogram.value - ours.value) <= STANDARD_ERRORS * ours.stderr),
    )
