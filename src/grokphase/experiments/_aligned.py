r"""Shared by Figs. 19, 20, 24 and 25: means over runs at equal distance from their zero test time t_ε.

Runs.  "reached": all that reach zero test error.  "delayed": of these, the ones with t_G > 0 that are not too late
(:func:`grokphase.experiments._ensembles.selected`).  The published averages fit the
former and not the latter: with 1000 runs of ours, K = 1 and d = 10, the mean error 0.5 before t_ε is 0.71(3) and
0.59(4) without penalty, the drawn one 0.703.  So the former are compared with the paper.

Left out of both is who is wrong nearly everywhere at t_ε: the published criterion, a large average domain size, counts
a string that is wrong in every cell as perfect.  The published mean error at t_ε is below 1.3e-4, so that no such run
was in any average.

Test error.  Within 32 epochs before t_ε it was recorded at every epoch; elsewhere every fourth, and what lies between
is interpolated.  Errors are fractions of wrong cells; the paper draws twice that, and so do we.

Exponent.  The printed ν is the slope of a straight line fitted to ln(mean error) against ln(t_ε − t) over a few epochs:
2 to 6 before t_ε for K = 1, 4 to 16 for K = 2, 22 to 30 for K = 3.  These windows are not in the paper; they are the
ones for which the published curves give the printed values.  So it is a slope there and then, not a limit at t_ε.

Effective dimension.  It was recorded every fourth epoch and has a kink at t_ε, so nothing is interpolated: a mean is
over the one record that each run has within four epochs, 4j..4j+3 from t_ε; the published curve is averaged over
the same four.  The dashed line is "the average of the minimal effective dimension of data with zero test error
(over all samples with fixed d)", averaged over d.  Read as each run's smallest value while its error is zero, then
averaged; or as the smallest value of the mean over those runs whose error is zero.  Both up to one unit of time after
t_ε, where the published curves end.

Standard errors: of means, from the scatter of the runs; of all else, by bootstrap over runs.  Those of the published
values are not given.  They are estimated from our scatter and the number of runs in the published histogram of t_ε (the
averages were over at least as many); a difference is judged by both together.  Where fewer than 20 of our runs err,
their scatter says little: taken is the largest possible for an error between 0 and 1 with the published mean.  What the
runs of an ensemble share, the lengths of their minibatches, is in no standard error.

References: Žunkovič & Ilievski 2024, Figs. 19, 20, 24, 25.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from grokphase import measure
from grokphase._checks import FloatArray
from grokphase.experiments._ensembles import REGULARISATIONS, name_of, selected
from grokphase.experiments._framework import variable
from grokphase.transition.zero_times import CensoredTimes

__all__ = [
    "COUNTS",
    "EARLIEST",
    "LATEST",
    "RARE",
    "RATE",
    "SELECTIONS",
    "WINDOWS",
    "Estimate",
    "aligned_dimensions",
    "aligned_errors",
    "log_log_slope",
]

SELECTIONS = ("reached", "delayed")
WINDOWS = {1: (2, 6), 2: (4, 16), 3: (22, 30)}
"""First and last epoch before t_ε of the fit of ν, by reach."""

EARLIEST = {1: 0.5, 2: 0.5, 3: 1.0}
"""Time before t_ε at which the published curves begin, by reach."""

LATEST = 1.0
RATE = 0.005  # time of an epoch
STEP = 0.02  # time between two records
FEWEST = 8  # runs behind a mean
RARE = 20  # erring runs below which their scatter says little
REPLICATES = 1000
_MIDDLE = 1.5 * RATE  # of four epochs
_WRONG_EVERYWHERE = 0.5  # test error at t_ε


class Estimate(NamedTuple):
    """A value and its standard error; NaN and infinity where the runs do not determine it."""

    value: float
    stderr: float


def error_offsets(reach: int) -> FloatArray:
    """Times since t_ε at which mean errors are given: every epoch of the last 32 before, elsewhere every fourth."""
    records = np.arange(-round(EARLIEST[reach] / STEP), round(LATEST / STEP) + 1) * STEP
    epochs = np.arange(-32, 1) * RATE
    return np.round(np.concatenate([records[records < epochs[0] - RATE], epochs, records[records > 0]]), 6)


def dimension_offsets(reach: int) -> FloatArray:
    """Middles of the four epochs 4j..4j+3 from t_ε, as times."""
    groups = np.arange(-round(EARLIEST[reach] / STEP), round(LATEST / STEP))
    return np.round(groups * STEP + _MIDDLE, 6)


def _members(run: xr.Dataset) -> dict[str, NDArray[np.bool_]]:
    """Who enters the means, and who does not for which reason."""
    reached = np.isfinite(run["zero_test_time"].to_numpy())
    wrong = reached & (run["approach_error"].to_numpy()[:, 0] > _WRONG_EVERYWHERE)
    return {
        "reached": reached & ~wrong,
        "delayed": selected(run) & ~wrong,
        "never": ~reached,
        "wrong": wrong,
    }


def _aligned(run: xr.Dataset, offsets: FloatArray) -> xr.Dataset:
    """Means of the recorded curves at offsets from t_ε."""
    zero = run["zero_test_time"].to_numpy()
    times = CensoredTimes(value=zero, low=zero - RATE, high=zero, reached=np.ones(zero.size, bool))
    return replace(measure(run), zero_test_time=times).aligned(offsets=offsets)


def _mean(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean over members and its standard error, (columns,) each; NaN where there are fewer than FEWEST."""
    present = np.isfinite(values)
    count = present.sum(axis=0)
    enough = np.where(count >= FEWEST, count, np.nan)
    mean = np.where(present, values, 0).sum(axis=0) / enough
    squares = (np.where(present, values - mean, 0) ** 2).sum(axis=0)
    return mean, np.sqrt(squares / (enough - 1) / enough)


