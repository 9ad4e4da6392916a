"""Figure 4: grokking probability of the exponential model against the effective gap (Eq. 14, exact)."""

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
    compare_number,
    compare_simulation,
    published_curves,
    variable,
)
from grokphase.experiments._style import DASHES, colour, panel_title, panels, published_panels, style

__all__ = ["EXPERIMENT"]

PUBLISHED_SIZES = (2, 5, 10)
SIZES = (*PUBLISHED_SIZES, 100, 10_000, 1_000_000)
READING_ERROR = 5e-5
DATA_SETS = {"quick": 20_000, "paper": 1_000_000}


def _simulate(model: ExponentialModel, size: int, sets: int, rng: np.random.Generator) -> FloatArray:
    """Fraction of drawn training sets whose flow ends with zero test error, and its standard error."""
    inputs, _ = model.sample(size, rng, size=sets)
    generalises = np.isfinite(model.zero_test_time(initial=10.0, mean=inputs.mean(axis=-1)))
    fraction = generalises.mean()
    return np.array([fraction, np.sqrt(fraction * (1 - fraction) / sets)])


def compute(scale: Scale, rng: np.random.Generator, progress: Progress) -> xr.Dataset:
    """Exact P and 1 − P on a grid of gaps, and simulated training sets at a few gaps."""
    gap = np.linspace(0.0, 1.0, 401)[1:]
    few_gaps = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    sizes = np.array(SIZES)
    model = ExponentialModel(class_gap=gap)
    simulated = np.empty((len(PUBLISHED_SIZES), few_gaps.size, 2))
    for i, size in enumerate(PUBLISHED_SIZES):
        for j, value in enumerate(few_gaps):
            simulated[i, j] = _simulate(ExponentialModel(class_gap=value), size, DATA_SETS[scale], rng)
        progress((i + 1) / len(PUBLISHED_SIZES))
    law = "probability that the flow ends with zero test error"
    return xr.Dataset(
        {
            "probability": variable(
                ("samples_per_class", "gap"), model.grokking_probability(sizes[:, None]), law, "P_G"
            ),
            "complement": variable(
                ("samples_per_class", "gap"),
                model.grokking_probability(sizes[:, None], complement=True),
                "probability of a lasting test error",
                "1 − P_G",
            ),
            "simulated": variable(("drawn_size", "drawn_gap"), simulated[..., 0], law + ", simulated", "P_G"),
            "simulated_stderr": variable(("drawn_size", "drawn_gap"), simulated[..., 1], "its standard error"),
        },
        coords={
            "samples_per_class": sizes,
            "gap": variable("gap", gap, "effective gap", "ε_λ"),
            "drawn_size": list(PUBLISHED_SIZES),
            "drawn_gap": few_gaps,
        },
    )


def draw(data: xr.Dataset) -> Figure:
    """The paper's three curves with simulated points; beside them the tail that needs every digit."""
    with style():
        figure, axes = panels(2)
        for index, size in enumerate(PUBLISHED_SIZES):
            exact = data["probability"].sel(samples_per_class=size)
            axes[0].plot(data["gap"], exact, color=colour(index), ls=DASHES[index], label=f"N = {size}")
            axes[0].errorbar(
                data["drawn_gap"],
                data["simulated"].sel(drawn_size=size),
                3 * data["simulated_stderr"].sel(drawn_size=size),
                color=colour(index),
                fmt="o",
                ms=3,
            )
        for index, size in enumerate(SIZES):
            tail = data["complement"].sel(samples_per_class=size)
            tail = tail.where(tail > 1e-300)
            axes[1].plot(data["gap"], tail, color=colour(index), ls=DASHES[index % 4], label=f"N = {size:,}")
        axes[1].set_yscale("log")
        axes[1].set_ylim(1e-300, 10)
        axes[1].legend(loc="lower left")
        axes[0].legend(loc="lower right")
        axes[0].set_ylabel("grokking probability $P_G$")
        axes[1].set_ylabel("$1-P_G$")
        panel_title(axes[0], 0, "exact (lines), simulated (dots, 3 s.e.)")
        panel_title(axes[1], 1, "the other tail, up to a million samples")
        for axis in axes:
            axis.set_xlabel(r"effective gap $\varepsilon_\lambda$")
    return figure


def draw_published() -> Figure:
    """The published curves."""
    return published_panels(
        published_curves("fig04"),
        titles={"main": "as published"},
        xlabel=r"effective gap $\varepsilon_\lambda$",
        ylabel="grokking probability $P_G$",
    )[0]


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """Every published point against the exact value there; simulation against theory."""
    rows = []
    for series, (gap, probability) in published_curves("fig04")["main"].items():
        size = int(series.removeprefix("N="))
        exact = ExponentialModel(class_gap=np.maximum(gap, 0.0)).grokking_probability(size)
        why = "Eq. 14, evaluated as a sum of positive terms"
        rows.append(compare_curve(f"P_G(ε_λ), {series}", probability, exact, reading_error=READING_ERROR, why=why))
    for size in PUBLISHED_SIZES:
        exact = ExponentialModel(class_gap=0.5).grokking_probability(size)
        point = data.sel(drawn_size=size, drawn_gap=0.5)
        published = np.interp(0.5, *published_curves("fig04")["main"][f"N={size}"])
        rows.append(
            compare_number(
                f"P_G(0.5), N = {size}",
                float(published),
                float(exact),
                reading_error=READING_ERROR,
                why="exact to 1e-12",
            )
        )
        rows.append(
            compare_simulation(
                f"P_G(0.5), N = {size}",
                float(exact),
                float(point["simulated"]),
                stderr=float(point["simulated_stderr"]),
                why="fraction of drawn sets whose flow ends with zero test error",
            )
        )
    return rows


EXPERIMENT = Experiment(
    name="fig04",
    title="Grokking probability of the exponential model",
    summary=(
        "How likely is a training set that leads to zero test error? More samples and a wider gap help. The exact sum has no "
        "cancellation, so both tails are known to twelve digits, even for a million samples."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
)
