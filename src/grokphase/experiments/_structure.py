r"""Structure of the contexts of small students while they are trained, and what spikes of the loss do to it.

Object (Sec. 4.3.2, Figs. 21 and 22).  Students of bond 3, so that a left context is a point on a sphere that can be
looked at; their effective dimension D_eff = exp(−Σ σ_k ln σ_k) of the explained-variance fractions σ_k, training loss
and test error at every epoch.  Everything else as published (:class:`grokphase.training.Scenario`).

Penalties: those of Sec. 4.3.2, and λ₂ = 0.002.  Where all outputs are right with equal scores, the trained scale c
rests at the minimum of

    (1 − σ(c/√2))² + λ₁ c + λ₂ c²/2,                                            (*)

since both numbers of a cell weigh the same and their squares add up to one.  The loss of the published run of Fig. 21
rests at 0.00547 to 0.00549; λ₂ = 0.002 gives 0.00546, the penalties of the text 0.0004 and 0.0007.

A *spike* is one of :func:`grokphase.spikes`, in the time after zero test error was first reached; the *step* over it
is the change of ln D_eff.  The control takes D_eff half of that time away from the spike, in the same run.

*Steady* at a time: over the five epochs on either side of it.

Standard errors are those of ratios of sums over independent runs.  Exact: the contexts that are shown, up to rounding.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, Figs. 21, 22, Sec. 5.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter1d, median_filter, minimum_filter1d
from scipy.optimize import minimize_scalar
from scipy.special import expit

from grokphase import Attention, spikes
from grokphase._checks import FloatArray, choice, integer
from grokphase.experiments._framework import SCALES, Ensemble, Scale, published_curves, published_rows, variable
from grokphase.experiments._style import COLOURS, MUTED, colour, panel_title, published_panels
from grokphase.training import Scenario, run_block
from grokphase.transition.loss_spikes import Spike

__all__ = [
    "AROUND",
    "EFFECTS",
    "FIRST_MARK",
    "PENALTIES",
    "RIGHT",
    "Record",
    "attention_of",
    "draw_portrait",
    "draw_published",
    "ensembles",
    "legends",
    "loss_at_rest",
    "parts_of",
    "portrait",
    "published_record",
    "ratio",
    "records",
    "scenario_of",
    "side_by_side",
    "trained_again",
]

BOND = 3
PENALTIES = {"none": (0.0, 0.0), "L2": (0.0, 1e-4), "L1": (1e-3, 0.0), "L2, 0.002": (0.0, 2e-3)}
"""λ₁ and λ₂."""

EFFECTS = ("simplified", "complicated", "unclear")
FIRST_MARK = 0.05  # of the four times that are shown, as in the paper
RIGHT = 0.01  # test error below which a student is called right
AROUND = 0.1  # time before and after a spike that is looked at
_STEADY = 11  # epochs
_MEMBERS: dict[Scale, int] = {"quick": 16, "paper": 250}
_DURATION, _OBSERVE = 2.0, 1.5
_CELLS, _SKIPPED = 1000, 200  # of the string whose contexts are shown; the first ones still know the boundary


def ensembles(scale: Scale, seed: int, *, members: int = 0) -> dict[str, Ensemble]:
    """One ensemble for each penalty; ``members`` runs each, 0: by scale."""
    size = integer("members", members) or _MEMBERS[choice("scale", scale, SCALES)]
    return {
        name: Ensemble(
            Scenario(
                30,
                BOND,
                l1=l1,
                l2=l2,
                members=size,
                seed=seed,
                duration=_DURATION,
                observe=_OBSERVE,
                record_every=1,  # a spike lasts for two or three epochs
            )
        )
        for name, (l1, l2) in PENALTIES.items()
    }


def scenario_of(run: xr.Dataset, named: Callable[..., Mapping[str, Ensemble]], scale: Scale) -> Scenario:
    """The scenario of an ensemble that was simulated, one of those that an experiment names."""
    text = run.attrs["scenario"]
    found = tomllib.loads(text)
    for ensemble in named(scale, found["seed"], members=found["members"]).values():
        if ensemble.scenario.to_text() == text:
            return ensemble.scenario
    raise ValueError(f"runs must be ensembles that this experiment names, got {text}")


@dataclass(frozen=True)
class Record:
    """What one run showed, epoch by epoch, as long as it was followed."""

    name: str
    member: int
    zero_test_time: float
    time: FloatArray
    loss: FloatArray
    error: FloatArray
    dimension: FloatArray

    @cached_property
    def after(self) -> NDArray[np.bool_]:
        """Times after zero test error was first reached."""
        return self.time > self.zero_test_time

    @property
    def followed(self) -> float:
        """For how long the run was followed after that."""
        return float(max(self.time[-1] - self.zero_test_time, 0.0))

    def spikes(self, *, control: bool = False) -> list[Spike]:
        """Spikes after zero test error; ``control``: with the D_eff of another time."""
        dimension = self.dimension[self.after]
        if control:
            dimension = np.roll(dimension, dimension.size // 2)
        return spikes(self.loss[self.after], self.time[self.after], effective_dimension=dimension)

    def around(self, spike: Spike, values: FloatArray) -> tuple[float, float]:
        """Medians of recorded values over ``AROUND`` before and after a spike; NaN where the record is shorter."""
        before = self.after & (self.time >= spike.start - AROUND) & (self.time < spike.start)
        after = (self.time > spike.end) & (self.time <= spike.end + AROUND)
        parts = (before, spike.start - AROUND >= self.zero_test_time), (after, spike.end + AROUND <= self.time[-1])
        found = [float(np.median(values[part])) if whole else np.nan for part, whole in parts]
        return found[0], found[1]

    def steady(self, kind: Literal["right", "high"], high: float = 0.4) -> NDArray[np.bool_]:
        """Times at which the test error is steadily below ``RIGHT``, or at least ``high``."""
        if kind == "right":
            return np.asarray(maximum_filter1d(self.error, _STEADY) < RIGHT)
        return np.asarray(minimum_filter1d(self.error, _STEADY) >= high)

    @cached_property
    def steady_dimension(self) -> FloatArray:
        """Median of D_eff over the epochs around a time."""
        return np.asarray(median_filter(self.dimension, _STEADY))


def records(runs: Mapping[str, xr.Dataset]) -> Iterator[Record]:
    """Every run that reached zero test error."""
    for name, run in runs.items():
        time = run["time"].to_numpy()
        zero, last = run["zero_test_time"].to_numpy(), run["last_time"].to_numpy()
        loss, error, dimension = (
            run[key].to_numpy().astype(float) for key in ("train_loss", "test_error", "effective_dimension")
        )
        half = (time[1] - time[0]) / 2  # times are sums of rounded numbers
        for row in np.flatnonzero(np.isfinite(zero)):
            known = (time < last[row] + half) & np.isfinite(loss[row]) & np.isfinite(dimension[row])
            yield Record(
                name,
                int(run["member"][row]),
                float(zero[row]),
                time[known],
                loss[row, known],
                error[row, known],
                dimension[row, known],
            )


def published_record(name: str) -> Record:
    """The run of a published figure, its thinned lines filled up on the grid of 0.005 by straight pieces."""
    curves = {panel: group["run"] for panel, group in published_curves(name).items()}
    first, last = (round(curves["D_eff"][0][end] / 0.005) for end in (0, -1))
    time = 0.005 * np.arange(first, last + 1)
    loss, error, dimension = (np.interp(time, *curves[panel]) for panel in ("train_loss", "E_test", "D_eff"))
    return Record(name, 0, float(time[np.argmax(error < 1e-6)]), time, loss, error, dimension)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> tuple[float, float]:
    """Ratio of two sums over independent runs, and its standard error; NaN if there is nothing to divide by.

    >>> ratio([1, 0, 2], [2, 2, 2])
    (0.5, 0.28867513459481287)
    """
    top, bottom = np.asarray(numerator, float), np.asarray(denominator, float)
    total, count = bottom.sum(), bottom.size
    if count < 2 or total <= 0:
        return float("nan"), float("nan")
    value = top.sum() / total
    scatter = np.sum((top - value * bottom) ** 2) * count / (count - 1)
    return float(value), float(np.sqrt(scatter) / total)


def loss_at_rest(l1: float, l2: float) -> float:
    """Loss at the minimum of (*) for penalties that do not both vanish.

    >>> round(loss_at_rest(0.0, 0.002), 5)
    0.00546
    """
    size = 0.5**0.5

    def objective(scale: float) -> float:
        return float(expit(-scale * size) ** 2 + l1 * scale + l2 * scale**2 / 2)

    best = minimize_scalar(objective, bounds=(0.0, 60.0), method="bounded", options={"xatol": 1e-10})
    return float(expit(-best.x * size) ** 2)


def trained_again(scenario: Scenario, record: Record, times: Sequence[float]) -> xr.Dataset:
    """One member of an ensemble, trained once more with snapshots; ``times`` ascend.

    Raises
    ------
    ValueError
        If the member does not come out as before, to the last bit: it was trained on another kind of machine.
    """
    step = scenario.record_every * scenario.learning_rate
    shorter = scenario.replace(observe=max(times[-1] - record.zero_test_time, 0.0) + step)
    again = run_block(shorter, [record.member], snapshots=tuple(times)).isel(member=0)
    common = record.time < times[-1] + step / 2
    places = np.rint(record.time[common] / step).astype(int) - 1
    if not np.array_equal(again["train_loss"].to_numpy()[places], record.loss[common].astype(scenario.precision)):
        raise ValueError(
            f"run {record.member} of the ensemble {record.name!r} does not come out again here: stores are the same "
            "to the last bit only on the machine that made them. Simulate the ensemble on this one."
        )
    return again


def portrait(scenario: Scenario, record: Record, times: Sequence[float]) -> xr.Dataset:
    """Curves of one run, and its left contexts at four times, from training this one member again."""
    again = trained_again(scenario, record, times)
    spins = np.random.default_rng(scenario.seed).choice([-1, 1], size=_CELLS)
    clouds = []
    for mark in range(len(times)):
        kept = again.isel(snapshot=mark)
        clouds.append(_principal(attention_of(kept).contexts(spins)[0][_SKIPPED:]))
    place = np.arange(_SKIPPED, _CELLS)
    nearest = np.searchsorted(record.time, np.asarray(times) - scenario.learning_rate / 2)
    found = record.spikes()
    return xr.Dataset(
        {
            "train_loss": variable("time", record.loss, "training loss", "L"),
            "test_error": variable("time", record.error, "fraction of wrong test outputs", "E_test"),
            "effective_dimension": variable("time", record.dimension, "effective dimension of contexts", "D_eff"),
            "mark_time": variable("mark", again["snapshot_time"].to_numpy(), "times that are shown", "t"),
            "mark_record": variable("mark", nearest, "their places in the record"),
            "zero_test_time": variable((), record.zero_test_time, "time of zero test error", "t_ε"),
            "cloud": variable(
                ("mark", "cell", "axis"), [cloud for cloud, _ in clouds], "left contexts on their principal axes", "l"
            ),
            "explained": variable(("mark", "axis"), [part for _, part in clouds], "part of the variance on an axis"),
            "spike_time": variable("spike", [spike.time for spike in found], "times of spikes", "t"),
            "spike_effect": variable(
                "spike", [EFFECTS.index(str(spike.effect)) for spike in found], "simplified, complicated, unclear"
            ),
            "neighbours": variable(
                "cell", (spins[place - 2] > 0) + 2 * (spins[place - 1] > 0), "x(i−2) + 2 x(i−1), spins as 0 and 1"
            ),
            "penalty": variable((), record.name, "penalty of its ensemble"),
            "member": variable((), record.member, "number of the run in its ensemble"),
        },
        coords={"time": variable("time", record.time, "learning rate × epochs", "t")},
    )


def side_by_side(portraits: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Portraits along a new dimension ``shown``, the shorter ones filled up with NaN (effects: with −1)."""
    most = max(part.sizes["spike"] for part in portraits.values())
    padded = [
        part.pad(spike=(0, most - part.sizes["spike"]), constant_values={"spike_time": np.nan, "spike_effect": -1})
        for part in portraits.values()
    ]
    index = xr.DataArray(list(portraits), dims="shown", name="shown")
    return xr.concat(padded, dim=index, join="outer", data_vars="all", combine_attrs="override")