def log_log_slope(distance: NDArray[Any], error: FloatArray) -> FloatArray:
    """Least-squares slope of ln(error) against ln(distance), over the last axis; NaN where an error is zero.

    >>> log_log_slope(np.array([1.0, 2.0, 4.0]), np.array([3.0, 12.0, 48.0]))
    array(2.)
    """
    x = np.log(distance) - np.log(distance).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (np.log(error) @ x) / (x @ x)
    return np.where(np.isfinite(slope), slope, np.nan)


def _bootstrap(values: FloatArray, statistic: Callable[[FloatArray], FloatArray], rng: np.random.Generator) -> Estimate:
    """A statistic of sums over members (replicate, columns), of shape (replicate,), and its standard error."""
    runs = len(values)
    if runs < FEWEST:
        return Estimate(np.nan, np.inf)
    found = float(statistic(values.sum(axis=0)[None])[0])
    again = statistic(rng.multinomial(runs, np.full(runs, 1 / runs), size=REPLICATES) @ values)
    if not np.isfinite(found) or np.mean(~np.isfinite(again)) > 0.01:
        return Estimate(np.nan, np.inf)
    low, high = np.nanquantile(again, [0.1587, 0.8413])  # one standard deviation to each side; blind to far tails
    return Estimate(found, float(high - low) / 2)


def exponent(approach: FloatArray, reach: int, rng: np.random.Generator) -> Estimate:
    """The printed recipe for ν, from errors (member, epochs before t_ε)."""
    epochs = np.arange(WINDOWS[reach][0], WINDOWS[reach][1] + 1)
    errors, distance = approach[:, epochs], RATE * epochs
    return _bootstrap(
        errors[np.isfinite(errors).all(axis=1)].astype(float), lambda sums: log_log_slope(distance, sums), rng
    )


