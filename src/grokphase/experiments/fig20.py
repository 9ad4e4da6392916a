r"""Figure 20: mean effective dimension of the full student about its transition, K = 1.  Figure 25: K = 2 and 3.

The effective dimension D_eff = exp(−Σ σ_k ln σ_k) of the left contexts, with σ the explained-variance ratios, of the
same runs as in Figs. 19 and 24, averaged at equal distance from each run's zero test time t_ε.  The horizontal line is
the average over bond dimensions of the smallest D_eff "of data with zero test error".

:mod:`grokphase.experiments._aligned` says who enters the means, which two readings of that line there are, and what the
standard errors hold.  Ours is D_eff of 500 contexts of one random string a run and record, the published one of ten
central sites of 1000 strings.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1 (the effective dimension), Figs. 20 and 25.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grokphase.experiments import _aligned as aligned
from grokphase.experiments import _aligned_figures as shared
from grokphase.experiments._ensembles import BONDS, name_of
from grokphase.experiments._framework import (
    Comparison,
    Curve,
    compare_number,
    published_curves,
)
from grokphase.experiments._style import COLOURS, MUTED, legend_below, panel_title, panels, style

__all__ = ["EXPERIMENT", "dimension_experiment"]

IF_NOT = {
    "before t_ε": "zeros that last for less than the four epochs between two of our records are missed, so that some "
    "of our t_ε are a little late; above ten, our D_eff of 500 contexts is low by some percent",
    "from t_ε on": "the difference is not explained; ours is of contexts of one string a run, the published of ten "
    "cells of 1000 strings",
}
READINGS = {
    "smallest": "each run's smallest while its error is zero",
    "lowest_mean": "smallest mean of the runs whose error is zero",
}


def smallest(here: xr.Dataset, reading: str) -> aligned.Estimate:
    """The smallest effective dimension of one panel, averaged over bond dimensions."""
    row = here.sel(selection="reached")
    values, errors = (row[name].to_numpy() for name in (reading, f"{reading}_stderr"))
    return aligned.Estimate(float(values.mean()), float(np.sqrt(np.sum(errors**2)) / errors.size))


def draw(figure_name: str, data: xr.Dataset) -> Figure:
    """The aligned means, and the smallest values."""
    curves = published_curves(figure_name)
    reaches, penalties = data["reach"].values.tolist(), [str(name) for name in data["regularisation"].values]
    with style():
        figure, axes = panels(len(penalties), len(reaches), height=2.1)
        for index, axis in enumerate(axes):
            reach, penalty = reaches[index // len(penalties)], penalties[index % len(penalties)]
            here = data.sel(reach=reach, regularisation=penalty)
            panel = curves[shared.panel_of(figure_name, reach, penalty)]
            _curves(axis, here, panel)
            _lines(axis, shared.printed(figure_name, reach, penalty, "all")[1], here)
            axis.axvline(0, color=MUTED, lw=0.6, zorder=0)
            shared.time_axis(axis, reach)
            axis.set_ylim(0, None)
            panel_title(axis, index, shared.title_of(penalty, reach, reaches))
        for axis in axes[:: len(penalties)]:
            axis.set_ylabel(r"effective dimension $D_{\mathrm{eff}}$")
        shared.explain_lines(axes[0], "published")
        legend_below(figure, axes[0], 5)
    return figure


def _curves(axis: Axes, here: xr.Dataset, published: Mapping[str, Curve]) -> None:
    at = here["offset"].to_numpy()
    for number, bond in enumerate(here["bond"].values):
        row = here.sel(bond=bond)
        mean, stderr = (row[name].sel(selection="reached").to_numpy() for name in ("dimension", "dimension_stderr"))
        known = shared.thinned(at, np.isfinite(mean))
        time, mean, half = at[known], mean[known], shared.BAND * stderr[known]
        axis.fill_between(time, mean - half, mean + half, color=COLOURS[number], alpha=0.25, lw=0)
        axis.plot(time, mean, color=COLOURS[number], label=f"$d = {bond}$")
        delayed = row["dimension"].sel(selection="delayed").to_numpy()
        known = shared.thinned(at, np.isfinite(delayed))
        axis.plot(at[known], delayed[known], color=COLOURS[number], lw=0.8, ls=shared.DELAYED, alpha=0.8)
        if f"d={bond}" in published:
            shared.draw_dashed(axis, published[f"d={bond}"], at, COLOURS[number])


def _lines(axis: Axes, published: float, here: xr.Dataset) -> None:
    """The smallest values; their numbers stand at the left, where the curves are far above."""
    axis.axhline(published, color=MUTED, lw=0.9, ls=shared.PUBLISHED, zorder=0)
    text, ours = f"smallest: {published:.2f} published", smallest(here, "smallest").value
    if np.isfinite(ours):
        axis.axhline(ours, color=MUTED, lw=0.9, zorder=0)
        bonds = here["bond"].values.tolist()
        of = "" if bonds == list(BONDS) else f" ($d = {', '.join(map(str, bonds))}$)"
        text += f", {ours:.2f} ours{of}"
    axis.text(0.03, 0.03, text, color="#555555", fontsize=6, transform=axis.transAxes)


def draw_published(figure_name: str, reaches: Sequence[int]) -> Figure:
    """The published curves and lines."""
    curves = published_curves(figure_name)

    def fill(axis: Axes, reach: int, penalty: str) -> None:
        panel = curves[shared.panel_of(figure_name, reach, penalty)]
        for number, (series, (x, y)) in enumerate(panel.items()):
            axis.plot(x, y, color=COLOURS[number], label=f"${series.replace('=', ' = ')}$")
        value, line = shared.printed(figure_name, reach, penalty, "all")
        label = rf"smallest $D_{{\mathrm{{eff}}}} = {value:.1f}$"
        axis.axhline(line, color=MUTED, lw=0.9, ls=shared.PUBLISHED, label=label)
        axis.set_ylim(0, None)

    return shared.draw_published_panels(reaches, r"effective dimension $D_{\mathrm{eff}}$", fill)


def compare(figure_name: str, data: xr.Dataset) -> Sequence[Comparison]:
    """The horizontal lines, if all bond dimensions are there, and the curves of every ensemble."""
    curves = published_curves(figure_name)
    rows: list[Comparison] = []
    if {int(bond) for bond in data["bond"].values} == set(BONDS):
        for reach in data["reach"].values:
            for penalty in data["regularisation"].values:
                rows += _compare_lines(figure_name, data, int(reach), str(penalty))
    for reach, penalty, bond in shared.ensembles_in(data):
        here = data.sel(reach=reach, regularisation=penalty, bond=bond)
        curve = shared.published_curve(curves, figure_name, reach, penalty, bond)
        runs = shared.published_runs(reach, penalty, bond)
        means = {
            selection: shared.means_to_compare(
                curve, here, "dimension", selection, runs=runs, doubled=False, fours=True
            )
            for selection in aligned.SELECTIONS
        }
        rows += shared.compare_both_sides(
            f"mean D_eff, {name_of(reach, penalty, bond)}",
            means,
            reading_error=shared.READING[figure_name],
            why=shared.composition(here),
            if_not=IF_NOT,
        )
    return rows


def _compare_lines(figure_name: str, data: xr.Dataset, reach: int, penalty: str) -> list[Comparison]:
    """One panel's horizontal line, read in two ways."""
    here = data.sel(reach=reach, regularisation=penalty)
    _, line = shared.printed(figure_name, reach, penalty, "all")
    counts = [
        (int(count), shared.published_runs(reach, penalty, int(bond)))
        for count, bond in zip(here["reached_count"].values, here["bond"].values, strict=True)
    ]
    rows = []
    for reading, words in READINGS.items():
        estimate = smallest(here, reading)
        if not np.isfinite(estimate.stderr):
            continue
        row = here.sel(selection="reached")
        both = [
            shared.pair_of_errors(float(stderr), *pair)
            for stderr, pair in zip(row[f"{reading}_stderr"].values, counts, strict=True)
        ]
        each = ", ".join(
            f"{float(value):.3f} (d = {int(bond)})" for value, bond in zip(row[reading], row["bond"], strict=True)
        )
        rows.append(
            compare_number(
                f"smallest D_eff, mean over d, K={reach}, {penalty}: {words}",
                line,
                estimate.value,
                reading_error=1e-3,
                stderr=float(np.sqrt(np.sum(np.square(both))) / len(both)),
                why=f"the caption allows both readings of the line; ours is the mean of {each}",
            )
        )
    return rows


dimension_experiment = partial(
    shared.aligned_experiment,
    measure=aligned.aligned_dimensions,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
)
"""The experiment of one figure of mean effective dimensions, from its name, reaches, title and summary."""

EXPERIMENT = dimension_experiment(
    "fig20",
    (1,),
    "Effective dimension about the transition",
    "How many directions the contexts of the trained attention use: as a run comes to its transition the number falls "
    "to a few, however many there is room for, and lower the stronger the penalty. (The runs are those of Fig. 19; "
    "bands are two standard errors, the horizontal line is the published smallest value.)",
)
