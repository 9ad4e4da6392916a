r"""The table of the protocol study: what is measured on trained students, under every reading of how to measure it.

Readings, each with one choice of the published ones less than the one before:

- ``published``: the runs of the published histograms (:mod:`grokphase.experiments._times`); for ν and D_eff the runs
  that reach zero (:mod:`grokphase.experiments._aligned`).
- ``delayed``: of these, the runs whose test error is zero later than their training error by our clock, t_G > 0.
- ``all``: all runs.  Who never gets there is censored.
- ``error``: the same training runs, but zero error means that no cell is wrong in 1000 strings of 1000 cells, and in
  none of the minibatches of an epoch.  The published criterion counts an average domain size above 0.99 as zero.
- ``fixed``: as ``error``, and zero training error means that no input of length 10 is wrong at the parameters of one
  moment, instead of an average over minibatches that were each seen at other parameters.
- ``all-inputs``: the preset of that name: every step sees all inputs of length 8, boundary vectors are trained, zero
  means no wrong cell.  Its times are given in the published unit, 1600 steps; after 8000 a run is given up.

Statistics, each with its standard error: mean t_ε and t_G of the first two readings; in all readings, so that they
can be compared, the means of min(t_ε, τ) and of min(max(t_G, 0), τ) with the same τ for all penalties
(:data:`HORIZON`); ν by the published recipe; the smallest D_eff; the fall of D_eff over the last 0.1 before t_ε, and
how much larger it is than over the 0.1 before; shares of runs that never reach zero, that have t_G ≤ 0, and that are
wrong everywhere where their error counts as zero; the dip test's p-value of t_G.  Beside them ν by a fit that may
refuse (:mod:`grokphase.transition.exponent`), on the records of every epoch where there are any.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, App. D.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from grokphase import ShortScalingWindow, measure
from grokphase._checks import FloatArray, choice, integer
from grokphase.experiments._aligned import RATE, Estimate, aligned_dimensions, aligned_errors
from grokphase.experiments._aligned_figures import published_curve
from grokphase.experiments._ensembles import BONDS, REGULARISATIONS, bonds_of, name_of, published
from grokphase.experiments._framework import SCALES, Ensemble, Scale, published_curves, variable
from grokphase.experiments._legends import figure_of, legends, published_count
from grokphase.experiments._published_times import Row, implied_mean, published_histogram
from grokphase.experiments._times import Times, mean_of, restricted_mean, share_of, times_of
from grokphase.training import Scenario

__all__ = [
    "HORIZON",
    "READINGS",
    "STATISTICS",
    "ensembles",
    "fill",
    "reaches_of",
    "with_printed",
]

READINGS = {
    "published": "the published kind of runs",
    "delayed": "only runs with t_G > 0",
    "all": "all runs",
    "error": "all runs, no wrong cell",
    "fixed": "all runs, no wrong cell, training error at fixed parameters",
    "all-inputs": "all inputs in every step",
}
STATISTICS = {
    "t_eps": "mean zero-test time",
    "t_G": "mean grokking time",
    "t_eps_cut": "mean zero-test time, cut where the shortest runs end",
    "t_G_cut": "mean delay of zero test error, cut before the shortest runs end",
    "t_eps_implied": "mean of the published histogram of t_ε, with our means within its bins",
    "t_G_implied": "mean of the published histogram of t_G, with our means within its bins",
    "nu": "log-log slope of the mean test error in the published window",
    "dimension": "smallest effective dimension while the error is zero, mean over runs",
    "fall": "fall of the effective dimension over the last 0.1 before t_ε",
    "sharpness": "that fall less the fall over the 0.1 before",
    "never": "share of runs that never reach zero test error",
    "not_delayed": "share of runs with t_G ≤ 0",
    "wrong": "share of runs whose error counts as zero where they are wrong everywhere",
    "dip": "p-value of the dip test of t_G",
}
HORIZON = {"t_eps": 3.0, "t_G": 2.0}
"""τ of the restricted means: the shortest runs, those with L1, end at 3."""

VARIANT_MEMBERS: dict[Scale, int] = {"quick": 16, "paper": 200}
VARIANT_REACH = 1
EXACT_LENGTH = 10
CLEAN = {"duration": 40.0, "observe": 8.0}  # 8000 and 1600 steps
CLEAN_UNIT = 8.0  # epochs of one step in a published epoch
_FALL = 0.1
_WRONG_EVERYWHERE = 0.5  # test error at t_ε
ACCEPTED = "accepted"

Key = tuple[int, str, int]


# --- ensembles ---


def reaches_of(scale: Scale, reaches: str = "") -> tuple[int, ...]:
    """Reaches K as text ("1,3"); where there are none, what the scale says.

    >>> reaches_of("quick"), reaches_of("paper"), reaches_of("quick", "1, 3")
    ((1,), (1, 2, 3), (1, 3))
    """
    choice("scale", scale, SCALES)
    words = reaches.replace(",", " ").split()
    if set(words) - {"1", "2", "3"} or len(set(words)) < len(words):
        raise ValueError(f"reaches must be different numbers out of 1, 2, 3, such as '1,2', got {reaches!r}")
    return tuple(int(word) for word in words) or ((1, 2, 3) if scale == "paper" else (1,))


def _variant(kind: str, key: Key) -> str:
    return f"{name_of(*key)}, {'no wrong cell' if kind == 'error' else 'all inputs'}"


def ensembles(scale: Scale, seed: int, members: int = 0, reaches: str = "", bonds: str = "") -> dict[str, Ensemble]:
    """The published ensembles, and for K = 1 two smaller variants of each."""
    found = published(scale, seed, reaches=reaches_of(scale, reaches), members=members, bonds=bonds)
    size = VARIANT_MEMBERS[scale]
    size = min(size, integer("members", members) or size)
    for key in _keys(reaches_of(scale, reaches), bonds_of(scale, bonds)):
        if key[0] != VARIANT_REACH:
            continue
        scenario = found[name_of(*key)].scenario
        strict = scenario.replace(members=size, zero="error", exact_lengths=(EXACT_LENGTH,), record_every=1)
        clean = Scenario(
            scenario.rule,
            scenario.bond,
            l1=scenario.l1,
            l2=scenario.l2,
            members=size,
            seed=seed,
            protocol="all-inputs",
            **CLEAN,
        )
        found |= {_variant("error", key): Ensemble(strict), _variant("all-inputs", key): Ensemble(clean)}
    return found


def _keys(reaches: Sequence[int], bonds: Sequence[int]) -> list[Key]:
    return [(reach, penalty, bond) for reach in reaches for penalty in REGULARISATIONS for bond in bonds]


# --- the table ---


class _Table:
    """Estimates by statistic, reading and ensemble; NaN: not measured there."""

    def __init__(self, readings: Sequence[str], reaches: Sequence[int], bonds: Sequence[int]) -> None:
        self.axes = (tuple(STATISTICS), tuple(readings), tuple(reaches), tuple(REGULARISATIONS), tuple(bonds))
        shape = tuple(len(axis) for axis in self.axes)
        self.value, self.stderr, self.count = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, int)

    def put(self, statistic: str, reading: str, key: Key, estimate: Estimate, count: int) -> None:
        """An estimate and the number of runs behind it."""
        if not np.isfinite(estimate.stderr):
            return
        wanted = (statistic, reading, *key)
        place = tuple(axis.index(one) for axis, one in zip(self.axes, wanted, strict=True))
        self.value[place], self.stderr[place], self.count[place] = *estimate, count

    def dataset(self) -> xr.Dataset:
        """With names and units."""
        dims = ("statistic", "reading", "reach", "regularisation", "bond")
        return xr.Dataset(
            {
                "value": variable(dims, self.value, "value of a statistic"),
                "stderr": variable(dims, self.stderr, "its standard error"),
                "count": variable(dims, self.count, "runs behind it"),
            },
            coords={
                "statistic": ("statistic", list(self.axes[0]), {"long_name": "what is measured"}),
                "reading": ("reading", list(self.axes[1]), {"long_name": "how, and on which runs"}),
                "reach": variable("reach", self.axes[2], "cells the rule sees on each side", "K"),
                "regularisation": ("regularisation", list(self.axes[3]), {"long_name": "penalty"}),
                "bond": variable("bond", self.axes[4], "bond dimension", "d"),
            },
        )


def fill(
    runs: Mapping[str, xr.Dataset],
    reaches: Sequence[int],
    bonds: Sequence[int],
    rng: np.random.Generator,
    progress: Callable[[float], None],
) -> xr.Dataset:
    """Measure everything.

    Returns
    -------
    table
        ``value``, ``stderr`` and ``count`` (statistic, reading, reach, regularisation, bond); ``exponent``,
        ``exponent_low``, ``exponent_high`` and ``exponent_outcome`` (reach, regularisation, bond) of the proper fit.
    """
    table = _Table(list(READINGS), reaches, bonds)
    keys = _keys(reaches, bonds)
    fits = {}
    for number, key in enumerate(keys):
        _put_published(table, key, runs[name_of(*key)], rng)
        proper = runs[name_of(*key)]
        if key[0] == VARIANT_REACH:
            proper = runs[_variant("error", key)]
            _put_variants(table, key, proper, _in_published_units(runs[_variant("all-inputs", key)]), rng)
        fits[key] = _proper_fit(proper)
        progress((number + 1) / len(keys))
    _put_aligned(table, {"published": "reached", "delayed": "delayed"}, runs, reaches, bonds, rng)
    if VARIANT_REACH in reaches:
        ours = _keys((VARIANT_REACH,), bonds)
        strict = {name_of(*key): runs[_variant("error", key)] for key in ours}
        _put_aligned(table, {"error": "reached"}, strict, (VARIANT_REACH,), bonds, rng)
        clean = {name_of(*key): _in_published_units(runs[_variant("all-inputs", key)]) for key in ours}
        _put_aligned(table, {"all-inputs": "reached"}, clean, (VARIANT_REACH,), bonds, rng, ("dimension",))
    dims = ("reach", "regularisation", "bond")
    shape = (len(reaches), len(REGULARISATIONS), len(bonds))
    columns = [np.array(column).reshape(shape) for column in zip(*(fits[key] for key in keys), strict=True)]
    return table.dataset().assign(
        exponent=variable(dims, columns[0], "exponent of the fit that may refuse; NaN: it did", "ν"),
        exponent_low=variable(dims, columns[1], "lower end of its 95 % interval"),
        exponent_high=variable(dims, columns[2], "upper end of its 95 % interval"),
        exponent_outcome=variable(dims, columns[3], "why it refused"),
    )


def _put_published(table: _Table, key: Key, run: xr.Dataset, rng: np.random.Generator) -> None:
    times = times_of(run)
    for statistic, end in HORIZON.items():
        for reading, values in (
            ("published", times.as_published(statistic, key[0], key[1])),
            ("delayed", times.delayed(statistic, key[0], key[1])),
        ):
            table.put(statistic, reading, key, mean_of(values), values.size)
            kept = times.of(statistic).value[times.kind(reading, statistic, key[0], key[1])]
            table.put(f"{statistic}_cut", reading, key, mean_of(np.clip(kept, 0.0, end)), kept.size)
        _put_implied(table, key, statistic, times.as_published(statistic, key[0], key[1]))
    _put_all_runs(table, "all", key, times, run)
    _put_modes(table, "published", key, times, "published", rng)
    _put_modes(table, "all", key, times, "reached", rng)
    _put_falls(table, "published", key, run)


def _put_implied(table: _Table, key: Key, statistic: str, values: FloatArray) -> None:
    """Mean of the published histogram, with the standard error that our spread gives it."""
    if key[2] in BONDS and values.size > 1:
        histogram = published_histogram(Row(key[0], statistic), key[1], key[2])
        stderr = float(values.std(ddof=1) / np.sqrt(histogram.runs))
        estimate = Estimate(implied_mean(values, histogram), stderr)
        table.put(f"{statistic}_implied", "published", key, estimate, histogram.runs)


def _put_variants(table: _Table, key: Key, strict: xr.Dataset, clean: xr.Dataset, rng: np.random.Generator) -> None:
    for reading, times, run in (
        ("error", times_of(strict), strict),
        ("fixed", times_of(strict, _first_zero(strict)), None),
        ("all-inputs", times_of(clean), clean),
    ):
        _put_all_runs(table, reading, key, times, run)
        _put_modes(table, reading, key, times, "reached", rng)
        if run is not None:
            _put_falls(table, reading, key, run)


def _put_all_runs(table: _Table, reading: str, key: Key, times: Times, run: xr.Dataset | None) -> None:
    """What all runs say; without ``run`` only what the training error has a part in."""
    runs = len(times.test)
    for statistic, end in HORIZON.items():
        if run is not None or statistic == "t_G":
            table.put(f"{statistic}_cut", reading, key, restricted_mean(times.of(statistic), end), runs)
    table.put("not_delayed", reading, key, share_of(times.not_delayed), runs)
    if run is not None:
        table.put("never", reading, key, share_of(times.never), runs)
        table.put("wrong", reading, key, share_of(run["approach_error"].to_numpy()[:, 0] > _WRONG_EVERYWHERE), runs)


def _put_modes(table: _Table, reading: str, key: Key, times: Times, values: str, rng: np.random.Generator) -> None:
    modes = times.modes(values, key[0], key[1], rng)
    if modes is not None:
        table.put("dip", reading, key, Estimate(modes.p_value, 0.0), len(times.test))


def _in_published_units(run: xr.Dataset) -> xr.Dataset:
    """A run whose epochs are single steps, with times in units of as many steps as the published ones."""
    scaled = {name: run[name] / CLEAN_UNIT for name in ("zero_train_time", "zero_test_time", "last_time")}
    return run.assign(scaled).assign_coords(time=run["time"] / CLEAN_UNIT)


def _first_zero(run: xr.Dataset) -> FloatArray:
    """First recorded time at which no input of the exact length is wrong; infinite: never."""
    zero = run["exact_error"].isel(length=0).to_numpy() == 0
    return np.where(zero.any(axis=1), run["time"].to_numpy()[zero.argmax(axis=1)], np.inf)


def _put_falls(table: _Table, reading: str, key: Key, run: xr.Dataset) -> None:
    """How D_eff falls before t_ε, over the runs that are right there and were recorded long enough before."""
    right = run["approach_error"].to_numpy()[:, 0] <= _WRONG_EVERYWHERE
    earlier, early, there = (_before_zero(run, distance)[right] for distance in (2 * _FALL, _FALL, 0.0))
    known = np.isfinite(earlier + early + there)
    fall, before = (early - there)[known], (earlier - early)[known]
    table.put("fall", reading, key, mean_of(fall), fall.size)
    table.put("sharpness", reading, key, mean_of(fall - before), fall.size)


def _before_zero(run: xr.Dataset, distance: float) -> FloatArray:
    """D_eff at the first record from ``distance`` before t_ε on, (member,); NaN: there is none."""
    time, wanted = run["time"].to_numpy(), run["zero_test_time"].to_numpy() - distance
    place = np.searchsorted(time, wanted - RATE / 2)
    inside = (wanted >= RATE / 2) & (place < time.size)
    values = np.take_along_axis(
        run["effective_dimension"].to_numpy().astype(float), np.minimum(place, time.size - 1)[:, None], axis=1
    )
    return np.where(inside, values[:, 0], np.nan)


def _put_aligned(
    table: _Table,
    selections: Mapping[str, str],
    runs: Mapping[str, xr.Dataset],
    reaches: Sequence[int],
    bonds: Sequence[int],
    rng: np.random.Generator,
    statistics: Sequence[str] = ("nu", "dimension"),
) -> None:
    """ν and the smallest D_eff by the published recipes."""
    thinned = {name: _every_fourth_epoch(run) for name, run in runs.items()}
    names = {"nu": "exponent", "dimension": "smallest"}
    measures = {"nu": aligned_errors, "dimension": aligned_dimensions}
    found = {name: measures[name](thinned, reaches, bonds, rng) for name in statistics}
    for reading, selection in selections.items():
        for key in _keys(reaches, bonds):
            at = dict(zip(("reach", "regularisation", "bond"), key, strict=True))
            for statistic, data in found.items():
                row = data.sel(at | {"selection": selection})
                estimate = Estimate(*(float(row[names[statistic] + end]) for end in ("", "_stderr")))
                table.put(statistic, reading, key, estimate, int(row[f"{selection}_count"]))


def _every_fourth_epoch(run: xr.Dataset) -> xr.Dataset:
    """The records that the published preset keeps."""
    epochs = np.round(run["time"].to_numpy() / RATE).astype(int)
    return run if epochs[0] >= 4 else run.isel(time=epochs % 4 == 0)


def _proper_fit(run: xr.Dataset) -> tuple[float, float, float, str]:
    """Exponent, its interval, and how the fit went."""
    try:
        fit = measure(run[["train_error", "test_error"]].load()).exponent()
    except ShortScalingWindow as refusal:
        return np.nan, np.nan, np.nan, str(refusal)
    return fit.value, fit.low, fit.high, ACCEPTED


# --- what is printed ---


def with_printed(table: xr.Dataset) -> xr.Dataset:
    """The table with a further reading ``printed``: the paper's numbers, with the standard errors ours would give them.

    The printed smallest D_eff is a mean over bond dimensions and stands at each of them; the fall of D_eff is that of
    the published curves.
    """
    reaches, bonds = table["reach"].values.tolist(), table["bond"].values.tolist()
    printed = _Table(["printed"], reaches, bonds)
    for key in _keys(reaches, bonds):
        if key[2] not in BONDS:
            continue
        for statistic in ("t_eps", "t_G", "nu", "dimension", "fall", "sharpness"):
            value = _printed(statistic, key)
            ours = Estimate(*(float(_one(table[name], statistic, key)) for name in ("value", "stderr")))
            count = published_count(statistic, key[0], key[1], None if statistic == "dimension" else key[2])
            scale = np.sqrt(float(_one(table["count"], statistic, key)) / count)
            printed.put(statistic, "printed", key, Estimate(value, ours.stderr * scale), count)
    return xr.concat(
        [printed.dataset(), table[["value", "stderr", "count"]]], dim="reading", coords="minimal", compat="override"
    )


def _one(values: xr.DataArray, statistic: str, key: Key) -> xr.DataArray:
    reach, penalty, bond = key
    return values.sel(statistic=statistic, reading="published", reach=reach, regularisation=penalty, bond=bond)


def _printed(statistic: str, key: Key) -> float:
    if statistic in ("fall", "sharpness"):
        at = -np.array([2 * _FALL, _FALL, 0.0])
        curves = published_curves(figure_of("dimension", key[0]))
        earlier, early, there = np.interp(at, *published_curve(curves, figure_of("dimension", key[0]), *key))
        return float(early - there) if statistic == "fall" else float(early - there - (earlier - early))
    return legends()[statistic, key[0], key[1], None if statistic == "dimension" else key[2]].value