def draw_published(name: str, log: Sequence[str] = ()) -> Figure:
    """The published curves with their markers; the published pictures of the contexts are no vector drawings."""
    titles = {"D_eff": "effective dimension", "train_loss": "training loss", "E_test": "fraction of wrong test outputs"}
    figure, axes = published_panels(published_curves(name), titles=titles, xlabel="$t$", ylabel="", log=log)
    for legend in figure.legends:  # there is one run only
        legend.remove()
    for row in published_rows(f"{name}_markers"):
        symbol = _MARKERS[("circle", "triangle", "cross", "square").index(row["marker"])]
        panel = list(titles).index(row["panel"])
        axes[panel].plot(float(row["t"]), float(row["value"]), symbol, color="black", ms=4, zorder=3)
    return figure


def draw_portrait(figure: SubFigure, data: xr.Dataset, text: str, letter: int = 0) -> None:
    """Curves of one run, and its contexts at four times."""
    left, right = parts_of(figure, 1, 2, width_ratios=(1.2, 1))
    curves = left.subplots(3, 1, sharex=True)
    marks = data["mark_record"].to_numpy().astype(int)
    for axis, (key, label) in zip(curves, _CURVES.items(), strict=True):
        values = data[key].to_numpy()
        axis.plot(data["time"], values, color=colour(0), lw=0.9)
        for mark, place in enumerate(marks):
            axis.axvline(data["mark_time"][mark], color="#999999", lw=0.6, ls=":")
            axis.plot(data["time"][place], values[place], _MARKERS[mark], color="black", ms=4, zorder=3)
        axis.set_ylabel(label)
    top, loss, error = curves
    loss.set_yscale("log")
    loss.margins(y=0.2)
    for time, effect in zip(data["spike_time"].to_numpy(), data["spike_effect"].to_numpy(), strict=True):
        if np.isfinite(time):
            height = float(data["train_loss"].sel(time=time, method="nearest"))
            loss.plot(time, height * 1.6, "v", color=_EFFECT_COLOURS[int(effect)], ms=3.5, clip_on=False)
    error.set_xlabel("$t$")
    penalty = data["penalty"].item()
    run = f"{'no penalty' if penalty == 'none' else penalty}, run {int(data['member'])}"
    panel_title(top, letter, f"{text} ({run})")
    points = data["cloud"].to_numpy()
    middles = (points.min(axis=1) + points.max(axis=1)) / 2
    reach = 1.08 * np.abs(points - middles[:, None]).max()
    for mark, axis in enumerate(right.subplots(2, 2).ravel()):
        _draw_cloud(axis, data.isel(mark=mark), mark)
        for middle, limits in zip(middles[mark], (axis.set_xlim, axis.set_ylim), strict=True):
            limits(middle - reach, middle + reach)


