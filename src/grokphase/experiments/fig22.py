r"""Figure 22: structure of the contexts without generalisation, and generalisation with little structure.

Shown is one run of students of bond 3, chosen by a rule among all runs of all penalties.  D_eff at a time is its median
over the five epochs on either side; a test error is *high* if it is at least 0.4 throughout these, and the student
*right* if it is below 1 %.  Chosen is the run with the largest ratio of two numbers: the largest D_eff while right,
after zero test error, and the smallest D_eff at high error, before it.  There, grokking and structure contradict each
other most.  The four times are 0.05, that of the smallest D_eff at high error, the zero test time, and that of the
largest D_eff while right.

Over all runs: D_eff at zero test error beside that at high error and at t = 0.05 (see
:mod:`grokphase.experiments._structure` for the students).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.experiments import _structure as structure
from grokphase.experiments._framework import Comparison, Experiment, Progress, Scale, published_rows, variable
from grokphase.experiments._structure import PENALTIES, Record, ratio
from grokphase.experiments._style import panel_title, style

__all__ = ["EXPERIMENT"]

CLEAR = 2.0  # standard errors by which a mean must differ from zero
REFUTING = 300  # runs: with none among them, the rate is below 1 % with 95 % confidence
BOUND = 0.01  # test error that the published caption names


def _high(record: Record) -> NDArray[np.bool_]:
    return record.steady("high") & (record.time > structure.FIRST_MARK) & (record.time < record.zero_test_time)


def _right(record: Record) -> NDArray[np.bool_]:
    return record.steady("right") & record.after


def contradiction(record: Record) -> tuple[float, float, float]:
    """Ln of the largest D_eff while right over the smallest at high error, and the times of the latter and the former.

    −∞ for a run that shows only one of them.
    """
    dimension, high, right = record.steady_dimension, _high(record), _right(record)
    if not (high.any() and right.any()):
        return -np.inf, np.nan, np.nan
    lowest = int(np.argmin(np.where(high, dimension, np.inf)))
    largest = int(np.argmax(np.where(right, dimension, -np.inf)))
    return float(np.log(dimension[largest] / dimension[lowest])), record.time[lowest], record.time[largest]


def compute(
    scale: Scale, rng: np.random.Generator, progress: Progress, runs: Mapping[str, xr.Dataset], *, members: int = 0
) -> xr.Dataset:
    """Effective dimensions of all runs at telling times, and one run in full."""
    records = list(structure.records(runs))
    record = max(records, key=lambda each: contradiction(each)[0], default=None)
    if record is None or np.isinf(contradiction(record)[0]):
        raise ValueError(f"members must be more: none of {len(records)} runs has a high error and is right later")
    _, lowest, largest = contradiction(record)
    times = (structure.FIRST_MARK, lowest, record.zero_test_time, largest)
    shown = structure.portrait(structure.scenario_of(runs[record.name], structure.ensembles, scale), record, times)
    table = np.array([_dimensions(each) for each in records])
    names = {
        "dimension_first": "D_eff at t = 0.05",
        "dimension_high": "median D_eff at high test error before zero test error",
        "dimension_high_smallest": "smallest D_eff at high test error before zero test error",
        "dimension_zero": "D_eff when zero test error is reached",
        "dimension_right_largest": "largest D_eff while right, after zero test error",
        "loss_right": "median training loss while right",
    }
    for column, (name, text) in enumerate(names.items()):
        shown[name] = variable("run", table[:, column], f"{text}; NaN: never so")
    penalty = [list(PENALTIES).index(each.name) for each in records]
    shown["run_penalty"] = variable("run", penalty, f"penalty: {', '.join(PENALTIES)}")
    progress(1.0)
    return shown


def _dimensions(record: Record) -> list[float]:
    """The row of the table of :func:`compute`."""
    dimension, high, right = record.steady_dimension, _high(record), _right(record)
    first, zero = np.searchsorted(record.time, [structure.FIRST_MARK - 1e-9, record.zero_test_time - 1e-9])
    return [
        dimension[first],
        np.median(dimension[high]) if high.any() else np.nan,
        dimension[high].min() if high.any() else np.nan,
        dimension[zero],
        dimension[right].max() if right.any() else np.nan,
        np.median(record.loss[right]) if right.any() else np.nan,
    ]


def draw(data: xr.Dataset) -> Figure:
    """One run: curves and contexts at four times; all runs by their effective dimensions."""
    with style():
        figure = Figure(figsize=(7.0, 5.6), layout="constrained")
        top, bottom = structure.parts_of(figure, 2, 1, height_ratios=(1.3, 1), hspace=0.04)
        structure.draw_portrait(top, data, "structure and test error apart")
        first, second = bottom.subplots(1, 2)
        _draw_pairs(first, data, "dimension_high_smallest", "dimension_zero")
        _draw_pairs(second, data, "dimension_first", "dimension_right_largest")
        first.set(xlabel=r"smallest $D_{\mathrm{eff}}$ at high error", ylabel=r"$D_{\mathrm{eff}}$ at zero test error")
        second.set(xlabel=r"$D_{\mathrm{eff}}$ at $t$ = 0.05", ylabel=r"largest $D_{\mathrm{eff}}$ while right")
        panel_title(first, 1, "above the line: structure came first")
        second.axhline(float(data["dimension_first"].median()), color="#999999", lw=0.6, ls="--")
        panel_title(second, 2, "above the dashes: right without structure")
        first.legend(loc="upper left", fontsize=6)
        structure.legends(figure)
    return figure


_SYMBOLS = (("o", "#8a8a8a"), ("s", "#5a5a5a"), ("^", "#2a2a2a"), ("x", "black"))  # colours mean contexts here


def _draw_pairs(axis: Axes, data: xr.Dataset, horizontal: str, vertical: str) -> None:
    for index, name in enumerate(PENALTIES):
        part = data["run_penalty"].to_numpy() == index
        label = "no penalty" if name == "none" else name
        symbol, shade = _SYMBOLS[index]
        axis.plot(
            data[horizontal][part], data[vertical][part], symbol, ms=3.5, mew=0.7, color=shade, mfc="none", label=label
        )
    axis.axline((1, 1), slope=1, color="#999999", lw=0.6)
    axis.set(xlim=(0.95, 3.05), ylim=(0.95, 3.05))


def draw_published() -> Figure:
    """The published curves with their markers; the pictures of the contexts are not vector drawings."""
    return structure.draw_published("fig22")


def _share(top: FloatArray, bottom: FloatArray) -> tuple[int, int]:
    """In how many runs one number is at least another, and in how many both are known."""
    known = np.isfinite(top) & np.isfinite(bottom)
    return int((top >= bottom)[known].sum()), int(known.sum())


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """Statements on structure and test error, one by one and on average; the published run."""
    marks = {(row["panel"], row["marker"]): float(row["value"]) for row in published_rows("fig22_markers")}
    dimension = {name: marks["D_eff", name] for name in ("circle", "triangle", "cross", "square")}
    first, zero, high, smallest, largest = (
        data[f"dimension_{name}"].to_numpy() for name in ("first", "zero", "high", "high_smallest", "right_largest")
    )
    early, early_of = _share(zero, smallest)
    usual = float(np.median(first))
    spread, spread_of = _share(largest, np.full_like(largest, usual))
    drop = np.log(zero / high)[np.isfinite(high)]
    mean, error = ratio(drop, np.ones(drop.size))
    record = structure.published_record("fig22")
    losses = record.loss[record.error < 1e-6]
    ours = data["loss_right"].to_numpy()
    ours = ours[np.isfinite(ours)]
    return [
        Comparison(
            "structure at a high test error",
            f"seen once: D_eff = {dimension['triangle']:.2f} at t = 0.57, {dimension['circle']:.2f} at first",
            f"in {early} of {early_of} runs D_eff was as small before, at an error of 0.4 or more, as at zero error",
            "medians over eleven epochs",
            early > 0,
            "contexts on a few islands are of use only if the islands tell the neighbours apart",
        ),
        Comparison(
            "small test error without structure",
            f"seen once: D_eff = {dimension['square']:.2f} at t = 1.19, {dimension['circle']:.2f} at first",
            f"in {spread} of {spread_of} runs D_eff was {usual:.2f} or more while the student was right, as "
            "it is in half of the runs at t = 0.05",
            "medians over eleven epochs",
            spread > 0 or spread_of < REFUTING,
            f"called rare, which only none in {REFUTING} runs would refute; the published run had another, unknown "
            "penalty (see its loss)",
        ),
        Comparison(
            "mean change of ln D_eff from high error to zero error",
            "drops",
            f"{mean:+.2f}",
            f"s.e. {error:.2g} over {drop.size} runs",
            bool(mean < -CLEAR * error),
            "structure and grokking go together on average, whatever single runs do",
        ),
        Comparison(
            "test error at t = 1.19 of the published run",
            f"smaller than {BOUND:.0%}",
            f"{marks['E_test', 'square']:.4f}, read off the figure",
            "1e-6",
            bool(marks["E_test", "square"] < BOUND),
            "the marker of the published figure lies above the bound that its caption names",
            erratum=True,
        ),
        Comparison(
            "training loss at zero test error",
            f"{losses.mean():.3f} (s.d. {losses.std():.3f})",
            f"{np.median(ours):.2g}, at most {ours.max():.2g}",
            f"{losses.size} epochs; {ours.size} runs",
            bool(ours.max() >= losses.mean()),
            "a loss near 1/4 means outputs near 1/2: right, but by almost nothing. No penalty of the text leads there; "
            "why the published loss fluctuates as it does is not known",
        ),
    ]


EXPERIMENT = Experiment(
    name="fig22",
    title="Structure without generalisation, and the reverse",
    summary=(
        "On average, the contexts of a student collapse to a few islands when its test error vanishes. But single runs "
        "differ: some collapse long before, while every other answer is still wrong, and some spread out again in part "
        "and stay right. So structure alone does not make a student right; the last panel looks for students that are "
        "right without it."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"members": 0},
    ensembles=structure.ensembles,
)
