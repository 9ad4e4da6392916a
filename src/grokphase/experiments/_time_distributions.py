r"""What Figs. 23, 26 and 27 share: distributions of grokking and zero-test times over the published histograms.

Each row of a figure is one quantity, t_G or t_ε, of one reach K; its panels are the penalties, its colours the bond
dimensions.  :mod:`grokphase.experiments._times` says which runs the published histograms hold, and how runs that never
get there enter the survival curves, which the paper does not have.

How we judge.  Means: the published one has no error bar; it is estimated from our spread and the published number of
runs, and a difference is judged by both.  Distributions: the Kolmogorov-Smirnov distance at the published bin edges;
two samples of one law exceed what is allowed with probability 1e-3 at most.  Modes: Hartigans' dip test at level 1e-3.

References: Žunkovič & Ilievski 2024, Figs. 23, 26, 27.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import kstwobign

from grokphase._checks import FloatArray
from grokphase.experiments._aligned import Estimate
from grokphase.experiments._aligned_figures import PENALTIES
from grokphase.experiments._ensembles import BONDS, REGULARISATIONS, bonds_of, name_of, published
from grokphase.experiments._framework import (
    STANDARD_ERRORS,
    Comparison,
    Experiment,
    Progress,
    Scale,
    variable,
)
from grokphase.experiments._legends import legend, published_count
from grokphase.experiments._published_times import (
    BETWEEN,
    Histogram,
    Row,
    compare_mean,
    distance,
    implied_mean,
    published_histogram,
)
from grokphase.experiments._style import COLOURS, MUTED, legend_below, panel_title, panels, style
from grokphase.experiments._times import Times, latest, mean_of, restricted_mean, share_of, times_of

__all__ = ["FALSE_ALARM", "distribution_experiment"]

FALSE_ALARM = 1e-3
"""Of a Kolmogorov-Smirnov distance and of a dip test."""

CRITICAL = float(kstwobign.isf(FALSE_ALARM))
_GRID = 61  # points of a survival curve
_RUNS = ["zero_train_time", "zero_test_time", "last_time"]
SYMBOLS = {"t_G": "t_G", "t_eps": "t_ε"}
LABELS = {"t_G": "$t_G$", "t_eps": r"$t_\varepsilon$"}


# --- compute ---

_SUMMARY = {
    "runs": "runs of the ensemble",
    "kept": "runs that the published histogram would hold",
    "never": "share of runs that never reach zero test error",
    "never_stderr": "its standard error",
    "not_delayed": "share of runs that reach zero test error no later than zero training error",
    "not_delayed_stderr": "its standard error",
    "mean": "mean over the runs that the published histogram would hold",
    "mean_stderr": "its standard error",
    "spread": "standard deviation of these runs",
    "distance": "Kolmogorov-Smirnov distance of these runs to the published histogram",
    "distance_of_delayed": "the same of our runs with t_G > 0",
    "implied_mean": "mean of the published histogram, with our means within its bins",
    "horizon": "time at which the times of all runs are cut",
    "mean_of_all": "mean over all runs of the time cut there",
    "mean_of_all_stderr": "its standard error",
    "dip_p_value": "p-value of the dip test of unimodality, runs that the published histogram would hold",
    "dip_p_value_of_all": "p-value of the dip test of unimodality, all runs with both zero errors",
    "first_mode": "first mode of the former",
    "second_mode": "second mode of the former, if there is one",
}


def compute(
    rows: Sequence[Row],
    scale: Scale,
    rng: np.random.Generator,
    progress: Progress,
    runs: Mapping[str, xr.Dataset],
    members: int = 0,
    bonds: str = "",
) -> xr.Dataset:
    """Histograms, survival curves and summaries of all ensembles."""
    axes = (tuple(rows), tuple(REGULARISATIONS), bonds_of(scale, bonds))
    shape = tuple(len(axis) for axis in axes)
    summary = {name: np.full(shape, np.nan) for name in _SUMMARY}
    bins = published_histogram(rows[0], "none", BONDS[0]).counts.size
    counts = np.full((*shape, bins), np.nan)
    curves = {name: np.full((*shape, _GRID), np.nan) for name in ("survival", "low", "high", "kept_survival")}
    for place in np.ndindex(*shape):
        row, regularisation, bond = (axis[index] for axis, index in zip(axes, place, strict=True))
        times = times_of(runs[name_of(row.reach, regularisation, bond)][_RUNS].load())
        values = times.as_published(row.quantity, row.reach, regularisation)
        histogram = published_histogram(row, regularisation, bond) if bond in BONDS else None
        for name, value in _summary(times, values, row, regularisation, histogram, rng).items():
            summary[name][place] = value
        edges = published_histogram(row, regularisation, BONDS[0]).edges
        counts[place] = np.histogram(values, edges - BETWEEN)[0]
        for name, curve in _curves(times, values, row, regularisation).items():
            curves[name][place] = curve
        progress((np.ravel_multi_index(place, shape) + 1) / np.prod(shape))
    dims = ("row", "regularisation", "bond")
    return xr.Dataset(
        {
            "count": variable((*dims, "bin"), counts, "runs in a bin of the published histogram"),
            "survival": variable((*dims, "part"), curves["survival"], "share of all runs that are not there yet"),
            "survival_low": variable((*dims, "part"), curves["low"], "lower end of its 95 % interval"),
            "survival_high": variable((*dims, "part"), curves["high"], "upper end of its 95 % interval"),
            "kept_survival": variable(
                (*dims, "part"), curves["kept_survival"], "the same of the runs that the published histogram would hold"
            ),
            **{name: variable(dims, values, _SUMMARY[name]) for name, values in summary.items()},
        },
        coords={
            "row": ("row", [row.name for row in rows], {"long_name": "reach and quantity"}),
            "regularisation": ("regularisation", list(REGULARISATIONS), {"long_name": "penalty"}),
            "bond": variable("bond", axes[2], "bond dimension", "d"),
            "part": variable("part", np.linspace(0, 1, _GRID), "time as a part of the latest published time"),
        },
    )


def _summary(
    times: Times,
    values: FloatArray,
    row: Row,
    regularisation: str,
    histogram: Histogram | None,
    rng: np.random.Generator,
) -> dict[str, float]:
    never, not_delayed, mean = share_of(times.never), share_of(times.not_delayed), mean_of(values)
    horizon = _horizon(times, row.quantity, latest(row.quantity, row.reach, regularisation))
    of_all = restricted_mean(times.of(row.quantity), horizon)
    found = {
        "runs": len(times.test),
        "kept": values.size,
        **{"never": never.value, "never_stderr": never.stderr},
        **{"not_delayed": not_delayed.value, "not_delayed_stderr": not_delayed.stderr},
        **{"mean": mean.value, "mean_stderr": mean.stderr, "spread": values.std(ddof=1) if values.size > 1 else np.nan},
        **{"horizon": horizon, "mean_of_all": of_all.value, "mean_of_all_stderr": of_all.stderr},
    }
    if values.size and histogram is not None:
        found |= {"distance": distance(values, histogram), "implied_mean": implied_mean(values, histogram)}
        delayed = times.delayed(row.quantity, row.reach, regularisation)
        if delayed.size:
            found["distance_of_delayed"] = distance(delayed, histogram)
    if row.quantity == "t_G":
        kept, everyone = (times.modes(which, row.reach, regularisation, rng) for which in ("published", "reached"))
        if kept is not None:
            found |= {"dip_p_value": kept.p_value, "first_mode": kept.locations[0]}
            found |= {"second_mode": kept.locations[1]} if kept.bimodal else {}
        if everyone is not None:
            found["dip_p_value_of_all"] = everyone.p_value
    return found


def _horizon(times: Times, quantity: str, latest_published: float) -> float:
    """As far as the records go, but no further than the published times."""
    survival = times.survival(quantity)
    if survival is None:
        return latest_published
    return latest_published if survival.probability[-1] == 0 else min(latest_published, survival.horizon)


def _curves(times: Times, values: FloatArray, row: Row, regularisation: str) -> dict[str, FloatArray]:
    at = np.linspace(0, latest(row.quantity, row.reach, regularisation), _GRID)
    found = {}
    if values.size:
        found["kept_survival"] = 1 - np.searchsorted(np.sort(values), at, side="right") / values.size
    survival = times.survival(row.quantity)
    if survival is not None:
        place = np.searchsorted(survival.time, at, side="right") - 1
        known = (at <= survival.horizon) | (survival.probability[-1] == 0)
        for name, curve in (("survival", survival.probability), ("low", survival.low), ("high", survival.high)):
            found[name] = np.where(known, curve[np.maximum(place, 0)], np.nan)
    return found


# --- draw ---


def draw(rows: Sequence[Row], data: xr.Dataset) -> Figure:
    """Histograms over the published ones, and survival curves of all runs below."""
    columns = len(PENALTIES)
    with style():
        figure, axes = panels(columns, 2 * len(rows), height=1.75)
        for index, axis in enumerate(axes):
            line, column = divmod(index, columns)
            row, penalty = rows[line % len(rows)], list(PENALTIES)[column]
            here = data.sel(row=row.name, regularisation=penalty)
            panel_title(axis, index, _title(rows, row, penalty))
            axis.set_xlabel(LABELS[row.quantity])
            if line < len(rows):
                _draw_histograms(axis, row, penalty, here)
            else:
                _draw_survival(axis, row, penalty, here)
            if column == 0:
                axis.set_ylabel("share of runs" if line < len(rows) else "share not yet there")
        for number, bond in enumerate(BONDS):
            axes[0].plot([], [], color=COLOURS[number], label=f"$d = {bond}$")
        axes[0].fill_between([], [], color=MUTED, alpha=0.35, lw=0, label="published")
        axes[0].plot([], [], color=MUTED, ls="", marker="o", ms=2.5, label="published (below)")
        axes[0].plot([], [], color=MUTED, ls=(0, (1, 1)), label="ours, the published kind of runs")
        axes[0].plot([], [], color=MUTED, label="ours, all runs")
        legend_below(figure, axes[0], 4)
    return figure


def _title(rows: Sequence[Row], row: Row, penalty: str) -> str:
    return PENALTIES[penalty] + (f", $K = {row.reach}$" if len({row.reach for row in rows}) > 1 else "")


def _colour(bond: int) -> str:
    return COLOURS[BONDS.index(bond)] if bond in BONDS else COLOURS[len(BONDS)]


def _draw_histograms(axis: Axes, row: Row, penalty: str, here: xr.Dataset) -> None:
    """Shaded the published shares, outlined ours with two standard errors; bonds side by side in each bin."""
    slots = len(BONDS) + 1
    lowest = 1.0
    for number, bond in enumerate(BONDS):
        edges, counts = published_histogram(row, penalty, bond)
        width = np.diff(edges) / slots
        at = edges[:-1] + width * (number + 0.5)
        axis.bar(at, counts / counts.sum(), width, align="edge", color=_colour(bond), alpha=0.35, lw=0)
        lowest = min(lowest, 1 / counts.sum())
    texts = []
    for bond in here["bond"].values.tolist():
        one = here.sel(bond=bond)
        kept = float(one["kept"])
        if not kept:
            continue
        edges = published_histogram(row, penalty, BONDS[0]).edges
        width = np.diff(edges) / slots
        at = edges[:-1] + width * ((BONDS.index(bond) if bond in BONDS else len(BONDS) - 0.5) + 0.5)
        share = one["count"].to_numpy() / kept
        error = 2 * np.sqrt(share * (1 - share) / kept)
        some = share > 0
        axis.hlines(share[some], at[some], (at + width)[some], color=_colour(bond), lw=1.1)
        axis.vlines(
            (at + width / 2)[some],
            np.maximum(share - error, 1e-9)[some],
            (share + error)[some],
            color=_colour(bond),
            lw=0.7,
        )
        lowest = min(lowest, 1 / kept)
        texts.append((bond, _means(row, penalty, bond, one)))
    axis.set_yscale("log")
    axis.set_ylim(lowest / 2, 1.5 * 2.5 ** (len(texts) + 1))  # room for the texts
    axis.set_yticks(10.0 ** np.arange(np.ceil(np.log10(lowest)), 1))
    axis.minorticks_off()
    for line, (bond, text) in enumerate(texts):
        axis.text(
            0.98,
            0.97 - 0.1 * line,
            text,
            color=_colour(bond),
            fontsize=6,
            ha="right",
            va="top",
            transform=axis.transAxes,
        )


def _means(row: Row, penalty: str, bond: int, one: xr.Dataset) -> str:
    """Both means, ours with its standard error."""
    value, stderr = float(one["mean"]), float(one["mean_stderr"])
    ours = f"{value:.3f} ± {stderr:.3f}" if np.isfinite(stderr) else "–"
    if bond not in BONDS:
        return ours
    return f"{legend(row.quantity, row.reach, penalty, bond).value:.3f} printed, {ours}"


def _draw_survival(axis: Axes, row: Row, penalty: str, here: xr.Dataset) -> None:
    end = latest(row.quantity, row.reach, penalty)
    at = here["part"].to_numpy() * end
    for bond in BONDS:
        histogram = published_histogram(row, penalty, bond)
        left = 1 - np.cumsum(histogram.counts) / histogram.runs
        axis.plot(histogram.edges[1:], left, ls="", marker="o", ms=2.2, color=_colour(bond), alpha=0.8)
    for bond in here["bond"].values.tolist():
        one = here.sel(bond=bond)
        low, high = one["survival_low"].to_numpy(), one["survival_high"].to_numpy()
        axis.fill_between(at, low, high, color=_colour(bond), alpha=0.18, lw=0)
        axis.plot(at, one["survival"], color=_colour(bond), lw=1.1)
        axis.plot(at, one["kept_survival"], color=_colour(bond), lw=0.9, ls=(0, (1, 1)))
    axis.set_xlim(0, end)
    axis.set_ylim(0, 1)


def draw_published(rows: Sequence[Row]) -> Figure:
    """The published histograms alone, as bars side by side."""
    with style():
        figure, axes = panels(len(PENALTIES), len(rows), height=1.9)
        for index, axis in enumerate(axes):
            row, penalty = rows[index // len(PENALTIES)], list(PENALTIES)[index % len(PENALTIES)]
            for number, bond in enumerate(BONDS):
                edges, counts = published_histogram(row, penalty, bond)
                width = np.diff(edges) / (len(BONDS) + 1)
                at = edges[:-1] + width * (number + 0.5)
                axis.bar(at, counts, width, align="edge", color=_colour(bond), lw=0, label=f"$d = {bond}$")
                axis.axvline(legend(row.quantity, row.reach, penalty, bond).value, color=_colour(bond), lw=0.8, ls=":")
            panel_title(axis, index, _title(rows, row, penalty))
            axis.set_xlabel(LABELS[row.quantity])
            axis.set_ylabel("runs" if index % len(PENALTIES) == 0 else "")
        legend_below(figure, axes[0], len(BONDS))
    return figure


# --- compare ---

_CLAIMED = {1: (20,), 2: BONDS, 3: BONDS}
"""Bond dimensions for which a caption says so, by reach."""


def compare(rows: Sequence[Row], data: xr.Dataset) -> Sequence[Comparison]:
    """Means and distributions of the published kind of runs, what that kind leaves out, and modes."""
    found = []
    for row in rows:
        here = data.sel(row=row.name)
        for penalty in REGULARISATIONS:
            of_penalty = here.sel(regularisation=penalty)
            bonds = [bond for bond in of_penalty["bond"].values.tolist() if bond in BONDS]
            for bond in bonds:
                found += _on_distribution(row, penalty, bond, of_penalty.sel(bond=bond))
            if bonds:
                found.append(_on_everyone(row, penalty, of_penalty.sel(bond=bonds)))
            if row.quantity == "t_G" and penalty == "L2":
                found += [
                    _on_modes(row, bond, of_penalty.sel(bond=bond)) for bond in bonds if bond in _CLAIMED[row.reach]
                ]
    return found


def _on_distribution(row: Row, penalty: str, bond: int, one: xr.Dataset) -> list[Comparison]:
    name = f"{SYMBOLS[row.quantity]}, K={row.reach}, {penalty}, d={bond}"
    kept, spread = int(one["kept"]), float(one["spread"])
    count = published_count(row.quantity, row.reach, penalty, bond)
    if not np.isfinite(spread):
        return []
    histogram = published_histogram(row, penalty, bond)
    allowed = CRITICAL * np.sqrt(1 / kept + 1 / histogram.runs)
    apart, of_delayed, implied = (float(one[key]) for key in ("distance", "distance_of_delayed", "implied_mean"))
    return [
        compare_mean(
            f"mean {name}",
            legend(row.quantity, row.reach, penalty, bond),
            Estimate(float(one["mean"]), spread * float(np.sqrt(1 / kept + 1 / count))),
            Estimate(implied, spread / np.sqrt(histogram.runs)),
            f"{kept} of our {int(one['runs'])} runs are of the published kind, {count} were published",
        ),
        Comparison(
            f"distribution of {name}",
            f"{histogram.runs} runs",
            f"distance {apart:.3g}",
            f"{allowed:.2g} allowed",
            apart <= allowed,
            f"Kolmogorov-Smirnov distance at the published bin edges, false-alarm rate {FALSE_ALARM:g}"
            + (f"; our runs with t_G > 0 alone are at {of_delayed:.2g}" if np.isfinite(of_delayed) else ""),
        ),
    ]


def _on_everyone(row: Row, penalty: str, here: xr.Dataset) -> Comparison:
    """Whether the published means are those of all runs, too."""
    bonds = here["bond"].values.tolist()
    printed = np.array([legend(row.quantity, row.reach, penalty, bond).value for bond in bonds])
    value, stderr, horizon = (here[name].to_numpy() for name in ("mean_of_all", "mean_of_all_stderr", "horizon"))
    agrees = np.abs(value - printed) <= STANDARD_ERRORS * stderr
    shares = (
        f"{100 * float(late):.0f} and {100 * float(never):.0f} %"
        for late, never in zip(here["not_delayed"], here["never"], strict=True)
    )
    cut = ", ".join(f"{end:.2g}" for end in horizon)
    return Comparison(
        f"mean {SYMBOLS[row.quantity]} of all runs, K={row.reach}, {penalty}, d = {', '.join(map(str, bonds))}",
        ", ".join(f"{mean:.3f}" for mean in printed),
        ", ".join(f"{mean:.3f}" if np.isfinite(mean) else "unknown" for mean in value),
        "s.e. " + ", ".join(f"{error:.2g}" for error in stderr),
        bool(agrees.all()),
        f"published are means of runs that get there; of ours {'; '.join(shares)} have t_G ≤ 0 and never get there, "
        f"which here count as t_G = 0 and as censored; times are cut at {cut}",
    )


def _on_modes(row: Row, bond: int, one: xr.Dataset) -> Comparison:
    p_value, second, everyone = (float(one[name]) for name in ("dip_p_value", "second_mode", "dip_p_value_of_all"))
    bimodal = p_value < FALSE_ALARM
    modes = f", modes at {float(one['first_mode']):.2g} and {second:.2g}" if bimodal and np.isfinite(second) else ""
    return Comparison(
        f"is t_G bimodal? K={row.reach}, L2, d={bond}",
        "bimodal",
        f"{'bimodal' if bimodal else 'no second mode'} (p = {p_value:.2g}{modes})"
        if np.isfinite(p_value)
        else "no runs",
        f"level {FALSE_ALARM:g}",
        bimodal,
        f"dip test over {int(one['kept'])} runs of the published kind"
        + (f"; over all that reached both zero errors p = {everyone:.2g}" if np.isfinite(everyone) else ""),
    )


def distribution_experiment(name: str, rows: Sequence[tuple[int, str]], title: str, summary: str) -> Experiment:
    """The experiment of one figure of distributions; rows as (reach, quantity)."""
    lines = tuple(Row(*row) for row in rows)
    return Experiment(
        name=name,
        title=title,
        summary=summary,
        compute=partial(compute, lines),
        draw=partial(draw, lines),
        draw_published=partial(draw_published, lines),
        compare=partial(compare, lines),
        options={"members": 0, "bonds": ""},
        ensembles=partial(published, reaches=sorted({line.reach for line in lines})),
    )