def legends(figure: Figure) -> None:
    """What the colours of spikes and of contexts mean, under the figure."""

    def show(symbol: str, colours: Sequence[str], names: Sequence[str], **place: Any) -> None:
        handles = [Line2D([], [], ls="", marker=symbol, ms=3.5, color=each) for each in colours]
        figure.legend(handles, names, ncols=len(names), title_fontsize=7, **place)

    spiking = r"spikes of the loss, by what $D_{\mathrm{eff}}$ says of them"
    show("v", _EFFECT_COLOURS, EFFECTS, loc="outside lower left", title=spiking)
    show("o", _CLASSES, _NAMES, loc="outside lower right", title="left contexts, by the cells $x_{i-2}$ $x_{i-1}$")


def parts_of(figure: Figure | SubFigure, rows: int, columns: int, **layout: Any) -> list[SubFigure]:
    """Parts of a figure, row by row."""
    return list(np.ravel(np.asarray(figure.subfigures(rows, columns, **layout), dtype=object)))


_CURVES = {"effective_dimension": r"$D_{\mathrm{eff}}$", "train_loss": "loss", "test_error": r"$E_{\mathrm{test}}$"}
_EFFECT_COLOURS = (COLOURS[2], COLOURS[3], MUTED)
_MARKERS = ("o", "^", "X", "s")
_CLASSES = (COLOURS[0], COLOURS[5], COLOURS[1], COLOURS[4])
_NAMES = ("− −", "+ −", "− +", "+ +")