def _in_fours(run: xr.Dataset, name: str, offsets: FloatArray) -> FloatArray:
    """Each run's record within four epochs from t_ε, (member, offset), by the middle of these; NaN: there is none."""
    time, zero = run["time"].to_numpy(), run["zero_test_time"].to_numpy()
    first = np.searchsorted(time, zero - RATE / 2)  # the record at t_ε, or the next one
    places = first[:, None] + np.round((offsets - _MIDDLE) / STEP).astype(int)
    inside = (places >= 0) & (places < time.size)
    values = np.take_along_axis(run[name].to_numpy().astype(float), np.clip(places, 0, time.size - 1), axis=1)
    return np.where(inside, values, np.nan)


def smallest_dimensions(run: xr.Dataset, rng: np.random.Generator) -> dict[str, Estimate]:
    """The two readings of the smallest effective dimension (see the module's header)."""
    after = dimension_offsets(1)
    after = after[after > 0]
    dimension = _in_fours(run, "effective_dimension", after)
    good = np.isfinite(dimension) & (_in_fours(run, "test_error", after) == 0)
    some = good.any(axis=1)
    each = np.where(good, dimension, np.inf).min(axis=1)[some]
    own = Estimate(np.nan, np.inf)
    if each.size >= FEWEST:
        own = Estimate(float(each.mean()), float(each.std(ddof=1) / np.sqrt(each.size)))
    columns = dimension.shape[1]

    def smallest_mean(sums: FloatArray) -> FloatArray:
        total, count = sums[:, :columns], sums[:, columns:]
        return np.where(count >= FEWEST, total / np.maximum(count, 1), np.inf).min(axis=1)

    both = np.concatenate([np.where(good, dimension, 0), good], axis=1)
    return {"own": own, "mean": _bootstrap(both, smallest_mean, rng)}


def aligned_errors(
    runs: Mapping[str, xr.Dataset], reaches: Sequence[int], bonds: Sequence[int], rng: np.random.Generator
) -> xr.Dataset:
    """Mean test errors about t_ε, and exponents, of all ensembles."""
    found = _Table(reaches, bonds, error_offsets(max(reaches)))
    for key, run in found.each(runs):
        reach = key[0]
        offsets = error_offsets(reach)
        near = np.isin(offsets, np.round(-RATE * np.arange(33), 6))
        for selection in SELECTIONS:
            part = run.isel(member=_members(run)[selection])
            errors = part["approach_error"].to_numpy().astype(float)
            means = np.full((2, offsets.size), np.nan)
            means[:, near] = [values[::-1] for values in _mean(errors)]
            if part.sizes["member"]:
                far = _aligned(part, offsets[~near])
                values = np.array([far["test_error"], far["test_error_stderr"]])
                means[:, ~near] = np.where(far["count"].to_numpy() >= FEWEST, values, np.nan)
            found.put(selection, key, offsets, error=means[0], error_stderr=means[1])
            found.put(selection, key, offsets, **_named("exponent", exponent(errors, reach, rng)))
    return found.dataset(
        {
            "error": ("mean fraction of wrong cells", "E_test"),
            "error_stderr": ("its standard error", ""),
            "exponent": ("log-log slope of the mean error in the published window", "ν"),
            "exponent_stderr": ("its standard error", ""),
        }
    )


def aligned_dimensions(
    runs: Mapping[str, xr.Dataset], reaches: Sequence[int], bonds: Sequence[int], rng: np.random.Generator
) -> xr.Dataset:
    """Mean effective dimensions about t_ε, and the smallest ones, of all ensembles."""
    found = _Table(reaches, bonds, dimension_offsets(max(reaches)))
    for key, run in found.each(runs):
        offsets = dimension_offsets(key[0])
        for selection in SELECTIONS:
            part = run.isel(member=_members(run)[selection])
            dimension = _in_fours(part, "effective_dimension", offsets)
            mean, stderr = _mean(dimension)
            found.put(selection, key, offsets, dimension=mean, dimension_stderr=stderr)
            smallest = smallest_dimensions(part, rng)
            found.put(selection, key, offsets, **_named("smallest", smallest["own"]))
            found.put(selection, key, offsets, **_named("lowest_mean", smallest["mean"]))
    return found.dataset(
        {
            "dimension": ("mean effective dimension of the left contexts", "D_eff"),
            "dimension_stderr": ("its standard error", ""),
            "smallest": ("mean over runs of the smallest value while the error is zero", "D_eff"),
            "smallest_stderr": ("its standard error", ""),
            "lowest_mean": ("smallest mean over the runs whose error is zero", "D_eff"),
            "lowest_mean_stderr": ("its standard error", ""),
        }
    )


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_stderr": estimate.stderr}


