"""The analysis of somebody's training logs, as the command line shows it: sentences, numbers, a picture.

Everything is measured by :mod:`grokphase.transition`; here it is only read in, laid out and drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from grokphase._checks import FloatArray
from grokphase.transition.logs import find_names, read_runs
from grokphase.transition.measuring import Transition, measure
from grokphase.transition.summary import to_dict
from grokphase.transition.wording import Unit, number, sentences, with_interval
from grokphase.transition.zero_times import Which

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Analysis", "Quantity", "analyze"]

_MOST_CURVES = 60  # drawn one by one
_MOST_POINTS = 1000  # of a curve
_LATE = 10.0  # a zero-test time so many times the zero-train time calls for a logarithmic axis


class Quantity(NamedTuple):
    """A line of the table of numbers, as text."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class Analysis:
    """What was found in the logs of one or many runs.

    Attributes
    ----------
    transition
        The measurement itself, for everything else.
    data
        The JSON form: :meth:`Transition.to_dict`, and what was read.
    sentences
        What it means, for somebody who knows what a training run is.
    quantities
        The most important numbers with their intervals.
    """

    transition: Transition
    data: dict[str, Any]
    sentences: list[str]
    quantities: list[Quantity]

    def draw(self) -> "Figure":
        """Curves with marked times, and the mean test error before its zero (loads matplotlib)."""
        return _draw(self.transition, self.data)


def analyze(
    source: Any,
    *,
    time: str | None = None,
    train: str | None = None,
    test: str | None = None,
    member: str | None = None,
    values: str | None = None,
    restart: str | None = None,
    tolerance: float = 0.0,
    window: Sequence[float] | None = None,
    which: Which = "first",
) -> Analysis:
    """Read logs and measure the transition in them.

    Parameters
    ----------
    source
        As for :func:`grokphase.read_runs`: files, folders, a table, arrays.
    time, train, test, member
        Names of the columns; those left out are found by their names if these leave no doubt.
    values, restart
        As for :func:`grokphase.read_runs`.
    tolerance, window, which
        As for :func:`grokphase.measure`.

    Returns
    -------
    Analysis

    Raises
    ------
    ValueError
        In one line, what cannot be read, is ambiguous or out of range.

    Examples
    --------
    >>> log = {"epoch": [0, 1, 2, 3], "train_acc": [50, 90, 100, 100], "val_acc": [50, 60, 75, 100]}
    >>> analysis = analyze(log)
    >>> analysis.sentences[3]
    'It reaches zero test error (every test example right) between epoch 2 and epoch 3.'
    >>> analysis.data["grokking_time"]["value"]
    [1.0]
    """
    names = find_names(source, time=time, train=train, test=test, member=member)
    runs = read_runs(
        source,
        time=names.time,
        train=names.train,
        test=names.test,
        member=names.member,
        values=values,
        restart=restart,
    )
    transition = measure(runs, tolerance, window, which=which)
    data = {**to_dict(transition), "columns": names._asdict(), "read": _read(runs)}
    data["sentences"] = [*_reading(data), *sentences(data)]
    return Analysis(transition, data, data["sentences"], _quantities(data))


def _read(runs: "xr.Dataset") -> dict[str, Any]:
    """What was made of the columns, and what was left out."""
    return {
        "train": runs["train_error"].attrs["made_from"],
        "test": runs["test_error"].attrs["made_from"],
        "resumed": runs.attrs.get("resumed", ""),
        "rows_superseded": int(runs.attrs.get("rows_superseded", 0)),
        "folders_without": runs.attrs.get("folders_without", ""),
        "runs_without": runs.attrs.get("runs_without", ""),
    }


def _reading(data: Mapping[str, Any]) -> Iterator[str]:
    columns, read = data["columns"], data["read"]
    apart = f", runs told apart by {columns['member']!r}" if columns["member"] is not None else ""
    yield f"Read: {read['train']} and {read['test']} against {data['time']!r}{apart}."
    if read["resumed"]:
        yield (
            f"Restarted on the way, with the abandoned part left out ({read['rows_superseded']} rows): run "
            f"{read['resumed']}."
        )
    without = [read[name] for name in ("folders_without", "runs_without") if read[name]]
    if without:
        yield f"Left out, as one of the two was not recorded: {', '.join(without)}."


# --- numbers ---


