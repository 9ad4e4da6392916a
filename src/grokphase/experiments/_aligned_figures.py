"""Figs. 19, 20, 24 and 25: published values, what their drawings share, and how they are compared with ours.

:mod:`grokphase.experiments._aligned` measures, and says what is compared and how far differences may go.

References: Žunkovič & Ilievski 2024, Figs. 19, 20, 24, 25.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.experiments._aligned import COUNTS, EARLIEST, LATEST, RARE, RATE, SELECTIONS, WINDOWS, log_log_slope
from grokphase.experiments._ensembles import BONDS, REGULARISATIONS, bonds_of, published
from grokphase.experiments._framework import (
    Comparison,
    Curve,
    Experiment,
    Progress,
    Scale,
    compare_curve,
    published_rows,
)
from grokphase.experiments._style import MUTED, panel_title, panels, style

__all__ = [
    "BAND",
    "DASHED",
    "DELAYED",
    "PENALTIES",
    "PUBLISHED",
    "READING",
    "Means",
    "aligned_experiment",
    "compare_both_sides",
    "composition",
    "draw_dashed",
    "draw_published_panels",
    "ensembles_in",
    "explain_lines",
    "means_to_compare",
    "pair_of_errors",
    "panel_of",
    "printed",
    "published_curve",
    "published_runs",
    "slope_of",
    "thinned",
    "time_axis",
    "title_of",
]

PUBLISHED, DELAYED = (0, (4, 1.5)), (0, (1, 1))  # dashes
DASHED: dict[str, Any] = {"lw": 0.9, "ls": PUBLISHED, "alpha": 0.9}
BAND = 2  # standard errors: half width of the bands that are drawn
PENALTIES = {"none": "no penalty", "L2": r"$\lambda_2 = 10^{-4}$", "L1": r"$\lambda_1 = 10^{-3}$"}
"""Titles of panels."""

READING = {"fig19": 9e-4, "fig24": 2e-3, "fig20": 0.02, "fig25": 0.02}
"""Error of a published curve between two rows of its file."""


Measure = Callable[[Mapping[str, xr.Dataset], Sequence[int], Sequence[int], np.random.Generator], xr.Dataset]
"""Called with the runs by name, reaches, bond dimensions and a generator."""


def aligned_experiment(
    name: str,
    reaches: Sequence[int],
    title: str,
    summary: str,
    *,
    measure: Measure,
    draw: Callable[[str, xr.Dataset], Figure],
    draw_published: Callable[[str, Sequence[int]], Figure],
    compare: Callable[[str, xr.Dataset], Sequence[Comparison]],
) -> Experiment:
    """The experiment of one figure of aligned means; the functions are also told its name."""

    def compute(
        scale: Scale,
        rng: np.random.Generator,
        progress: Progress,
        runs: Mapping[str, xr.Dataset],
        members: int = 0,
        bonds: str = "",
    ) -> xr.Dataset:
        found = measure(runs, reaches, bonds_of(scale, bonds), rng)
        progress(1.0)
        return found

    return Experiment(
        name=name,
        title=title,
        summary=summary,
        compute=compute,
        draw=partial(draw, name),
        draw_published=partial(draw_published, name, reaches),
        compare=partial(compare, name),
        options={"members": 0, "bonds": ""},
        ensembles=partial(published, reaches=reaches),
    )


# --- published values ---


def panel_of(figure: str, reach: int, regularisation: str) -> str:
    """The panel's name in the files of published curves."""
    l1, l2 = REGULARISATIONS[regularisation]
    return f"{f'K={reach} ' if figure in ('fig24', 'fig25') else ''}lambda1={l1:g} lambda2={l2:g}"


def published_curve(
    curves: Mapping[str, Mapping[str, Curve]], figure: str, reach: int, regularisation: str, bond: int
) -> Curve:
    """One published curve."""
    return curves[panel_of(figure, reach, regularisation)][f"d={bond}"]


