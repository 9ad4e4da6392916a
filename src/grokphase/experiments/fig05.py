"""Figure 5: density of the grokking time in the exponential model (Eq. 16, exact), over simulated gradient flows.

The histograms are real training sets: drawn samples, their exact flow, the difference of its two zero-error times, kept
where the test error ends at zero (all others never grok; they are not part of this law).
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
RUNS = {"quick": 20_000, "paper": 1_000_000}
BINS = 40
# The published lines join 41 points of histograms and were read to 1e-4; their own binning adds up to a few per cent.
READING_ERROR = 1e-4


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


def compute(scale: Scale, rng: np.random.Generator, progress: Progress) -> xr.Dataset:
    """Exact densities on each panel's own time axis, simulated histograms, and both means."""
    shape = (len(GAPS), len(SIZES))
    time, edges = np.empty((len(GAPS), 401)), np.empty((len(GAPS), BINS + 1))
    density, counts = np.empty((*shape, 401)), np.empty((*shape, BINS))
    exact_mean, mean, mean_stderr = np.empty(shape), np.empty(shape), np.empty(shape)
    for i, gap in enumerate(GAPS):
        time[i] = np.linspace(0.0, LONGEST[gap], 401)
        edges[i] = np.linspace(0.0, LONGEST[gap], BINS + 1)
        model = ExponentialModel(class_gap=gap)
        for j, size in enumerate(SIZES):
            law = model.grokking_time(size)
            density[i, j] = law.pdf(time[i])
            exact_mean[i, j] = law.mean()
            runs = _simulate(model, size, RUNS[scale], rng)
            counts[i, j] = np.histogram(runs, edges[i])[0]
            mean[i, j], mean_stderr[i, j] = runs.mean(), runs.std() / np.sqrt(runs.size)
            progress((i * len(SIZES) + j + 1) / (len(GAPS) * len(SIZES)))
    per_panel = ("gap", "samples_per_class")
    return xr.Dataset(
        {
            "time": variable(("gap", "point"), time, "grokking time", "t_G"),
            "bin_edges": variable(("gap", "edge"), edges, "grokking time", "t_G"),
            "density": variable((*per_panel, "point"), density, "exact density of the grokking time", "P(t_G)"),
            "count": variable((*per_panel, "bin"), counts, "number of simulated runs"),
            "mean": variable(per_panel, exact_mean, "exact mean grokking time", "⟨t_G⟩"),
            "simulated_mean": variable(per_panel, mean, "mean of the simulated runs"),
            "simulated_mean_stderr": variable(per_panel, mean_stderr, "its standard error"),
        },
        coords={"gap": list(GAPS), "samples_per_class": list(SIZES)},
        attrs={"runs": RUNS[scale]},
    )


def draw(data: xr.Dataset) -> Figure:
    """Exact lines over the histograms of simulated flows."""
    with style():
        figure, axes = panels(3)
        for index, (axis, gap) in enumerate(zip(axes, GAPS, strict=True)):
            panel = data.sel(gap=gap)
            widths = np.diff(panel["bin_edges"].values)
            for number, size in enumerate(SIZES):
                histogram = panel["count"].sel(samples_per_class=size) / (data.attrs["runs"] * widths)
                axis.stairs(histogram, panel["bin_edges"], color=colour(number), alpha=0.25, fill=True)
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
            size = int(series.removeprefix("N="))
            exact = ExponentialModel(class_gap=gap).grokking_time(size).pdf(np.maximum(time, 0.0))
            rows.append(
                compare_curve(
                    f"density of t_G, ε_λ = {gap}, {series}",
                    density,
                    exact,
                    reading_error=READING_ERROR,
                    why="exact law of Eq. 16 for any N (App. A done without cancellation)",
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
                    why="exact law against zero-error times of drawn training sets",
                )
            )
    return rows


EXPERIMENT = Experiment(
    name="fig05",
    title="Grokking-time density of the exponential model",
    summary=(
        "How late does generalisation come? Lines are the exact law, shaded bars are simulated training runs. A "
        "smaller gap and fewer samples make long waits likely; the tail is exponential."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
)