def _quantities(data: Mapping[str, Any]) -> list[Quantity]:
    return [*_shares(data), *_times(data), *_means(data), *_limits(data)]


def _shares(data: Mapping[str, Any]) -> Iterator[Quantity]:
    for name, error in (("zero_train_time", "training"), ("zero_test_time", "test")):
        share, runs = data["share"][name], data["runs"]
        interval = f"{100 * share['low']:.3g} to {100 * share['high']:.3g}%" if runs > 1 else ""
        yield Quantity(f"runs with zero {error} error", f"{sum(data[name]['reached'])} of {runs}", interval, "")


def _times(data: Mapping[str, Any]) -> Iterator[Quantity]:
    """Medians over runs; of a single run, the time itself between two records."""
    single, unit = data["runs"] == 1, Unit(data["time"])
    for name in ("zero_train_time", "zero_test_time", "grokking_time"):
        found = {key: data[name][key][0] for key in ("value", "low", "high")} if single else data["median"][name]
        if found["value"] is None or (single and not data[name]["reached"][0]):
            continue
        interval = with_interval(found["value"], found["low"], found["high"])[1]
        value = (unit.span if name == "grokking_time" else unit.moment)(found["value"])
        words = name.replace("_", " ").replace("zero ", "zero-")
        if single:
            known = "between two records" if found["low"] is not None else "at the first record"
            yield Quantity(words, value, interval, known)
        else:
            yield Quantity(f"{words}, median", value, interval, "")


def _means(data: Mapping[str, Any]) -> Iterator[Quantity]:
    means, unit = data["mean_grokking_time"], Unit(data["time"])
    if data["runs"] == 1:
        return
    cut = "" if means["complete"] else f"each run up to {unit.span(means['restricted_to'])}"
    for runs, meaning in (("all", cut), ("reached", "without the runs that do not get there")):
        mean = means[runs]
        if mean is None or (runs == "reached" and means["complete"]):
            continue
        stderr = mean["stderr"] or 0.0
        interval = f"± {number(float(f'{stderr:.2g}'))} (standard error)" if stderr else ""
        yield Quantity("grokking time, mean", unit.span(mean["mean"]), interval, meaning)


def _limits(data: Mapping[str, Any]) -> Iterator[Quantity]:
    jump, fit = data["order"]["jump"], data["exponent"]
    if any(data["zero_test_time"]["reached"]) and data["order"]["kind"] != "undecided":
        value, interval = with_interval(jump["value"], jump["low"], jump["high"])
        yield Quantity("jump of the test error", value, interval, "just before its zero")
    if fit is not None and fit["refused"] is None:
        value, interval = with_interval(fit["value"], fit["low"], fit["high"])
        yield Quantity("exponent", value, interval, "test error as a power of the time left")


# --- picture ---


def _draw(transition: Transition, data: Mapping[str, Any]) -> "Figure":
    from grokphase.experiments._style import panel_title, panels, style

    with style():
        figure, (left, right) = panels(2, height=2.7)
        _draw_runs(left, transition, data)
        panel_title(left, 0, "one run" if data["runs"] == 1 else f"{data['runs']} runs")
        if transition.zero_test_time.reached.any():
            _draw_aligned(right, transition, data)
            panel_title(right, 1, "before and after zero test error")
        else:
            _draw_means(right, transition, data)
            panel_title(right, 1, "means: no run reaches zero test error")
    return figure


def _draw_runs(axis: "Axes", transition: Transition, data: Mapping[str, Any]) -> None:
    """Errors of every run, and below them where each becomes zero (arrows: where the record of others ends)."""
    from grokphase.experiments._style import colour

    runs = transition.runs
    time = runs["time"].to_numpy().astype(np.float64)
    medians = [data["median"][name]["value"] for name in ("zero_train_time", "zero_test_time")]
    logarithmic = None not in medians and min(medians) > 0 and medians[1] / medians[0] > _LATE
    if logarithmic:
        axis.set_xscale("log")
    members = np.unique(np.linspace(0, data["runs"] - 1, _MOST_CURVES).astype(int))
    largest = float(np.nanmax([runs["train_error"].to_numpy(), runs["test_error"].to_numpy()])) or 1.0
    for place, name in enumerate(("train", "test")):
        errors = runs[f"{name}_error"].to_numpy()
        for member in members:
            recorded = np.flatnonzero(~np.isnan(errors[member]) & ((time > 0) | (not logarithmic)))
            shown = recorded[_thinned(recorded.size, _MOST_POINTS)]
            label = {"train": "training", "test": "test"}[name] if member == members[0] else None
            alpha = 1.0 if members.size == 1 else 0.4
            axis.plot(time[shown], errors[member, shown], color=colour(place), lw=0.8, alpha=alpha, label=label)
        times = getattr(transition, f"zero_{name}_time")
        height = -0.05 * (place + 1) * largest
        for there, marker in ((times.reached, "|"), (~times.reached, ">")):
            moments = times.value[there]
            axis.plot(moments, np.full(moments.size, height), marker, color=colour(place), ms=4, mew=0.7)
        if medians[place] is not None:
            axis.axvline(medians[place], color=colour(place), lw=0.8, ls="--")
    axis.set_ylim(-0.14 * largest, 1.05 * largest)
    axis.set_xlabel(data["time"])
    axis.set_ylabel("error")
    axis.legend()


