"""Figure 4: grokking probability of the exponential model against the effective gap (Eq. 14, exact).

Each curve is checked against drawn training sets: the fraction of them whose flow ends with zero test error.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grokphase import ExponentialModel
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
from grokphase.experiments._style import DASHES, colour, panel_title, panels, published_panels, style

__all__ = ["EXPERIMENT"]

PUBLISHED_SIZES = (2, 5, 10)
SIZES = (*PUBLISHED_SIZES, 100, 10_000, 1_000_000)
DRAWN_GAPS = (0.1, 0.3, 0.5, 0.7, 0.9)
FLOOR = 1e-300  # smallest probability drawn
DRAWS: dict[Scale, int] = {"quick": 20_000, "paper": 1_000_000}


def _simulate(model: ExponentialModel, size: int, sets: int, rng: np.random.Generator) -> float:
    """Fraction of drawn training sets whose flow ends with zero test error."""
    inputs, _ = model.sample(size, rng, size=sets)
    return float(np.isfinite(model.zero_test_time(initial=10.0, mean=inputs.mean(axis=-1))).mean())


def compute(scale: Scale, rng: np.random.Generator, progress: Progress, *, draws: int = 0) -> xr.Dataset:
    """Exact P and 1 − P on a grid of gaps, and simulated training sets at a few gaps."""
    draws = number_of_draws(scale, draws, DRAWS)
    gap = np.linspace(0.0, 1.0, 201)[1:]
    sizes = np.array(SIZES)
    model = ExponentialModel(class_gap=gap)
    simulated = np.empty((len(PUBLISHED_SIZES), len(DRAWN_GAPS)))
    expected = np.empty_like(simulated)
    for i, size in enumerate(PUBLISHED_SIZES):
        for j, value in enumerate(DRAWN_GAPS):
            at_gap = ExponentialModel(class_gap=value)
            simulated[i, j] = _simulate(at_gap, size, draws, rng)
            expected[i, j] = at_gap.grokking_probability(size)
            progress((i * len(DRAWN_GAPS) + j + 1) / simulated.size)
    law = "probability that the flow ends with zero test error"
    exact, drawn = ("samples_per_class", "gap"), ("drawn_size", "drawn_gap")
    stderr = np.sqrt(expected * (1 - expected) / draws)
    probability, complement = (model.grokking_probability(sizes[:, None], complement=c) for c in (False, True))
    return xr.Dataset(
        {
            "probability": variable(exact, probability, law, "P_G"),
            "complement": variable(exact, complement, "probability of a lasting test error", "1 − P_G"),
            "expected": variable(drawn, expected, law + ", exact", "P_G"),
            "simulated": variable(drawn, simulated, law + ", simulated", "P_G"),
            "simulated_stderr": variable(drawn, stderr, "standard error of the simulated probability"),
        },
        coords={
            "samples_per_class": variable("samples_per_class", sizes, "samples per class", "N"),
            "gap": variable("gap", gap, "effective gap", "ε_λ"),
            "drawn_size": variable("drawn_size", PUBLISHED_SIZES, "samples per class of the drawn sets", "N"),
            "drawn_gap": variable("drawn_gap", DRAWN_GAPS, "effective gap of the drawn sets", "ε_λ"),
        },
        attrs={"draws": draws},
    )


def draw(data: xr.Dataset) -> Figure:
    """The paper's three curves with simulated points; beside them the tail that needs every digit."""
    with style():
        figure, axes = panels(2)
        for index, size in enumerate(PUBLISHED_SIZES):
            exact = data["probability"].sel(samples_per_class=size)
            simulated, stderr = (data[name].sel(drawn_size=size) for name in ("simulated", "simulated_stderr"))
            axes[0].plot(data["gap"], exact, color=colour(index), ls=DASHES[index], label=f"N = {size}")
            axes[0].errorbar(data["drawn_gap"], simulated, 3 * stderr, color=colour(index), fmt="o", ms=3)
        for index, size in enumerate(SIZES):
            tail = data["complement"].sel(samples_per_class=size)
            axes[1].plot(
                data["gap"],
                tail.where(tail > FLOOR),
                color=colour(index),
                ls=DASHES[index % len(DASHES)],
                label=f"N = {size:,}",
            )
        axes[1].set_yscale("log")
        axes[1].set_ylim(FLOOR, 1e20)
        axes[1].set_yticks([1e-300, 1e-200, 1e-100, 1])
        axes[1].legend(loc="lower right")
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
    curves = published_curves("fig04")["main"]
    for series, (gap, probability) in curves.items():
        size = int(series.removeprefix("N="))
        gap = np.maximum(gap, 0.0)  # the reading puts the first point at -7e-6
        exact = ExponentialModel(class_gap=gap).grokking_probability(size)
        why = "Eq. 14, exact, as a sum of positive terms"
        if size == 10:
            why += "; near ε_λ = 1 the published line itself jitters by 1e-4 and passes 1, which no probability does"
        rows.append(
            compare_curve(
                f"P_G against ε_λ, {series}",
                probability,
                exact,
                x=gap,
                reading_error=line_reading_error(curves, gap, exact),
                why=why,
                erratum=size == 10,
            )
        )
    for size in PUBLISHED_SIZES:
        for drawn_gap in DRAWN_GAPS[::2]:
            point = data.sel(drawn_size=size, drawn_gap=drawn_gap)
            rows.append(
                compare_simulation(
                    f"P_G at ε_λ = {drawn_gap}, N = {size}",
                    float(point["expected"]),
                    float(point["simulated"]),
                    stderr=float(point["simulated_stderr"]),
                    why="fraction of drawn training sets whose gradient flow ends with zero test error",
                )
            )
    return rows


EXPERIMENT = Experiment(
    name="fig04",
    title="Grokking probability of the exponential model",
    summary=(
        "How likely is a training set that leads to zero test error? More samples and a wider gap help. The exact sum "
        "has no cancellation, so both tails are known to twelve digits, even for a million samples."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"draws": 0},
)
