"""The one style of all figures: column width, colour-blind-safe, readable in print and on a screen."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from grokphase.experiments._framework import Curve

__all__ = [
    "COLOURS",
    "DASHES",
    "MUTED",
    "colour",
    "legend_below",
    "legend_on_top",
    "panel_title",
    "panels",
    "published_panels",
    "style",
]

# Okabe and Ito's palette, darkest contrasts first; safe for the common colour deficiencies and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MUTED = "#8a8a8a"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

_RC: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "mathtext.fontset": "cm",
    "svg.hashsalt": "grokphase",  # the same picture gives the same file
    "figure.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this context; the user's own settings stay as they are."""
    with mpl.rc_context(_RC):
        yield


def colour(index: int) -> str:
    """The index-th colour of the palette, cyclic."""
    return COLOURS[index % len(COLOURS)]


def panels(columns: int, rows: int = 1, *, width: float = 7.0, height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, row by row; no global pyplot state is touched."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    flat = [axis for row in axes for axis in row]
    for axis in flat:
        axis.xaxis.set_major_locator(MaxNLocator(5))
    return figure, flat


def panel_title(axis: Axes, index: int, text: str) -> None:
    """Left-aligned title with the panel's letter."""
    axis.set_title(f"({'abcdefghijkl'[index]}) {text}", loc="left")


def legend_below(figure: Figure, axis: Axes, columns: int) -> None:
    """One legend for all panels, under them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def legend_on_top(axis: Axes, columns: int) -> None:
    """A legend in one row inside the panel, above the data: the axis is made a quarter longer for it."""
    low, high = axis.get_ylim()
    longer = high * (high / low) ** 0.25 if axis.get_yscale() == "log" else high + (high - low) / 4
    axis.set_ylim(low, longer)
    axis.legend(loc="upper right", ncols=columns, columnspacing=0.6, handlelength=1.1, handletextpad=0.3)


_SYMBOLS = {
    "lambda1": r"$\lambda_1$",
    "lambda2": r"$\lambda_2$",
    "lambda": r"$\lambda$",
    "eps": r"$\varepsilon$",
}


def _in_symbols(series: str) -> str:
    """A published label such as ``lambda2=0.1`` as mathematics."""
    words = "|".join(_SYMBOLS)  # longer words first
    return re.sub(words, lambda match: _SYMBOLS[match[0]], series).replace("=", " = ")


def published_panels(
    curves: Mapping[str, Mapping[str, Curve]],
    *,
    titles: Mapping[str, str],
    xlabel: str | Mapping[str, str],
    ylabel: str,
    log: Sequence[str] = (),
    dots: Sequence[str] = (),
    columns: int | None = None,
    own_legends: bool = False,
) -> tuple[Figure, list[Axes]]:
    """The published curves, drawn again from the numbers read off the paper; one legend unless series differ."""
    columns = columns or len(titles)
    with style():
        figure, axes = panels(columns, -(-len(titles) // columns), width=7.0 if len(titles) > 1 else 3.5)
        for index, (axis, (panel, title)) in enumerate(zip(axes, titles.items(), strict=True)):
            for number, (series, (x, y)) in enumerate(curves[panel].items()):
                kind = {"ls": "", "marker": "o", "ms": 2.5} if panel in dots else {"ls": DASHES[number % 4]}
                axis.plot(x, y, color=colour(number), label=_in_symbols(series), **kind)
            if panel in log:
                axis.set_yscale("log")
            panel_title(axis, index, title)
            axis.set_xlabel(xlabel if isinstance(xlabel, str) else xlabel[panel])
            if own_legends:
                legend_on_top(axis, len(curves[panel]))
        if not own_legends:
            legend_below(figure, axes[0], len(curves[next(iter(titles))]))
        for axis in axes[::columns]:
            axis.set_ylabel(ylabel)
    return figure, axes
