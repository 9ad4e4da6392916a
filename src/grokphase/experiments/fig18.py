r"""Figure 18: training and test error of single runs of the full student, bond dimension 10, rule 30.

Shown are runs chosen by rules.  Without penalty, of the runs that reach zero training and zero test error: that at the
quantile 0.9 of the grokking time ("long"), that at 0.1 ("short"), and the *typical* one, which of the selected runs
(:func:`grokphase.experiments._ensembles.selected`) is nearest to the medians of both times of these, by

    (ln t_train − ln median t_train)² + (ln t_ε − ln median t_ε)².

With a penalty: the typical one.  All runs are shown by their two times.

The recorded test error is that of one string of 1000 cells: it jumps to one where the string is wrong as a whole, since
the sign of contexts is carried along from cell to cell.  So the shown runs are trained again up to a while after t_ε,
and their test error is the mean over many strings (published: 1000).

Published times are read off the curves: the record of each run ends 401 epochs after zero test error; zero training
error is the first epoch with an error below 0.005, where about 1.5 % of the strings err (within 0.03).  Test errors are
fractions of wrong outputs here and in the published figure.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from grokphase import CellularAutomaton
from grokphase._checks import FloatArray
from grokphase.experiments import _structure as structure
from grokphase.experiments._ensembles import REGULARISATIONS, RULE, name_of, published, selected
from grokphase.experiments._framework import (
    Comparison,
    Curve,
    Ensemble,
    Experiment,
    Progress,
    Scale,
    compare_number,
    published_curves,
    variable,
)
from grokphase.experiments._style import colour, legend_below, panel_title, panels, published_panels, style

__all__ = ["EXPERIMENT", "nearest_to_medians"]

BOND = 10
QUANTILES = {"long": 0.9, "short": 0.1}
SHOWN = ("long", "typical", "short", "typical, L2", "typical, L1")
LEARNING_RATE = 0.005  # time between two epochs
LAST = 401  # epochs from zero test error to the end of a published record
ZERO_TRAIN = 0.005
CELLS, BEYOND = 1000, 0.5  # of a test string; time after zero test error for which runs are shown
STRINGS: dict[Scale, int] = {"quick": 128, "paper": 500}
MOMENTS: dict[Scale, int] = {"quick": 20, "paper": 60}
PLATEAU = 0.4  # test error at which the fall to zero begins


def ensembles(scale: Scale, seed: int, *, members: int = 0) -> dict[str, Ensemble]:
    """The ensembles of Fig. 19 with bond dimension 10."""
    return published(scale, seed, reaches=(1,), members=members, bonds=(BOND,))


def nearest_to_medians(train: FloatArray, test: FloatArray) -> int:
    """The place of the run whose two times are nearest to the medians, on a logarithmic scale."""
    distance = sum((np.log(times) - np.log(np.median(times))) ** 2 for times in (train, test))
    return int(np.argmin(distance))


def _typical(run: xr.Dataset) -> int:
    places = np.flatnonzero(selected(run))
    if not places.size:
        raise ValueError(f"members must be more: none of {run.sizes['member']} runs groks as the published ones do")
    train, test = (run[name].to_numpy()[places] for name in ("zero_train_time", "zero_test_time"))
    return int(places[nearest_to_medians(train, test)])


def _at_quantile(run: xr.Dataset, quantile: float) -> int:
    train, test = (run[name].to_numpy() for name in ("zero_train_time", "zero_test_time"))
    places = np.flatnonzero(np.isfinite(train) & np.isfinite(test))
    if not places.size:
        raise ValueError(f"members must be more: none of {run.sizes['member']} runs reaches both zero errors")
    order = places[np.argsort(test[places] - train[places], kind="stable")]
    return int(order[round(quantile * (order.size - 1))])


def compute(
    scale: Scale, rng: np.random.Generator, progress: Progress, runs: Mapping[str, xr.Dataset], *, members: int = 0
) -> xr.Dataset:
    """Five runs in full, and the times of all."""
    by_penalty = {name: runs[name_of(1, name, BOND)] for name in REGULARISATIONS}
    plain = by_penalty["none"]
    picked = {name: (plain, _at_quantile(plain, quantile)) for name, quantile in QUANTILES.items()}
    picked["typical"] = (plain, _typical(plain))
    picked |= {f"typical, {name}": (by_penalty[name], _typical(by_penalty[name])) for name in ("L2", "L1")}
    shown = []
    for name in SHOWN:
        shown.append(_curves(*picked[name], scale, rng))
        progress(len(shown) / len(SHOWN))
    data = xr.concat(shown, dim=xr.DataArray(list(SHOWN), dims="shown", name="shown"), join="outer")
    for key, text, symbol in (
        ("zero_train_time", "time of zero training error; infinite: never", "t_train"),
        ("zero_test_time", "time of zero test error; infinite: never", "t_ε"),
    ):
        times = np.array([run[key].to_numpy() for run in by_penalty.values()])
        data[key] = variable(("penalty", "run"), times, text, symbol)
    first = np.array([run["test_error"].isel(time=0).to_numpy() for run in by_penalty.values()], dtype=float)
    data["first_error"] = variable(("penalty", "run"), first, "test error of the first record", "E_test")
    return data.assign_coords(penalty=list(by_penalty))


def _curves(run: xr.Dataset, place: int, scale: Scale, rng: np.random.Generator) -> xr.Dataset:
    """One run: what was recorded, and its test error on many strings up to a while after zero test error."""
    one = run.isel(member=[place])
    (record,) = structure.records({str(run["member"].to_numpy()[place]): one})
    scenario = structure.scenario_of(run, ensembles, scale)
    step = scenario.record_every * scenario.learning_rate
    last = min(record.zero_test_time + BEYOND, record.time[-1])
    picked = np.unique(np.rint(np.linspace(step, last, MOMENTS[scale]) / step).astype(int)) - 1
    again = structure.trained_again(scenario, record, record.time[picked].tolist())
    many = np.full((2, MOMENTS[scale]), np.nan)
    for moment in range(picked.size):
        spins = rng.choice([-1, 1], size=(STRINGS[scale], CELLS))
        many[:, moment] = record.time[picked[moment]], _test_error(again.isel(snapshot=moment), spins)
    recorded = one.isel(member=0)
    return xr.Dataset(
        {
            "train_error": variable("time", recorded["train_error"].to_numpy(), "fraction of wrong training outputs"),
            "string_error": variable("time", recorded["test_error"].to_numpy(), "fraction of wrong cells of a string"),
            "moment_time": variable("moment", many[0], "times of the test error; NaN: none", "t"),
            "test_error": variable("moment", many[1], "fraction of wrong test outputs; NaN: none", "E"),
            "shown_train_time": variable((), float(recorded["zero_train_time"]), "time of zero training error", "t"),
            "shown_test_time": variable((), record.zero_test_time, "time of zero test error", "t_ε"),
            "shown_member": variable((), record.member, "number of the run in its ensemble"),
        },
        coords={"time": variable("time", run["time"].to_numpy(), "learning rate × epochs", "t")},
    )


def _test_error(snapshot: xr.Dataset, spins: NDArray[np.int64]) -> float:
    classifier = float(snapshot["snapshot_scale"]) * snapshot["snapshot_classifier"].to_numpy()
    scores = structure.attention_of(snapshot).scores(spins, classifier)
    return float(np.mean(~(scores * CellularAutomaton(RULE)(spins) > 0)))


def draw(data: xr.Dataset) -> Figure:
    """Five runs, and all of them by their two times."""
    with style():
        figure, axes = panels(3, 2, height=2.1)
        for index, (axis, name) in enumerate(zip(axes, SHOWN, strict=False)):
            run = data.sel(shown=name)
            axis.plot(run["time"], run["train_error"], color=colour(0), label="train")
            axis.plot(run["moment_time"], run["test_error"], color=colour(1), label="test (many strings)")
            axis.plot(run["time"], run["string_error"], color=colour(1), lw=0.6, alpha=0.45, label="test (one string)")
            for key, shade in (("shown_train_time", 0), ("shown_test_time", 1)):
                axis.axvline(float(run[key]), color=colour(shade), lw=0.6, ls=":")
            axis.set(xlabel="$t$", xlim=(0, float(run["shown_test_time"]) + BEYOND), ylim=(-0.03, 1.03))
            penalty = "no penalty" if index < 3 else name[-2:]
            panel_title(axis, index, f"{penalty}, {name.split(',')[0]} (run {int(run['shown_member'])})")
        for axis in axes[::3]:
            axis.set_ylabel("fraction of wrong outputs")
        _draw_times(axes[5], data)
        panel_title(axes[5], 5, "all runs that reach both")
        legend_below(figure, axes[0], 3)
    return figure


def _draw_times(axis: Axes, data: xr.Dataset) -> None:
    for index, name in enumerate(data["penalty"].to_numpy()):
        part = data.sel(penalty=name)
        axis.plot(*_reached(part), ".", ms=3, mew=0, color=colour(2 + index), label=name, rasterized=True)
    times = np.array([_published_times(panel) for panel in published_curves("fig18").values()])
    axis.plot(*times.T, "k*", ms=6, label="published", zorder=3)
    axis.axline((1, 1), slope=1, color="#999999", lw=0.6)
    for scale, each in ((axis.set_xscale, axis.xaxis), (axis.set_yscale, axis.yaxis)):
        scale("log")
        each.set_major_locator(LogLocator(10, (1, 2, 5)))
        each.set_major_formatter("{x:g}")
        each.set_minor_formatter(NullFormatter())
    axis.set_xlabel("zero-train time")
    axis.set_ylabel("zero-test time")
    axis.legend(fontsize=6, handletextpad=0.1)


def _reached(data: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    """Both times of the runs that reach both."""
    train, test = (data[name].to_numpy() for name in ("zero_train_time", "zero_test_time"))
    known = np.isfinite(train) & np.isfinite(test)
    return train[known], test[known]


def draw_published() -> Figure:
    """The published curves."""
    return published_panels(
        published_curves("fig18"),
        titles={"left": "left", "middle": "middle", "right": "right"},
        xlabel="$t$",
        ylabel="fraction of wrong outputs",
    )[0]


def _published_times(panel: Mapping[str, Curve]) -> tuple[float, float]:
    """Zero-train and zero-test time of a published run; see the module's header."""
    time, error = panel["train"]
    return float(time[np.argmax(error < ZERO_TRAIN)]), float(panel["test"][0][-1]) - LAST * LEARNING_RATE


