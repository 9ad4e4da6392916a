r"""Hartigans' dip: how far a sample is from every unimodal distribution.

Object.  The dip of a sample with empirical distribution function F is

    D = min over unimodal distribution functions U of  sup_x |F(x) − U(x)|,

where U is unimodal if it is convex left of some point, the mode, and concave right of it; at the mode it may
jump.  D vanishes only for a point mass; n distinct values have 1/(2n) ≤ D ≤ 1/4 for n ≥ 2.

Method (Hartigan & Hartigan).  Left of the mode U follows the greatest convex minorant of F, right of it the least
concave majorant, each shifted by D towards F.  Start with the whole range as modal interval; where minorant and
majorant are furthest apart lies the mode; cut the interval there, and keep the largest deviation of F from
the curve on what was cut off, until the two curves are nowhere further apart than that deviation.

Exact up to rounding, ties included.  (Common implementations give 1/(2n) where we give 0, to a sample whose
values all agree.)  The hulls are found by sweeps over the whole array that discard every point above the chord of
its neighbours, about log n of them for a sample; what is left when sweeps stop paying goes through a
monotone chain.  A million values take a fraction of a second, most of it sorting.

References: J. A. Hartigan & P. M. Hartigan, Ann. Statist. 13 (1985) 70-84; P. M. Hartigan, Appl. Statist. 34 (1985)
320-325 (AS 217).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, real_array

__all__ = ["Dip", "dip"]

_WORTHWHILE = 0.05  # a sweep that discards a smaller share of the points is the last one


class Dip(NamedTuple):
    """Dip of a sample; see :func:`dip`."""

    statistic: float
    modal_interval: tuple[float, float]
    departure: float


def dip(values: ArrayLike) -> Dip:
    """Hartigans' dip statistic.

    Parameters
    ----------
    values
        The sample, shape (samples,), in any order.

    Returns
    -------
    statistic
        D, from 0 to 1/4; unchanged by shifting, scaling and reflecting the values.
    modal_interval
        Where the best unimodal distribution has its mode.
    departure
        The value at which the sample is furthest from it: the far side of a second mode's bulk, as seen from the
        modal interval, is on the far side of this value.

    Raises
    ------
    ValueError
        If ``values`` is not a sample of at least one finite number.

    Examples
    --------
    Two equal point masses are as far from unimodal as a distribution can be:

    >>> dip([0, 0, 1, 1]).statistic
    0.25
    >>> dip([1, 2, 3, 4]).statistic
    0.125
    """
    sample = real_array("values", values, ndim=1)
    if sample.ndim != 1 or not sample.size:
        raise ValueError(f"values must have shape (samples,) with at least one sample, got shape {sample.shape}")
    return sorted_dip(np.sort(sample))


def sorted_dip(sample: FloatArray) -> Dip:
    """The same for a sample in ascending order, unchecked."""
    scale = max(abs(sample[0]), abs(sample[-1]), np.finfo(float).tiny)
    position = sample / scale
    position = position - position[0]  # in two steps, so that nothing overflows
    first = np.flatnonzero(np.diff(position, prepend=-1.0) > 0)
    x = position[first]
    below = first.astype(np.float64)  # number of values smaller than x: n F(x−)
    above = np.append(below[1:], sample.size)  # number of values up to x: n F(x)

    low, high, deviation, departure = 0, x.size - 1, 0.0, 0
    while low < high:
        here = slice(low, high + 1)
        minorant = low + _lower_hull(x[here], below[here])
        majorant = low + _lower_hull(x[here], -above[here])
        at_minorant = np.interp(x[minorant], x[majorant], above[majorant]) - below[minorant]
        at_majorant = above[majorant] - np.interp(x[majorant], x[minorant], below[minorant])
        if max(at_minorant.max(), at_majorant.max()) <= deviation:
            break
        if at_minorant.max() >= at_majorant.max():
            new_low = minorant[at_minorant.argmax()]
            new_high = majorant[np.searchsorted(majorant, new_low)]
        else:
            new_high = majorant[at_majorant.argmax()]
            new_low = minorant[np.searchsorted(minorant, new_high, side="right") - 1]
        left = above[low:new_low] - np.interp(x[low:new_low], x[minorant], below[minorant])
        right = np.interp(x[new_high + 1 : high + 1], x[majorant], above[majorant]) - below[new_high + 1 : high + 1]
        for part, start in ((left, low), (right, new_high + 1)):
            if part.size and part.max() > deviation:
                deviation, departure = part.max(), start + int(part.argmax())
        low, high = int(new_low), int(new_high)
    return Dip(
        statistic=float(deviation / (2 * sample.size)),
        modal_interval=(float(sample[first[low]]), float(sample[first[high]])),
        departure=float(sample[first[departure]]),
    )


def _lower_hull(x: FloatArray, y: FloatArray) -> NDArray[np.intp]:
    """Indices of the vertices of the greatest convex minorant of the points; x strictly ascending."""
    kept = np.arange(x.size)
    while kept.size > 2:
        run, rise = np.diff(x[kept]), np.diff(y[kept])
        # A point on or above the chord of its neighbours is no vertex, whether or not the neighbours are.
        convex = rise[:-1] * run[1:] < rise[1:] * run[:-1]
        discarded = kept.size - 2 - np.count_nonzero(convex)
        kept = kept[np.concatenate(([True], convex, [True]))]
        if not discarded:
            return kept
        if discarded < _WORTHWHILE * kept.size:
            return kept[_monotone_chain(x[kept].tolist(), y[kept].tolist())]
    return kept


def _monotone_chain(x: list[float], y: list[float]) -> list[int]:
    """The same, point by point: linear time whatever the points are."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            j, k = hull[-2], hull[-1]
            if (y[k] - y[j]) * (x[i] - x[k]) < (y[i] - y[k]) * (x[k] - x[j]):
                break
            hull.pop()
        hull.append(i)
    return hull