def slope_of(curve: Curve, reach: int) -> float:
    """The slope of a published curve in the window of its reach."""
    distance = RATE * np.arange(WINDOWS[reach][0], WINDOWS[reach][1] + 1)
    return float(log_log_slope(distance, np.interp(-distance, *curve)))


def _is_ensemble(row: Mapping[str, str], reach: int, regularisation: str, bond: int | str) -> bool:
    penalties = (float(row["lambda1"]), float(row["lambda2"]))
    return (int(row["rule_K"]), penalties, row["d"]) == (reach, REGULARISATIONS[regularisation], str(bond))


def printed(figure: str, reach: int, regularisation: str, bond: int | str) -> tuple[float, float]:
    """A legend's value, and the same read off the drawn line where there is one (else the former again)."""
    (row,) = [
        row
        for row in published_rows("legend_values")
        if row["figure"] == figure.removeprefix("fig") and _is_ensemble(row, reach, regularisation, bond)
    ]
    return float(row["value"]), float(row["value_from_drawn_line"] or row["value"])


@cache
def published_runs(reach: int, regularisation: str, bond: int) -> int:
    """Number of runs in the published histogram of t_ε of the same ensemble."""
    (row,) = [
        row
        for row in published_rows("run_counts")
        if row["quantity"] == "t_eps" and _is_ensemble(row, reach, regularisation, bond)
    ]
    return int(row["runs_in_histogram"])


# --- drawing ---


def title_of(penalty: str, reach: int, reaches: Sequence[int]) -> str:
    """Heading of a panel; it names the reach where there are several."""
    return PENALTIES[penalty] + (f", $K = {reach}$" if len(reaches) > 1 else "")


