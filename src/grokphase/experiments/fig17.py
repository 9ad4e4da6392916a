"""Figure 17: grokking times of the three published attentions, from exact zero-error times.

Each series has a thousand published runs; ours are counted exactly (no run is stopped, no test set is drawn: the
zero-test time is the last root over the corners of the context cones).  The peaks are explained twice: by which corner
is the last to become right, and by the rates of the flow, the eigenvalues of G.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grokphase import transition
from grokphase._checks import FloatArray
from grokphase.experiments._fixed_attention import LOSS, RUNS, Run, initial_classifiers
from grokphase.experiments._framework import (
    Comparison,
    Experiment,
    Progress,
    Scale,
    number_of_draws,
    published_rows,
    variable,
)
from grokphase.experiments._style import MUTED, colour, panel_title, panels, published_panels, style

__all__ = ["EXPERIMENT"]

DRAWS: dict[Scale, int] = {"quick": 4_000, "paper": 1_000_000}
L1_SHARE = 10  # flows with L1 go from event to event and take this much longer
LONGEST = {1: 4.0, 2: 8.0, 3: 2.0}
BIN = {1: 0.1, 2: 0.1, 3: 0.05}
EXAMPLES = (1, 2, 3)
PUBLISHED_RUNS = 1000
CRITICAL = 1.95  # of √n times the Kolmogorov-Smirnov distance: false-alarm rate 1e-3
BIMODAL_LEVEL = 1e-3

SUMMARY = {
    "never": "fraction of runs whose test error does not vanish for good",
    "at_once": "fraction of runs with zero grokking time",
    "mean": "mean grokking time",
    "mean_stderr": "its standard error",
    "median": "median grokking time",
    "dip_p_value": "p-value of the dip test of unimodality",
    "first_mode": "first mode of the grokking time",
    "second_mode": "second mode of the grokking time",
    "late_corner_share": "fraction of the later half of the runs whose last corner is the commonest there",
    "distance": "Kolmogorov-Smirnov distance to the published histogram",
    "runs": "number of runs",
}


def _edges(example: int) -> FloatArray:
    return np.linspace(0.0, LONGEST[example], round(LONGEST[example] / BIN[example]) + 1)


def published_counts(run: Run) -> tuple[FloatArray, FloatArray]:
    """Right bin edges and counts (of 1000 runs) of a published histogram, up to its last bin."""
    rows = [
        (float(row["bin_right"]), float(row["count"]))
        for row in published_rows("fig17")
        if (row["panel"], row["series"]) == (run.panel, run.series)
    ]
    right, counts = np.array(sorted(rows)).T
    return right, counts


def compute(scale: Scale, rng: np.random.Generator, progress: Progress, draws: int = 0) -> xr.Dataset:
    """Histograms and summaries of exact grokking times of every series."""
    number = number_of_draws(scale, draws, DRAWS)
    bins = max(len(_edges(example)) for example in EXAMPLES) - 1
    counts = np.full((len(RUNS), bins), np.nan)
    summary = {name: np.full(len(RUNS), np.nan) for name in SUMMARY}
    for index, run in enumerate(RUNS):
        initial = initial_classifiers(rng, number // L1_SHARE if run.l1 else number)
        times = run.grokking_times(initial)
        finite = times[np.isfinite(times)]
        summary["runs"][index] = times.size
        summary["never"][index] = 1 - finite.size / times.size
        if finite.size:
            edges = _edges(run.example)
            counts[index, : edges.size - 1] = np.histogram(finite, edges)[0]
            summary["at_once"][index] = (finite == 0).mean()
            summary["mean"][index], summary["median"][index] = finite.mean(), np.median(finite)
            summary["mean_stderr"][index] = finite.std() / np.sqrt(finite.size)
            summary["distance"][index] = _distance(run, finite)
            modes = transition.modality(finite)
            summary["dip_p_value"][index] = modes.p_value
            places = np.sort(np.asarray(modes.locations, dtype=float))[:2]
            summary["first_mode"][index] = places[0]
            summary["second_mode"][index] = places[-1] if places.size > 1 else np.nan
            summary["late_corner_share"][index] = _late_corner_share(run, initial, times)
        progress((index + 1) / len(RUNS))
    rates = np.array([LOSS * np.linalg.eigvalsh(run.flow.gram - run.flow.l2 * np.eye(8)) for run in RUNS[::3]])
    return xr.Dataset(
        {
            "count": variable(("series", "bin"), counts, "number of runs in a bin of the grokking time"),
            "rate": variable(
                ("example", "mode"), rates, "rates of the flow without regularisation", "eigenvalues of G"
            ),
            **{name: variable("series", values, SUMMARY[name]) for name, values in summary.items()},
        },
        coords={
            "series": [f"{run.panel}, {run.series}" for run in RUNS],
            "example": variable("example", EXAMPLES, "number of the published attention"),
        },
    )


def _distance(run: Run, times: FloatArray) -> float:
    """Largest difference of the cumulative histograms, at the published bin edges."""
    right, counts = published_counts(run)
    ours = np.searchsorted(np.sort(times), right, side="right") / times.size
    return float(np.abs(ours - np.cumsum(counts) / max(PUBLISHED_RUNS, counts.sum())).max())


def _late_corner_share(run: Run, initial: FloatArray, times: FloatArray) -> float:
    """How well a late transition tells its corner: the largest share of one corner among the later half."""
    _, corner, _ = run.last_corners(initial[: min(len(initial), 20_000)])
    times = times[: len(corner)]
    late = corner[np.isfinite(times) & (times >= np.median(times[np.isfinite(times)])) & (corner >= 0)]
    return float(np.bincount(late).max() / late.size) if late.size else np.nan


def draw(data: xr.Dataset) -> Figure:
    """Our densities over the published histograms."""
    with style():
        figure, axes = panels(3)
        for axis, example in zip(axes, EXAMPLES, strict=True):
            edges = _edges(example)
            for number, run in enumerate(run for run in RUNS if run.example == example):
                row = data.sel(series=f"{run.panel}, {run.series}")
                right, counts = published_counts(run)
                left = right - BIN[example]
                axis.stairs(
                    counts / PUBLISHED_RUNS / BIN[example],
                    np.append(left, right[-1]),
                    fill=True,
                    alpha=0.25,
                    color=colour(number),
                )
                ours = row["count"].values[: edges.size - 1]
                if np.isfinite(ours).all():
                    density = ours / float(row["runs"]) / BIN[example]
                    axis.stairs(density, edges, color=colour(number), lw=1.1, label=run.label)
                else:
                    axis.plot([], [], color=MUTED, label=f"{run.label}: never")
            axis.set_xlim(0, LONGEST[example])
            axis.set_xlabel("grokking time $t_G$")
            axis.legend()
            panel_title(axis, example - 1, f"Example {example}")
        axes[0].set_ylabel("density")
    return figure


def draw_published() -> Figure:
    """The published histograms alone."""
    curves = {}
    for example in EXAMPLES:
        curves[f"Example {example}"] = {
            run.label: (published_counts(run)[0] - BIN[example] / 2, published_counts(run)[1] / 1000 / BIN[example])
            for run in RUNS
            if run.example == example
        }
    figure, axes = published_panels(
        curves, titles={name: name for name in curves}, xlabel="grokking time $t_G$", ylabel="density", own_legends=True
    )
    for axis, example in zip(axes, EXAMPLES, strict=True):
        axis.set_xlim(0, LONGEST[example])
    return figure


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """Each series by its Kolmogorov-Smirnov distance, its mean, and the test of bimodality."""
    rows = []
    allowed = CRITICAL / np.sqrt(PUBLISHED_RUNS)
    for run in RUNS:
        row = data.sel(series=f"{run.panel}, {run.series}")
        name = f"{run.panel}, {run.label}"
        if not np.isfinite(float(row["mean"])):
            rows.append(
                Comparison(
                    f"runs that reach zero test error, {name}",
                    "916 of 1000",
                    "none for good",
                    "exact",
                    False,
                    "the stationary classifier (elastic net) errs on a small fraction of long inputs: a "
                    "finite test set "
                    "misses it, or counts runs that pass through zero error",
                )
            )
            continue
        right, counts = published_counts(run)
        mean = float(((right - BIN[run.example] / 2) * counts).sum() / counts.sum())
        distance = float(row["distance"])
        sampling = allowed + CRITICAL / np.sqrt(float(row["runs"]))
        rows.append(
            Comparison(
                f"grokking-time distribution, {name}",
                f"{counts.sum():.0f} runs, mean {mean:.3g}",
                f"mean {float(row['mean']):.3g}, distance {distance:.2g}",
                f"distance {sampling:.2g} allowed",
                bool(distance <= sampling),
                "Kolmogorov-Smirnov distance at the published bins, false-alarm rate 1e-3"
                if distance <= sampling
                else "exact times against a drawn test set and finite time steps: a peak this sharp moves by more than "
                "its width",
            )
        )
    for run in RUNS:
        row = data.sel(series=f"{run.panel}, {run.series}")
        if np.isfinite(float(row["dip_p_value"])):
            bimodal = float(row["dip_p_value"]) < BIMODAL_LEVEL
            share = float(row["late_corner_share"])
            rows.append(
                Comparison(
                    f"is it bimodal? {run.panel}, {run.label}",
                    "bimodal in most cases",
                    f"{'bimodal' if bimodal else 'no second mode'} (dip test, p = {float(row['dip_p_value']):.2g})",
                    f"level {BIMODAL_LEVEL:g}",
                    bimodal,
                    f"one corner decides {share:.0%} of the later half of the runs: the modes are corners, "
                    "and each waits "
                    "for the slowest rate of the flow that its features contain",
                )
            )
    return rows


EXPERIMENT = Experiment(
    name="fig17",
    title="Grokking times with fixed attention",
    summary=(
        "Exact grokking times (outlines) over the published histograms (shaded) for the three attentions "
        "of Appendix C. "
        "The distributions agree once the loss is taken six times as large as Eq. 19, as the published runs must have "
        "done. Peaks appear because different corners of the context cones become right last, at different rates."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"draws": 0},
)