def _fall(time: FloatArray, error: FloatArray, zero: float) -> float:
    """Time from the last test error of ``PLATEAU`` to zero, as part of the latter."""
    return 1 - float(time[np.flatnonzero((error >= PLATEAU) & (time < zero))[-1]]) / zero


def _shown_fall(run: xr.Dataset) -> float:
    return _fall(run["moment_time"].to_numpy(), run["test_error"].to_numpy(), float(run["shown_test_time"]))


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The published runs among ours, and the statements on grokking."""
    curves = published_curves("fig18")
    plain = data.sel(penalty="none")
    train, test = _reached(plain)
    ours = {"zero-train time": train, "zero-test time": test}
    rows = []
    for panel, run in curves.items():
        for (name, values), theirs in zip(ours.items(), _published_times(run), strict=True):
            rows.append(_place(f"{name}, {panel} panel", theirs, values))
    return [*rows, *_claims(data, curves)]


def _place(quantity: str, published: float, ours: FloatArray) -> Comparison:
    return Comparison(
        quantity,
        f"{published:.3g}",
        f"{np.mean(ours < published):.0%} of our runs are faster",
        f"{ours.size} runs from {ours.min():.2g} to {ours.max():.3g}",
        bool(ours.min() <= published <= ours.max()),
        f"one published run among ours without penalty; a run like ours is outside with probability 2/{ours.size + 1}",
    )


def _claims(data: xr.Dataset, curves: Mapping[str, Mapping[str, Curve]]) -> list[Comparison]:
    plain = data.sel(penalty="none")
    train, test = _reached(plain)
    later, late = float(np.mean(test > train)), float(np.mean(test > 2 * train))
    error = float(np.sqrt(later * (1 - later) / test.size))
    runs = plain.sizes["run"]
    first = plain["first_error"].to_numpy()
    falls = [_fall(*panel["test"], _published_times(panel)[1]) for panel in curves.values()]
    ours = [_shown_fall(data.sel(shown=name)) for name in SHOWN[:3]]
    published_first = np.array([panel["test"][1][0] for panel in curves.values()])
    smallest = min(float(panel["train"][1][panel["train"][1] > 0].min()) for panel in curves.values())
    return [
        Comparison(
            "grokking: test error zero later than training error",
            "typical",
            f"{later:.0%} of {test.size} runs that reach both ({late:.0%}: at twice the time or later); "
            f"{1 - test.size / runs:.0%} of all runs never do",
            f"s.e. {error:.1%}",
            later - 2 * error > 0.5,
            "agrees if it holds for more than half of the runs by two standard errors; in the others the test error "
            "vanishes in the same epoch or before, as in the right panel",
        ),
        Comparison(
            "test error zero before or with the training error",
            "in the right panel",
            f"in {1 - later:.0%} of the runs",
            f"s.e. {error:.1%}",
            later < 1,
            "zero is a threshold, and training errors are means over an epoch; the published averages leave these out",
        ),
        Comparison(
            f"fall of the test error from {PLATEAU:g} to zero, as part of the zero-test time",
            f"very short: {_listed(falls)}",
            f"{_listed(ours)} ({', '.join(SHOWN[:3])})",
            "one run each",
            max(ours) < 0.5,
            "agrees if all runs shown spend more than half of the time on the plateau; in the long run a few "
            "outputs in a hundred are wrong up to the end",
        ),
        compare_number(
            "test error at the beginning",
            float(published_first.mean()),
            float(first.mean()),
            stderr=float(first.std() * np.sqrt(1 / first.size + 1 / published_first.size)),
            why="a student that has learned nothing is right in half of the cells, give or take its own bias",
        ),
        Comparison(
            "smallest positive training error of the figure",
            "at least 1/2048 = 4.88e-4",
            f"{smallest:.3g} = {smallest * 10240:.2f}/10240",
            "1e-7",
            smallest > 1 / 2048 - 1e-7,
            "the caption says all inputs of size 8, 256 · 8 = 2048 cells; one cell in 10240 is one in 8 minibatches "
            "of 128 strings of length 10: training was on random lengths",
            erratum=True,
        ),
    ]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


EXPERIMENT = Experiment(
    name="fig18",
    title="Training and test error of single runs",
    summary=(
        "Students of bond dimension 10 learn attention and classifier together. The test error stays at one half, then "
        "falls: together with the training error in many runs, later and more slowly in others. "
        "Two more runs are trained with penalties. Stars are the three published runs, which have none."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"members": 0},
    ensembles=ensembles,
)