class _Table:
    """Values by selection and ensemble (reach, regularisation, bond), filled one ensemble after the other."""

    def __init__(self, reaches: Sequence[int], bonds: Sequence[int], offsets: FloatArray) -> None:
        self.axes = (tuple(reaches), tuple(REGULARISATIONS), tuple(bonds))
        self.offsets = offsets
        self.values: dict[str, NDArray[Any]] = {}
        self.counts = {name: np.zeros(self.shape, int) for name in ("runs", *COUNTS)}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.axes)

    def each(self, runs: Mapping[str, xr.Dataset]) -> Any:
        """Every ensemble with its key; only what is needed is read."""
        for reach in self.axes[0]:
            for regularisation in self.axes[1]:
                for bond in self.axes[2]:
                    run = runs[name_of(reach, regularisation, bond)][_NEEDED].load()
                    key = (reach, regularisation, bond)
                    self.counts["runs"][self._place(key)] = run.sizes["member"]
                    for name, members in _members(run).items():
                        self.counts[name][self._place(key)] = members.sum()
                    yield key, run

    def put(self, selection: str, key: tuple[int, str, int], offsets: FloatArray, **values: Any) -> None:
        """Numbers, or arrays by offset."""
        for name, value in values.items():
            along = np.ndim(value) > 0
            shape = (len(SELECTIONS), *self.shape, *((self.offsets.size,) if along else ()))
            table = self.values.setdefault(name, np.full(shape, np.nan))
            row = table[(SELECTIONS.index(selection), *self._place(key))]
            if along:
                row[np.isin(self.offsets, offsets)] = value
            else:
                table[(SELECTIONS.index(selection), *self._place(key))] = value

    def dataset(self, names: Mapping[str, tuple[str, str]]) -> xr.Dataset:
        """With names and units."""
        dims = ("reach", "regularisation", "bond")
        variables: dict[str, Any] = {}
        for name, (text, symbol) in names.items():
            values = self.values[name]
            variables[name] = variable(("selection", *dims, "offset")[: values.ndim], values, text, symbol)
        for name, counts in self.counts.items():
            variables[f"{name}_count"] = variable(dims, counts, COUNTS.get(name, "runs of the ensemble"))
        coordinates = {
            "selection": ("selection", list(SELECTIONS), {"long_name": "which runs enter the means"}),
            "reach": variable("reach", self.axes[0], "cells the rule sees on each side", "K"),
            "regularisation": ("regularisation", list(self.axes[1]), {"long_name": "penalty"}),
            "bond": variable("bond", self.axes[2], "bond dimension", "d"),
            "offset": variable("offset", self.offsets, "time since zero test error", "t − t_ε"),
        }
        return xr.Dataset(variables, coordinates)

    def _place(self, key: tuple[Any, ...]) -> tuple[int, ...]:
        return tuple(axis.index(value) for axis, value in zip(self.axes, key, strict=True))


_NEEDED = [
    *("train_error", "test_error", "effective_dimension", "approach_error"),
    *("zero_train_time", "zero_test_time"),
]
COUNTS = {
    "reached": "runs that reach zero test error",
    "delayed": "those of them that do so later than zero training error, and in time",
    "never": "runs that do not reach zero test error",
    "wrong": "runs whose error counts as zero where they are wrong everywhere",
}
