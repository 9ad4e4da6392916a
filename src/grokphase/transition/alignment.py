r"""Averages over runs at equal distance from their transition, and what the alignment itself does to them.

Object.  For a variable x recorded by every member, the mean over members of x(t_m + s) at an offset s from each
member's own time t_m (for t_m the zero-test time: Figs. 13, 15, 19, 20, 24 and 25).  The alternative is the mean at
a fixed time, over all members, also those that never grok.

Selection.  Aligning picks out, for every run, a moment at which its error is exceptionally low (the first zero), so
that just before it the mean is too large: where the recorded error fluctuates, by counting a finite test set or by
noise of the training, it becomes zero too early.  The alignment at the beginning of the *last* stretch of zeros has
t_m no earlier, and no later than the true transition if the true error stays zero after it.  The difference of the
two means ("first" minus "final") over the same runs is reported as ``selection_bias``: for an error that falls on
average it is a lower bound of how much too large the mean at "first" is.  Zero for an error that never comes back.

Conventions.  Between records values are interpolated linearly, before the first and after the last there are none;
the offsets are whole multiples of the sampling step, so that equally spaced records are used as they are.
``count`` members enter at each offset, and who enters changes with it: offsets that fewer than half of the members
reach are left out by default.

References: Žunkovič & Ilievski 2024, Secs. 4.3.1 and 4.3.2.
"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, real_array
from grokphase.transition.zero_times import CensoredTimes, zero_times

__all__ = ["aligned_means", "fixed_time_means"]

_MOST_OFFSETS = 4000


def aligned_means(
    runs: xr.Dataset, times: CensoredTimes, about: str, tolerance: float, offsets: ArrayLike | None
) -> xr.Dataset:
    """Means at offsets from the given times; see :meth:`Transition.aligned`."""
    members = np.flatnonzero(times.reached)
    if not members.size:
        raise ValueError(f"no run reached its {about}: there is nothing to align at")
    time = runs["time"].to_numpy().astype(np.float64)
    recorded = {name: runs[name].to_numpy()[members].astype(np.float64) for name in _variables(runs)}
    if offsets is None:
        grid = _offsets(time, recorded["test_error"], times.value[members])
    else:
        grid = real_array("offsets", offsets, ndim=1)
        if grid.ndim != 1 or (np.diff(grid) <= 0).any():
            raise ValueError("offsets must be a one-dimensional, ascending list of numbers")

    out: dict[str, Any] = {}
    test = np.empty(0)
    for name, values in recorded.items():
        shifted = _shifted(time, values, times.value[members], grid)
        test = shifted if name == "test_error" else test
        out |= _mean(name, shifted, "offset", runs[name].attrs)
    out["count"] = ("offset", np.count_nonzero(~np.isnan(test), axis=0), {"long_name": "members", "units": "1"})
    out |= _selection_bias(time, recorded["test_error"], tolerance, grid)
    units = runs["time"].attrs.get("units", "1")
    axis = ("offset", grid, {"long_name": f"time since {about.replace('_', ' ')}", "units": units})
    return xr.Dataset(out, coords={"offset": axis}, attrs={"about": about, "runs": members.size})


def fixed_time_means(runs: xr.Dataset) -> xr.Dataset:
    """Means over all members at every recorded time; see :meth:`Transition.aligned`."""
    out: dict[str, Any] = {}
    for name in _variables(runs):
        out |= _mean(name, runs[name].to_numpy().astype(np.float64), "time", runs[name].attrs)
    count = np.count_nonzero(~np.isnan(runs["test_error"].to_numpy()), axis=0)
    out["count"] = ("time", count, {"long_name": "members", "units": "1"})
    return xr.Dataset(out, coords={"time": runs["time"]}, attrs={"about": "fixed_time", "runs": runs.sizes["member"]})


def _variables(runs: xr.Dataset) -> list[str]:
    return [str(name) for name, values in runs.data_vars.items() if values.dims == ("member", "time")]


def _mean(name: str, values: FloatArray, dimension: str, attributes: dict[Any, Any]) -> dict[str, Any]:
    """Mean over members and its standard error; both NaN where nothing is recorded, as xarray marks missing values."""
    present = ~np.isnan(values)
    count = np.count_nonzero(present, axis=0)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.where(count, count, np.nan)
    squares = (np.where(present, values - mean, 0.0) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        stderr = np.where(count > 1, np.sqrt(squares / ((count - 1.0) * count)), np.where(count == 1, np.inf, np.nan))
    return {
        name: (dimension, mean, {**attributes, "cell_methods": "mean over members"}),
        f"{name}_stderr": (dimension, stderr, {"units": attributes.get("units", "1")}),
    }


def _offsets(time: FloatArray, error: FloatArray, aligned_at: FloatArray) -> FloatArray:
    """Multiples of the sampling step from and to where half of the members have records."""
    recorded = ~np.isnan(error)
    first = time[recorded.argmax(axis=1)]
    last = time[time.size - 1 - recorded[:, ::-1].argmax(axis=1)]
    used = time[recorded.any(axis=0)]
    step = float(np.median(np.diff(used))) if used.size > 1 else 1.0
    before, after = np.median(aligned_at - first), np.median(last - aligned_at)
    step *= max(1.0, np.ceil((before + after) / step / _MOST_OFFSETS))
    slack = 1e-9  # a distance of whole steps stays whole
    return step * np.arange(-np.floor(before / step + slack), np.floor(after / step + slack) + 1)


def _shifted(time: FloatArray, values: FloatArray, aligned_at: FloatArray, grid: FloatArray) -> FloatArray:
    """Values at the offsets, shape (member, offset); NaN outside the record."""
    out = np.full((len(values), grid.size), np.nan)
    rounding = 8 * np.finfo(float).eps * max(float(np.abs(time).max()), 1.0)
    for row, series, moment in zip(out, values, aligned_at, strict=True):
        kept = ~np.isnan(series)
        if not kept.any():
            continue
        known, records = time[kept], series[kept]
        moments = moment + grid
        inside = (moments >= known[0] - rounding) & (moments <= known[-1] + rounding)
        row[inside] = np.interp(_snapped(moments[inside], known, rounding), known, records)
    return out


def _snapped(moments: FloatArray, known: FloatArray, rounding: float) -> FloatArray:
    """Moments on the nearest record where they agree up to rounding: there the recorded value itself is meant."""
    place = np.clip(np.searchsorted(known, moments), 1, known.size - 1) if known.size > 1 else np.zeros(1, np.intp)
    nearest = known[place] if known.size == 1 else _nearer(moments, known, place)
    return np.where(np.abs(moments - nearest) <= rounding, nearest, moments)


def _nearer(moments: FloatArray, known: FloatArray, place: NDArray[np.intp]) -> FloatArray:
    left, right = known[place - 1], known[place]
    return np.where(moments - left < right - moments, left, right)


def _selection_bias(time: FloatArray, error: FloatArray, tolerance: float, grid: FloatArray) -> dict[str, Any]:
    first, final = (zero_times(time, error, tolerance, which) for which in ("first", "final"))
    both = first.reached & final.reached
    early = _shifted(time, error[both], first.value[both], grid)
    late = _shifted(time, error[both], final.value[both], grid)
    out = _mean("selection_bias", early - late, "offset", {"units": "1"})
    out["selection_bias"][2]["long_name"] = "mean test error aligned at the first zero minus at the last return to zero"
    return out
