"""Figure 5: density of the grokking time in the exponential model (Eq. 16, exact), over simulated gradient flows.

The histograms are real training sets: drawn samples, their exact flow, the difference of its two zero-error times, kept
where the test error ends at zero (all others never grok; they are not part of this law).

Each published curve is a line through 41 points; the points are exact values of the density, not bins of a histogram,
so they are compared with the density itself.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grokphase import ExponentialModel
from grokphase._checks import FloatArray
from grokphase.experiments._framework import (
    Comparison,
    Experiment,
    Progress,
    Scale,
    compare_curve,
    compare_simulation,
    line_reading_error,
    number_of_draws,
    published_curves,
    variable,
)
from grokphase.experiments._style import (
    DASHES,
    colour,
    legend_below,
    panel_title,
    panels,
    published_panels,
    style,
)

__all__ = ["EXPERIMENT"]

GAPS = (0.4, 0.04, 0.004)
SIZES = (2, 5, 10)
LONGEST = {0.4: 4.0, 0.04: 8.0, 0.004: 10.0}
DRAWS: dict[Scale, int] = {"quick": 20_000, "paper": 1_000_000}
BINS = 40
POINTS = 201


def _simulate(model: ExponentialModel, size: int, runs: int, rng: np.random.Generator) -> FloatArray:
    """Grokking times of ``runs`` training sets that end with zero test error."""
    kept: list[FloatArray] = []
    needed = runs
    probability = float(model.grokking_probability(size))
    while needed > 0:
        sets = min(int(1.1 * needed / probability) + 100, 2_000_000 // size)
        inputs, labels = model.sample(size, rng, size=sets)
        initial = inputs.max(axis=-1) + 1.0  # above every positive sample, as Eq. 16 asks
        test = model.zero_test_time(initial, inputs.mean(axis=-1))
        groks = np.isfinite(test)
        train = model.zero_train_time(initial[groks], inputs[groks], labels[groks])
        kept.append(test[groks] - train)
        needed -= kept[-1].size
    return np.concatenate(kept)[:runs]


def compute(scale: Scale, rng: np.random.Generator, progress: Progress, *, draws: int = 0) -> xr.Dataset:
    """Exact densities on each panel's own time axis, simulated histograms, and both means."""
    draws = number_of_draws(scale, draws, DRAWS)
    shape = (len(GAPS), len(SIZES))
    time, edges = np.empty((len(GAPS), POINTS)), np.empty((len(GAPS), BINS + 1))
    density, counts = np.empty((*shape, POINTS)), np.empty((*shape, BINS))
    exact_mean, mean, mean_stderr = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, gap in enumerate(GAPS):
        time[i] = np.linspace(0.0, LONGEST[gap], POINTS)
        edges[i] = np.linspace(0.0, LONGEST[gap], BINS + 1)
        model = ExponentialModel(class_gap=gap)
        for j, size in enumerate(SIZES):
            law = model.grokking_time(size)
            density[i, j] = law.pdf(time[i])
            exact_mean[i, j] = law.mean()
            runs = _simulate(model, size, draws, rng)
            counts[i, j] = np.histogram(runs, edges[i])[0]
            mean[i, j], mean_stderr[i, j] = runs.mean(), runs.std() / np.sqrt(runs.size)
            progress((i * len(SIZES) + j + 1) / (len(GAPS) * len(SIZES)))
    per_panel = ("gap", "samples_per_class")
    return xr.Dataset(
        {
            "time": variable(("gap", "point"), time, "time of the exact density", "t_G"),
            "bin_edges": variable(("gap", "edge"), edges, "bin edges of the grokking time", "t_G"),
            "density": variable((*per_panel, "point"), density, "exact density of the grokking time", "P(t_G)"),
            "count": variable((*per_panel, "bin"), counts, "number of simulated runs in a bin", units="runs"),
            "mean": variable(per_panel, exact_mean, "exact mean grokking time", "⟨t_G⟩"),
            "simulated_mean": variable(per_panel, mean, "mean grokking time of the simulated runs", "⟨t_G⟩"),
            "simulated_mean_stderr": variable(per_panel, mean_stderr, "standard error of the simulated mean"),
        },
        coords={
            "gap": variable("gap", GAPS, "effective gap", "ε_λ"),
            "samples_per_class": variable("samples_per_class", SIZES, "samples per class", "N"),
        },
        attrs={"draws": draws},
    )


def draw(data: xr.Dataset) -> Figure:
    """Exact lines over the histograms of simulated flows (steps)."""
    with style():
        figure, axes = panels(3)
        for index, (axis, gap) in enumerate(zip(axes, GAPS, strict=True)):
            panel = data.sel(gap=gap)
            widths = np.diff(panel["bin_edges"].values)
            for number, size in enumerate(SIZES):
                histogram = panel["count"].sel(samples_per_class=size) / (data.attrs["draws"] * widths)
                axis.stairs(histogram, panel["bin_edges"], color=colour(number), alpha=0.5, lw=0.8)
                axis.plot(
                    panel["time"],
                    panel["density"].sel(samples_per_class=size),
                    color=colour(number),
                    ls=DASHES[number],
                    label=f"N = {size}",
                )
            panel_title(axis, index, rf"$\varepsilon_\lambda={gap}$")
            axis.set_xlabel("grokking time $t_G$")
            axis.set_ylim(0, None)
        axes[0].set_ylabel("density")
        legend_below(figure, axes[0], 3)
    return figure


def draw_published() -> Figure:
    """The published curves."""
    titles = {f"eps_lambda={gap}": rf"$\varepsilon_\lambda={gap}$" for gap in GAPS}
    return published_panels(published_curves("fig05"), titles=titles, xlabel="grokking time $t_G$", ylabel="density")[0]


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """Published densities and simulated means against the exact law."""
    rows = []
    for panel, curves in published_curves("fig05").items():
        gap = float(panel.removeprefix("eps_lambda="))
        for series, (time, density) in curves.items():
            time = np.maximum(time, 0.0)  # the reading puts some first points at -4e-5
            exact = ExponentialModel(class_gap=gap).grokking_time(int(series.removeprefix("N="))).pdf(time)
            rows.append(
                compare_curve(
                    f"density of t_G, ε_λ = {gap}, {series}",
                    density,
                    exact,
                    x=time,
                    reading_error=line_reading_error(curves, time, exact),
                    why="exact law of Eq. 16 for any N; between its points the published line is straight",
                )
            )
    for gap in GAPS:
        for size in SIZES:
            point = data.sel(gap=gap, samples_per_class=size)
            rows.append(
                compare_simulation(
                    f"mean t_G, ε_λ = {gap}, N = {size}",
                    float(point["mean"]),
                    float(point["simulated_mean"]),
                    stderr=float(point["simulated_mean_stderr"]),
                    why="exact law against the zero-error times of simulated training",
                )
            )
    return rows


EXPERIMENT = Experiment(
    name="fig05",
    title="Grokking-time density of the exponential model",
    summary=(
        "How late does generalisation come? Lines are the exact law, steps are histograms of simulated training. A "
        "smaller gap and fewer samples make long waits likely; the tail is exponential."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"draws": 0},
)