def draw_published_panels(reaches: Sequence[int], ylabel: str, draw: Callable[[Axes, int, str], None]) -> Figure:
    """One panel for each reach and penalty; ``draw`` fills one."""
    with style():
        figure, axes = panels(len(PENALTIES), len(reaches), height=2.1)
        for index, axis in enumerate(axes):
            reach, penalty = reaches[index // len(PENALTIES)], list(PENALTIES)[index % len(PENALTIES)]
            draw(axis, reach, penalty)
            time_axis(axis, reach)
            axis.legend(loc="upper right", fontsize=6, handlelength=1.2)
            panel_title(axis, index, title_of(penalty, reach, reaches))
        for axis in axes[:: len(PENALTIES)]:
            axis.set_ylabel(ylabel)
    return figure


def time_axis(axis: Axes, reach: int) -> None:
    """The published range of times since t_ε."""
    axis.set_xlim(-EARLIEST[reach], LATEST)
    axis.set_xticks(np.arange(-EARLIEST[reach], LATEST + 0.1, 0.5))
    axis.set_xlabel(r"$t - t_\varepsilon$")


def explain_lines(axis: Axes, published: str) -> None:
    """Entries of the legend for what is drawn in the colours of the bond dimensions."""
    axis.plot([], [], color=MUTED, lw=0.9, ls=PUBLISHED, label=published)
    axis.plot([], [], color=MUTED, lw=0.9, ls=DELAYED, label=r"ours, only runs with $t_G > 0$")


def thinned(at: FloatArray, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is drawn of the known values: away from t_ε every second, enough for the eye and half the file."""
    return known & ((np.abs(at) < 32.5 * RATE) | (np.arange(at.size) % 2 == 0))


def draw_dashed(axis: Axes, curve: Curve, at: FloatArray, colour: str) -> None:
    """A published curve, at our times."""
    x, y = curve
    inside = at[thinned(at, (at >= x[0]) & (at <= x[-1]))]
    axis.plot(inside, np.interp(inside, x, y), color=colour, **DASHED)


# --- comparing ---


def ensembles_in(data: xr.Dataset) -> list[tuple[int, str, int]]:
    """Ensembles of the data that are published, too."""
    return [
        (int(reach), str(regularisation), int(bond))
        for reach in data["reach"].values
        for regularisation in data["regularisation"].values
        for bond in data["bond"].values
        if int(bond) in BONDS
    ]


def pair_of_errors(stderr: Any, ours: int, published: int) -> Any:
    """Our standard error and the published one together, if runs scatter as much there as here."""
    return stderr * np.sqrt(1 + ours / published)


def composition(data: xr.Dataset) -> str:
    """What became of our runs of one ensemble, in words."""
    count = {name: int(data[f"{name}_count"]) for name in ("runs", *COUNTS)}
    wrong = f", {count['wrong']} count as zero while wrong everywhere" if count["wrong"] else ""
    return (
        f"of {count['runs']} runs {count['reached']} reach zero test error, {count['delayed']} of them with t_G > 0; "
        f"{count['never'] / count['runs']:.1%} never do{wrong}"
    )


class Means(NamedTuple):
    """A published curve, and means of ours at the same times with the standard error of the difference."""

    time: FloatArray
    published: FloatArray
    ours: FloatArray
    stderr: FloatArray


def means_to_compare(
    published: Curve, data: xr.Dataset, name: str, selection: str, *, runs: int, doubled: bool, fours: bool
) -> Means:
    """Means of one ensemble beside a published curve, where there are both.

    ``runs``: number of published ones.  ``doubled``: twice our mean was drawn, and a run's value is between 0 and 1.
    ``fours``: our means are over four epochs, so that the published curve is averaged over them, too.
    """
    x, y = published
    ours = int(data[f"{selection}_count"])
    row = data.sel(selection=selection)
    at = row["offset"].to_numpy()
    mean, stderr = (row[key].to_numpy() * (2 if doubled else 1) for key in (name, f"{name}_stderr"))
    within = RATE * np.array([-1.5, -0.5, 0.5, 1.5]) if fours else np.zeros(1)
    inside = (at + within[0] >= x[0] - RATE / 4) & (at + within[-1] <= x[-1] + RATE / 4) & np.isfinite(mean)
    at, mean, stderr = at[inside], mean[inside], stderr[inside]
    drawn = np.interp(at[:, None] + within, x, y).mean(axis=1)
    if doubled:
        possible = np.sqrt(np.clip(drawn * (2 - drawn), 0, None) / max(ours, 1))
        rare = mean * ours < RARE  # a run that errs is mostly wrong in half of its cells, which is drawn as 1
        stderr = np.where(rare, np.maximum(stderr, possible), stderr)
    return Means(at, drawn, mean, pair_of_errors(stderr, ours, runs))


def compare_both_sides(
    quantity: str, means: Mapping[str, Means], *, reading_error: float, why: str, if_not: Mapping[str, str]
) -> list[Comparison]:
    """The published curve against the mean of all runs that reached zero, "before t_ε" and "from t_ε on".

    How far away the mean of the delayed runs is, is said in words, and what there is to say if a side differs
    (``if_not``).  No row where there is nothing to compare.
    """
    rows: list[Comparison] = []
    for side, sign in (("before t_ε", -1), ("from t_ε on", 1)):
        found, other = (_on_side(means[selection], sign) for selection in SELECTIONS)
        if not found.time.size:
            continue
        words = why
        if other.time.size:
            excess = np.abs(other.ours - other.published) - reading_error
            away = np.divide(excess, other.stderr, out=np.zeros_like(excess), where=other.stderr > 0)
            worst = int(np.argmax(away))
            words += (
                f"; the runs with t_G > 0 alone are up to {max(away[worst], 0):.1f} s.e. away "
                f"({other.ours[worst]:.3g} for {other.published[worst]:.3g} at {other.time[worst]:.3g})"
            )
        row = compare_curve(
            f"{quantity}, {side}",
            found.published,
            found.ours,
            reading_error=reading_error,
            stderr=found.stderr,
            x=found.time,
            why=words,
        )
        rows.append(row if row.agrees or side not in if_not else replace(row, why=f"{if_not[side]}; {words}"))
    return rows


def _on_side(means: Means, sign: int) -> Means:
    side = means.time < -RATE / 4 if sign < 0 else means.time >= -RATE / 4
    return Means(*(values[side] for values in means))
