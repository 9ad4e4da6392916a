"""The figure of the protocol study: printed against ours, one choice after the other undone, and the statements.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, App. D.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from grokphase.experiments._ensembles import REGULARISATIONS
from grokphase.experiments._protocol_matches import SYMBOLS, Match, ladder, matches
from grokphase.experiments._protocol_table import HORIZON, VARIANT_REACH
from grokphase.experiments._statements import STATEMENTS, judge_all
from grokphase.experiments._style import COLOURS, MUTED, style

__all__ = ["draw"]

MARKERS = ("o", "s", "^")
LABELS = {
    "t_eps": r"$t_\varepsilon$",
    "t_G": "$t_G$",
    "nu": r"$\nu$",
    "dimension": r"smallest $D_{\mathrm{eff}}$",
}
LADDER = {
    "t_eps_cut": rf"mean $\min(t_\varepsilon, {HORIZON['t_eps']:g})$",
    "t_G_cut": rf"mean $\min(t_G^+, {HORIZON['t_G']:g})$",
    "never": "share that never",
    "not_delayed": r"share $t_G \leq 0$",
}
SHORT = {
    "printed": "printed",
    "published": "published\nkind",
    "delayed": "$t_G > 0$",
    "all": "all runs",
    "error": "no wrong\ncell",
    "fixed": "fixed\nparameters",
    "all-inputs": "all\ninputs",
}
SHADES = {"holds": "#009E73", "in part": "#E69F00", "reversed": "#D55E00", "open": "#d6d6d6"}


def draw(data: xr.Dataset) -> Figure:
    """Printed against ours, the ladder of readings, and the statements."""
    with style():
        figure = Figure(figsize=(7.0, 8.2), layout="constrained")
        above, middle, below = figure.subfigures(3, 1, height_ratios=(2.2, 2.2, 3.6), squeeze=False)[:, 0]
        for index, (axis, quantity) in enumerate(zip(above.subplots(1, 4), SYMBOLS, strict=True)):
            _draw_printed(axis, [match for match in matches(data) if match.quantity == quantity])
            axis.set_title(f"({'abcd'[index]}) {LABELS[quantity]}", loc="left")
            axis.set_xlabel("printed")
        above.axes[0].set_ylabel("ours")
        _legend(above, data)
        for index, (axis, quantity) in enumerate(
            zip(middle.subplots(1, 4), ("t_eps_cut", "t_G_cut", "never", "not_delayed"), strict=True)
        ):
            _draw_ladder(axis, data, quantity)
            axis.set_title(f"({'efgh'[index]}) {LADDER[quantity]}", loc="left")
        _draw_statements(below.subplots(), data)
    return figure


def _legend(figure: Figure, data: xr.Dataset) -> None:
    handles = [
        Line2D([], [], color=COLOURS[number], lw=2, label={"none": "no penalty"}.get(penalty, penalty))
        for number, penalty in enumerate(REGULARISATIONS)
    ]
    handles += [
        Line2D([], [], color=MUTED, ls="", marker=MARKERS[number % 3], ms=3, label=f"$d = {bond}$")
        for number, bond in enumerate(data["bond"].values.tolist())
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _draw_printed(axis: Axes, found: Sequence[Match]) -> None:
    if not found:
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "needs all $d$", color=MUTED, ha="center", va="center", transform=axis.transAxes)
        return
    values = np.array([[match.printed.value, match.ours.value] for match in found])
    bonds = sorted({match.bond for match in found if match.bond is not None})
    for match in found:
        axis.errorbar(
            match.printed.value,
            match.ours.value,
            yerr=2 * match.ours.stderr,
            color=COLOURS[list(REGULARISATIONS).index(match.regularisation)],
            marker="D" if match.bond is None else MARKERS[bonds.index(match.bond) % 3],
            ms=3,
            lw=0.7,
            alpha=0.85,
        )
    ends = values.min() / 1.5, values.max() * 1.5
    axis.plot(ends, ends, color=MUTED, lw=0.6, zorder=0)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        line.set_minor_formatter(NullFormatter())


def _draw_ladder(axis: Axes, data: xr.Dataset, statistic: str) -> None:
    readings = [name for name in data["reading"].values.tolist() if name != "printed"]
    if VARIANT_REACH not in data["reach"].values:
        axis.axis("off")
        return
    shown = []
    for number, penalty in enumerate(REGULARISATIONS):
        for place, bond in enumerate(data["bond"].values.tolist()):
            found = ladder(data, statistic, penalty, bond)
            at = [readings.index(name) for name in found]
            shown += at
            value, stderr = np.array(list(found.values())).T if found else np.zeros((2, 0))
            shift = 0.12 * (number - 1) + 0.03 * place
            axis.errorbar(
                np.array(at) + shift,
                value,
                yerr=2 * stderr,
                color=COLOURS[number],
                marker=MARKERS[place % 3],
                ms=2.5,
                lw=0.7,
                alpha=0.85,
            )
    if statistic.removesuffix("_cut") in HORIZON:
        axis.set_ylim(0, None)
    else:
        axis.set_ylim(-0.02, 1.02)
    used = sorted(set(shown))
    axis.set_xticks(used, [SHORT[readings[place]].replace("\n", " ") for place in used], rotation=90, fontsize=6)


def _in_symbols(text: str) -> str:
    for word, symbol in (("t_ε", LABELS["t_eps"]), ("t_G", LABELS["t_G"]), ("D_eff", r"$D_{\mathrm{eff}}$")):
        text = text.replace(word, symbol)
    return text.replace("ν", LABELS["nu"])


def _draw_statements(axis: Axes, data: xr.Dataset) -> None:
    readings = data["reading"].values.tolist()
    judged = [(statement, judge_all(data, statement)) for statement in STATEMENTS]
    judged = [(statement, counts) for statement, counts in judged if counts]
    for line, (_, counts) in enumerate(judged):
        for name, each in counts.items():
            place = readings.index(name)
            axis.barh(line, 0.94, 0.88, left=place - 0.47, color=SHADES[each.verdict], alpha=0.75, lw=0)
            text = f"{each.holds}/{each.tests}" + (f" ({each.reversed} rev.)" if each.reversed else "")
            axis.text(place, line, text, ha="center", va="center", fontsize=6)
    axis.set_yticks(range(len(judged)), [_in_symbols(statement.text) for statement, _ in judged])
    axis.set_xticks(range(len(readings)), [SHORT[name] for name in readings])
    axis.xaxis.tick_top()
    axis.set_xlim(-0.5, len(readings) - 0.5)
    axis.set_ylim(len(judged) - 0.5, -0.5)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    handles = [Line2D([], [], ls="", marker="s", ms=6, color=shade, label=name) for name, shade in SHADES.items()]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4)