def _draw_means(axis: "Axes", transition: Transition, data: Mapping[str, Any]) -> None:
    from grokphase.experiments._style import colour

    means = transition.aligned("fixed_time")
    for place, name in enumerate(("train_error", "test_error")):
        _band(axis, means["time"].to_numpy(), means[name].to_numpy(), means[f"{name}_stderr"].to_numpy(), colour(place))
    axis.set_ylim(0, None)
    axis.set_xlabel(data["time"])
    axis.set_ylabel("mean error")


def _draw_aligned(axis: "Axes", transition: Transition, data: Mapping[str, Any]) -> None:
    """Mean errors against the time since zero test error; inset: the same on logarithmic axes, with the fit."""
    from grokphase.experiments._style import MUTED, colour

    means = transition.aligned()
    offset = means["offset"].to_numpy()
    error, stderr = (means[name].to_numpy() for name in ("test_error", "test_error_stderr"))
    _band(axis, offset, means["train_error"].to_numpy(), means["train_error_stderr"].to_numpy(), colour(0))
    _band(axis, offset, error, stderr, colour(1))
    axis.axvline(0, color=MUTED, lw=0.7, ls=":")
    largest = float(np.nanmax(error)) or 1.0
    axis.set_ylim(0, 1.05 * largest)
    axis.set_xlim(offset[0], max(offset[-1], -offset[0]) or 1.0)  # the right half is the inset's
    axis.set_xlabel(f"{data['time']} since zero test error")
    axis.set_ylabel("mean error")

    inset = axis.inset_axes((0.62, 0.38, 0.37, 0.5))
    inset.set_xscale("log")
    inset.set_yscale("log")
    fit = data["exponent"]
    accepted = fit is not None and fit["refused"] is None
    shown = (offset < 0) & (error > 0)
    inset.plot(-offset[shown], error[shown], ".", ms=1.5, color=MUTED if accepted else colour(1))
    if accepted:
        curve = {name: np.array(values, dtype=float) for name, values in fit["curve"].items()}
        inset.errorbar(curve["distance"], curve["error"], curve["stderr"], fmt="o", ms=2, lw=0.7, color=colour(1))
        inset.plot(curve["distance"], curve["fitted"], color=colour(6), lw=0.9)
        value, interval = with_interval(fit["value"], fit["low"], fit["high"])
        inset.set_title(f"exponent {value} ({interval})", fontsize=6.5)
    else:
        inset.set_title("no exponent: see the text", fontsize=6.5)
    inset.tick_params(labelsize=5.5, pad=1.5, length=2, which="both")
    inset.set_xlabel("time left", fontsize=6.5, labelpad=1)


def _band(axis: "Axes", x: FloatArray, mean: FloatArray, stderr: FloatArray, colour: str) -> None:
    """A curve with its standard error, where there is one."""
    kept = np.flatnonzero(~np.isnan(mean))
    kept = kept[_thinned(kept.size, _MOST_POINTS)]
    axis.plot(x[kept], mean[kept], color=colour)
    wide = np.where(np.isfinite(stderr[kept]), stderr[kept], 0.0)
    axis.fill_between(x[kept], mean[kept] - wide, mean[kept] + wide, color=colour, alpha=0.25, lw=0)


def _thinned(size: int, most: int) -> Any:
    """Places of at most so many of them, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, most).astype(int)) if size > most else np.arange(size)