def _draw_cloud(axis: Axes, data: xr.Dataset, mark: int) -> None:
    points, classes = data["cloud"].to_numpy(), data["neighbours"].to_numpy().astype(int)
    order = np.random.default_rng(0).permutation(len(points))  # no class lies on top of all others
    picked = np.array(_CLASSES)[classes[order]]
    axis.scatter(points[order, 0], points[order, 1], s=3, c=picked, linewidths=0, alpha=0.8, rasterized=True)
    axis.set_aspect("equal")
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_locator(MaxNLocator(3, steps=[1, 5, 10]))
    axis.tick_params(labelsize=6)
    axis.set_title(f"$t$ = {float(data['mark_time']):.3g}", fontsize=7)
    parts = data["explained"].to_numpy()
    axis.set_xlabel(f"{parts[0]:.0%} + {parts[1]:.0%} of the variance", fontsize=6)
    axis.plot(0.07, 0.92, _MARKERS[mark], transform=axis.transAxes, color="black", ms=4, clip_on=False)


def attention_of(snapshot: xr.Dataset) -> Attention:
    """The attention of one snapshot."""
    tensors, left, right = (snapshot[f"snapshot_{name}"].to_numpy() for name in ("attention", "left", "right"))
    return Attention(tensors, left=left, right=right)


def _principal(contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coordinates on the two leading principal axes (each with its largest element positive), and their parts."""
    centred = contexts - contexts.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(axis=1)[:, None], axis=1))
    variances = sizes**2
    return centred @ axes.T, variances[:2] / max(variances.sum(), np.finfo(float).tiny)
