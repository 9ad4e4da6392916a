r"""Figure 19: mean test error of the full student about its transition, K = 1.  Figure 24 is the same for K = 2 and 3.

Attention and classifier are trained together on rule 30 iterated K times; each run's error is followed to its own
zero test time t_ε and beyond, and averaged at equal distance from it.  The exponent ν is that of the printed recipe:
the slope of the mean error in a double logarithmic plot, over a few epochs before t_ε.

:mod:`grokphase.experiments._aligned` says who enters the means, where the epochs come from, and what the standard
errors hold.  Drawn, as in the paper, is twice the fraction of wrong cells.

References: Žunkovič & Ilievski 2024, Figs. 19 and 24.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grokphase.experiments import _aligned as aligned
from grokphase.experiments import _aligned_figures as shared
from grokphase.experiments._ensembles import name_of
from grokphase.experiments._framework import (
    Comparison,
    Curve,
    compare_number,
    published_curves,
)
from grokphase.experiments._style import COLOURS, MUTED, legend_below, panel_title, panels, style

__all__ = ["EXPERIMENT", "error_experiment"]

IF_NOT = {
    "before t_ε": "zeros that last for less than the four epochs between two of our records are missed, so that some "
    "of our t_ε are a little late",
    "from t_ε on": "there the error is that of rare bursts, and how often they come is not as published",
}
_SMALLEST = 1e-3  # error at the lower end of the logarithmic panels


def draw(figure_name: str, data: xr.Dataset) -> Figure:
    """The aligned means, and below them the approach to zero in a double logarithmic plot."""
    curves = published_curves(figure_name)
    reaches, penalties = data["reach"].values.tolist(), data["regularisation"].values
    with style():
        figure, axes = panels(len(penalties), 2 * len(reaches), height=1.95)
        rows = [axes[start : start + len(penalties)] for start in range(0, len(axes), len(penalties))]
        index = 0
        for place, reach in enumerate(reaches):
            for kind, row in ((_linear, rows[2 * place]), (_logarithmic, rows[2 * place + 1])):
                for axis, penalty in zip(row, penalties, strict=True):
                    here = data.sel(reach=reach, regularisation=penalty)
                    panel = curves[shared.panel_of(figure_name, reach, str(penalty))]
                    kind(axis, here, panel, reach)
                    panel_title(axis, index, shared.title_of(str(penalty), reach, reaches))
                    index += 1
                row[0].set_ylabel(r"twice the test error")
        shared.explain_lines(axes[0], "published")
        legend_below(figure, axes[0], 5)
    return figure


def _linear(axis: Axes, here: xr.Dataset, published: Mapping[str, Curve], reach: int) -> None:
    for number, bond in enumerate(here["bond"].values):
        row = here.sel(bond=bond)
        at, mean, half = _drawn(row.sel(selection="reached"))
        axis.fill_between(at, mean - half, mean + half, color=COLOURS[number], alpha=0.25, lw=0)
        axis.plot(at, mean, color=COLOURS[number], label=f"$d = {bond}$")
        other, its_mean, _ = _drawn(row.sel(selection="delayed"))
        axis.plot(other, its_mean, color=COLOURS[number], lw=0.8, ls=shared.DELAYED, alpha=0.8)
        if f"d={bond}" in published:
            shared.draw_dashed(axis, published[f"d={bond}"], row["offset"].to_numpy(), COLOURS[number])
    axis.axvline(0, color=MUTED, lw=0.6, zorder=0)
    shared.time_axis(axis, reach)
    axis.set_ylim(0, 1.1)


def _logarithmic(axis: Axes, here: xr.Dataset, published: Mapping[str, Curve], reach: int) -> None:
    first, last = (epoch * aligned.RATE for epoch in aligned.WINDOWS[reach])
    axis.axvspan(first, last, color="#eeeeee", lw=0, zorder=0)
    for number, bond in enumerate(here["bond"].values):
        row = here.sel(bond=bond, selection="reached")
        at, mean, half = _drawn(row)
        near = (at < 0) & (at >= -32.5 * aligned.RATE) & (mean > 0)
        axis.fill_between(
            -at[near],
            np.maximum(mean - half, _SMALLEST / 10)[near],
            (mean + half)[near],
            color=COLOURS[number],
            alpha=0.25,
            lw=0,
        )
        slope, error = float(row["exponent"]), float(row["exponent_stderr"])
        label = rf"$\nu = {slope:.2f} \pm {error:.2f}$" if np.isfinite(error) else r"$\nu$ open"
        axis.plot(-at[near], mean[near], color=COLOURS[number], label=f"$d = {bond}$, {label}")
        if f"d={bond}" in published:
            before = aligned.RATE * np.arange(1, 33)
            axis.plot(before, np.interp(-before, *published[f"d={bond}"]), color=COLOURS[number], **shared.DASHED)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(aligned.RATE * 0.9, 0.17)
    axis.set_ylim(_SMALLEST, 2)
    axis.set_xlabel(r"$t_\varepsilon - t$")
    axis.legend(loc="best", fontsize=6, handlelength=1.2)


def _drawn(row: xr.Dataset) -> tuple[Any, Any, Any]:
    """Offsets, twice the mean error, and half the width of its band."""
    at = row["offset"].to_numpy()
    known = shared.thinned(at, np.isfinite(row["error"].to_numpy()))
    mean, stderr = 2 * row["error"].to_numpy()[known], 2 * row["error_stderr"].to_numpy()[known]
    return at[known], mean, shared.BAND * stderr


def draw_published(figure_name: str, reaches: Sequence[int]) -> Figure:
    """The published curves, with their exponents."""
    curves = published_curves(figure_name)

    def fill(axis: Axes, reach: int, penalty: str) -> None:
        panel = curves[shared.panel_of(figure_name, reach, penalty)]
        for number, (series, (x, y)) in enumerate(panel.items()):
            value, _ = shared.printed(figure_name, reach, penalty, series.removeprefix("d="))
            label = rf"${series.replace('=', ' = ')}$, $\nu = {value:.2f}$"
            axis.plot(x, y, color=COLOURS[number], label=label)
        axis.set_ylim(0, 1.5)
        axis.set_yticks(np.arange(0, 1.1, 0.2))

    return shared.draw_published_panels(reaches, r"$E_{\mathrm{test}}$", fill)


def compare(figure_name: str, data: xr.Dataset) -> Sequence[Comparison]:
    """Exponents and curves, one ensemble after the other."""
    curves = published_curves(figure_name)
    rows: list[Comparison] = []
    for reach, penalty, bond in shared.ensembles_in(data):
        here = data.sel(reach=reach, regularisation=penalty, bond=bond)
        curve = shared.published_curve(curves, figure_name, reach, penalty, bond)
        name, runs = name_of(reach, penalty, bond), shared.published_runs(reach, penalty, bond)
        value, _ = shared.printed(figure_name, reach, penalty, bond)
        rows += _compare_exponent(name, value, here, curve, runs)
        means = {
            selection: shared.means_to_compare(curve, here, "error", selection, runs=runs, doubled=True, fours=False)
            for selection in aligned.SELECTIONS
        }
        rows += shared.compare_both_sides(
            f"mean test error, {name}",
            means,
            reading_error=shared.READING[figure_name],
            why=shared.composition(here),
            if_not=IF_NOT,
        )
    return rows


def _compare_exponent(name: str, value: float, here: xr.Dataset, curve: Curve, runs: int) -> list[Comparison]:
    """The printed exponent; nothing if our runs do not determine one."""
    reach = int(here["reach"])
    first, last = aligned.WINDOWS[reach]
    found, stderr = (here[key].sel(selection="reached").item() for key in ("exponent", "exponent_stderr"))
    if not np.isfinite(stderr):
        return []
    drawn = shared.slope_of(curve, reach)
    other, its = (here[key].sel(selection="delayed").item() for key in ("exponent", "exponent_stderr"))
    alone = f"{other:.2f} ± {its:.2f}" if np.isfinite(its) else "not determined"
    return [
        compare_number(
            f"ν over epochs {first} to {last} before t_ε, {name}",
            value,
            found,
            reading_error=0.005 + abs(drawn - value),
            stderr=float(shared.pair_of_errors(stderr, int(here["reached_count"]), runs)),
            why=f"{shared.composition(here)}; the published curve has the slope {drawn:.3f} in this window, and the "
            f"difference to the printed value counts as reading error; ours of the runs with t_G > 0 alone is {alone}",
        )
    ]


error_experiment = partial(
    shared.aligned_experiment,
    measure=aligned.aligned_errors,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
)
"""The experiment of one figure of mean errors, from its name, reaches, title and summary."""

EXPERIMENT = error_experiment(
    "fig19",
    (1,),
    "Test error about the transition",
    "Each run of the trained attention falls to zero test error at its own time; seen from there, the mean error falls "
    "the more abruptly the stronger the penalty: the slope ν goes from about two to below one. The published means are "
    "over all runs that get there, also those whose test error vanishes before the training error. (Drawn, as in "
    "the paper, is twice the fraction of wrong cells; bands are two standard errors.)",
)
