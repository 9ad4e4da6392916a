r"""Figure 9: density of the grokking time of the ball model, as printed, corrected, and in real training.

Upper row, as in the paper: the part of the law with a density (lines) and its Dirac part (bars: position and weight).
*As printed*: Eqs. 43, 45, 47. *Corrected*: the law of the same idealised flow, ``BallModel.grokking_time``: fast and
middle part, and an atom at ln(ε²/(ε²−1))/(2L), L = λ₂ + 1/(D+2). In the published middle panel the colours of the
bars of λ₂ = 0 and 0.05 are swapped.

Lower row: real training at D = 5, λ₂ = 0.01, ε = 2. Training sets are drawn, initial weights are standard normal, and
t_G is the difference of the exact zero-error times (for good) of their gradient flow. The same flows are judged a
second time by the paper's idealised condition of zero train error, w₁/|w| ≥ 1/√(1+ε²) (Eq. 37); then they follow the
corrected law. So the law of the flow is right, and it is Eq. 37 that real training does not obey: it holds for D ≫ 1
at fixed N, while at fixed D the samples pin the plane the tighter the more there are, and t_G goes to zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from grokphase import BallModel, GradientFlow, published
from grokphase._checks import FloatArray
from grokphase.experiments._framework import (
    STANDARD_ERRORS,
    Comparison,
    Experiment,
    Progress,
    Scale,
    compare_curve,
    compare_number,
    line_reading_error,
    number_of_draws,
    published_curves,
    published_rows,
    variable,
)
from grokphase.experiments._style import MUTED, colour, legend_on_top, panel_title, panels, published_panels, style

__all__ = ["EXPERIMENT"]


@dataclass(frozen=True)
class Panel:
    """One panel of the paper's figure."""

    symbol: str
    longest: float
    """End of our time axis; the published one ends before the corrected atoms."""

    series: Mapping[str, BallModel]
    """Published label to model."""


def _ball(dimension: int = 5, l2: float = 0.01, class_gap: float = 2.0) -> BallModel:
    return BallModel(dimension=dimension, l2=l2, class_gap=class_gap)


BASE = _ball()
PANELS = {
    "vary_D": Panel("D", 1.2, {f"D={d}": _ball(dimension=d) for d in (4, 5, 6)}),
    "vary_lambda2": Panel(r"\lambda_2", 1.2, {f"lambda2={v:g}": _ball(l2=v) for v in (0.0, 0.01, 0.05)}),
    "vary_eps": Panel(r"\varepsilon", 2.2, {f"eps={v:g}": _ball(class_gap=v) for v in (1.5, 2.0, 2.5)}),
}
MODELS = tuple(dict.fromkeys(model for panel in PANELS.values() for model in panel.series.values()))
SWAPPED = {"lambda2=0": "lambda2=0.05", "lambda2=0.05": "lambda2=0"}  # colours of published bars

SIZES = (20, 200, 3000)
DRAWS: dict[Scale, int] = {"quick": 500, "paper": 10_000}
SIZE_FACTOR = {20: 10, 200: 4, 3000: 1}  # smaller training sets cost less, so more of them are drawn
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LONGEST, BINS = 6.0, 60
POINTS = 201
FINE = 2001
BLOCK_NUMBERS = 4_000_000  # coordinates drawn at a time
READING_ERROR = 2e-5  # of a bar


def _simulate(model: BallModel, size: int, runs: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Grokking times of drawn training sets and initial weights, and the same with Eq. 37 for zero train error."""
    l2, dimension = float(model.l2), model.dimension
    idealised = BallModel(dimension=dimension, class_gap=np.sqrt(1 + float(model.class_gap) ** 2))
    times = np.empty((2, runs))
    block = max(1, BLOCK_NUMBERS // (2 * size * dimension))
    for start in range(0, runs, block):
        rows = slice(start, min(start + block, runs))
        inputs, labels = model.sample(size, rng, size=rows.stop - start)
        initial = rng.standard_normal((rows.stop - start, dimension))
        flow = GradientFlow(inputs, labels, l2=l2)
        test = flow.zero_test_time(initial, model)
        never = np.isinf(test)  # no zero test error at all: counted as t_G = ∞
        for row, train in enumerate((flow.zero_train_time(initial), flow.zero_test_time(initial, idealised))):
            times[row, rows] = np.where(never, np.inf, test - np.where(never, 0.0, train))
    return times[0], times[1]


def _median_stderr(times: FloatArray) -> float:
    """Half the distance between the order statistics one binomial standard deviation from the middle."""
    half = 0.5 / np.sqrt(times.size)
    low, high = np.quantile(times, [0.5 - half, 0.5 + half])
    return float(high - low) / 2


def compute(scale: Scale, rng: np.random.Generator, progress: Progress, *, draws: int = 0) -> xr.Dataset:
    """Both laws on the panels' time axes, and simulated training of every model at every training-set size."""
    draws = number_of_draws(scale, draws, DRAWS)
    time = np.array([np.linspace(0.0, panel.longest, POINTS) for panel in PANELS.values()])
    density, printed = np.empty((2, len(PANELS), 3, POINTS))
    atoms = np.empty((len(PANELS), 3, 2, 2))  # printed and corrected; position and weight
    for i, panel in enumerate(PANELS.values()):
        for j, model in enumerate(panel.series.values()):
            law = model.grokking_time()
            density[i, j] = law.pdf(time[i])
            printed[i, j] = published.fast_time_density(model, time[i], corrected=False)
            atoms[i, j] = (_printed_atom(model), law.atom)
    edges = np.linspace(0.0, LONGEST, BINS + 1)
    shape = (len(MODELS), len(SIZES))
    counts = np.empty((2, len(SIZES), BINS))
    quantiles, stderr, at_zero = np.empty((*shape, len(QUANTILES))), np.empty((2, *shape)), np.empty(shape)
    idealised = np.empty(shape)
    for j, size in enumerate(SIZES):
        runs = draws * SIZE_FACTOR[size]
        for i, model in enumerate(MODELS):
            real, judged = _simulate(model, size, runs, rng)
            quantiles[i, j] = np.quantile(real, QUANTILES)
            idealised[i, j] = np.median(judged)
            stderr[:, i, j] = _median_stderr(real), _median_stderr(judged)
            at_zero[i, j] = (real == 0).mean()
            if model == BASE:
                counts[:, j] = [np.histogram(times, edges)[0] / runs for times in (real, judged)]
            progress((j + (i + 1) / len(MODELS)) / len(SIZES))
    exact = np.diff(BASE.grokking_time().resolve().cdf(edges), prepend=0.0)
    exact[1] += exact[0]  # t_G = 0 falls into the first bin
    per_case, bins = ("case", "samples_per_class"), ("samples_per_class", "bin")
    curve = ("panel", "series", "point")
    return xr.Dataset(
        {
            "time": variable(("panel", "point"), time, "grokking time of the densities", "t_G"),
            "density": variable(curve, density, "density of the corrected law without its atoms"),
            "printed_density": variable(curve, printed, "density of Eq. 43 as printed"),
            "atom_time": variable(("panel", "series", "source"), atoms[..., 0], "position of the Dirac part"),
            "atom_weight": variable(("panel", "series", "source"), atoms[..., 1], "weight of the Dirac part"),
            "bin_edges": variable("edge", edges, "bin edges of the grokking time", "t_G"),
            "real_fraction": variable(bins, counts[0], "fraction of real training runs in a bin"),
            "idealised_fraction": variable(bins, counts[1], "the same with Eq. 37 for zero train error"),
            "law_fraction": variable("bin", exact[1:], "probability of a bin under the corrected law, resolved"),
            "quantile": variable((*per_case, "level"), quantiles, "quantiles of t_G in real training"),
            "median_stderr": variable(per_case, stderr[0], "standard error of the median"),
            "idealised_median": variable(per_case, idealised, "median of t_G with Eq. 37 for zero train error"),
            "idealised_median_stderr": variable(per_case, stderr[1], "standard error of that median"),
            "zero_fraction": variable(per_case, at_zero, "fraction of real training runs with t_G = 0"),
            "law_median": variable(
                "case", [model.grokking_time().resolve().ppf(0.5) for model in MODELS], "median of the resolved law"
            ),
        },
        coords={
            "panel": list(PANELS),
            "source": ["printed", "corrected"],
            "level": variable("level", QUANTILES, "probability of a quantile"),
            "samples_per_class": variable("samples_per_class", SIZES, "samples per class", "N"),
            "dimension": variable("case", [model.dimension for model in MODELS], "dimension", "D"),
            "l2": variable("case", [float(model.l2) for model in MODELS], "L2 strength", "λ₂"),
            "class_gap": variable("case", [float(model.class_gap) for model in MODELS], "class gap", "ε"),
        },
        attrs={"draws": draws},
    )


def _printed_atom(model: BallModel) -> tuple[float, float]:
    """Position and weight of the Dirac part as printed (Eqs. 45, 47)."""
    return float(published.slow_time(model, corrected=False)), 1 - float(published.fast_weight(model))


def draw(data: xr.Dataset) -> Figure:
    """Printed and corrected law above; below, real training and the same flows judged by Eq. 37."""
    with style():
        figure, axes = panels(3, 2)
        for index, (axis, (name, panel)) in enumerate(zip(axes[:3], PANELS.items(), strict=True)):
            _draw_laws(axis, data.sel(panel=name), panel)
            panel_title(axis, index, f"${panel.symbol}$ varies")
        for index, (axis, size) in enumerate(zip(axes[3:], SIZES, strict=True), start=3):
            _draw_training(axis, data.sel(samples_per_class=size))
            panel_title(axis, index, f"training with $N={size}$")
        axes[0].set_ylabel("density; weight of a bar")
        axes[3].set_ylabel(f"fraction per {LONGEST / BINS:g}")
        dashes = (0, (4, 2))
        handles = [
            Line2D([], [], color="k", label="corrected law"),
            Line2D([], [], color="k", ls=dashes, lw=0.9, label="as printed"),
            Patch(color="#c8c8c8", label="real training"),
            Line2D([], [], color=colour(1), label="same runs, zero train error by Eq. 37"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _draw_laws(axis: Axes, data: xr.Dataset, panel: Panel) -> None:
    dashes = (0, (4, 2))
    for j, label in enumerate(panel.series):
        (printed_time, time), (printed_weight, weight) = data["atom_time"][j].values, data["atom_weight"][j].values
        axis.plot(data["time"], data["printed_density"][j], color=colour(j), ls=dashes, lw=0.9)
        axis.plot(2 * [printed_time], [0, printed_weight], color=colour(j), ls=dashes, lw=0.9)
        shown = data["time"] < time  # the density ends at the atom
        value = label.partition("=")[2]
        axis.plot(data["time"][shown], data["density"][j][shown], color=colour(j), label=f"${panel.symbol}={value}$")
        axis.plot(2 * [time], [0, weight], color=colour(j), lw=2)
    axis.set_ylim(0, 1.1)
    axis.set_yticks([0, 0.5, 1])
    axis.set_xlabel("grokking time $t_G$")
    legend_on_top(axis, len(panel.series))


def _draw_training(axis: Axes, data: xr.Dataset) -> None:
    edges = data["bin_edges"].values
    axis.stairs(data["real_fraction"], edges, fill=True, color="#c8c8c8")
    axis.stairs(data["idealised_fraction"].where(data["idealised_fraction"] > 0, 1e-9), edges, color=colour(1), lw=1)
    axis.stairs(data["law_fraction"], edges, color="k", lw=1)
    axis.axvline(_printed_atom(BASE)[0], color="k", ls=(0, (4, 2)), lw=0.9)
    median = float(data["quantile"].sel(level=0.5)[MODELS.index(BASE)])
    axis.annotate(f"median {median:.2g}", (median, 0.55), (8, 0), textcoords="offset points", color=MUTED, va="center")
    axis.plot([median], [0.55], "v", color=MUTED, ms=4)
    axis.set_yscale("log")
    axis.set_ylim(2e-4, 1)
    axis.set_xlim(0, LONGEST)
    axis.set_xlabel("grokking time $t_G$")


def draw_published() -> Figure:
    """The published curves and bars, with the colours of the bars as published."""
    titles = {name: f"${panel.symbol}$ varies" for name, panel in PANELS.items()}
    figure, axes = published_panels(
        published_curves("fig09"), titles=titles, xlabel="grokking time $t_G$", ylabel="density", own_legends=True
    )
    for axis, (name, panel) in zip(axes, PANELS.items(), strict=True):
        for index, label in enumerate(panel.series):
            time, weight = _published_bars()[name, label]
            axis.plot([time, time], [0, weight], color=colour(index), lw=2, alpha=0.6)
        axis.set_ylim(0, 1.3)  # the bars were not there when the legend made room
    return figure


def _published_bars() -> dict[tuple[str, str], tuple[float, float]]:
    """Position and height of the published bars by panel and the series whose colour they have."""
    return {
        (row["panel"], row["colour_of_series"]): (float(row["t_G"]), float(row["height"]))
        for row in published_rows("fig09_bars")
    }


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """What was drawn against its formulas; the formulas against the corrected law; the law against real training."""
    return [
        *_drawn_as_printed(),
        *_corrected(),
        _law_against_idealised(data),
        *_real_training(data),
        *_trends(data),
    ]


def _drawn_as_printed() -> list[Comparison]:
    """Published curves and bars against the printed formulas they were drawn with."""
    rows = []
    curves = published_curves("fig09")
    for name, panel in PANELS.items():
        parts = []
        for label, model in panel.series.items():
            time, density = curves[name][label]
            exact = published.fast_time_density(model, time, corrected=False)
            parts.append((time, density, exact, line_reading_error(curves[name], time, exact)))
        time, density, exact, error = (np.concatenate(column) for column in zip(*parts, strict=True))
        rows.append(
            compare_curve(
                f"{name}: published curves against Eq. 43",
                density,
                exact,
                reading_error=error,
                x=time,
                why="drawn with Eqs. 43 and 44 as printed",
            )
        )
    bars = _published_bars()
    drawn = {key: PANELS[key[0]].series[SWAPPED.get(key[1], key[1])] for key in bars}
    positions, weights = zip(*(_printed_atom(model) for model in drawn.values()), strict=True)
    for what, values, column, equation in (("positions", positions, 0, 47), ("heights", weights, 1, 45)):
        swap = ", if the colours of λ₂ = 0 and 0.05 are swapped back" if column == 0 else ""
        rows.append(
            compare_curve(
                f"{what} of the nine bars against Eq. {equation}",
                [bar[column] for bar in bars.values()],
                values,
                reading_error=READING_ERROR,
                why=f"drawn with Eq. {equation} as printed{swap}",
            )
        )
    rows.append(
        compare_number(
            "position of the bar coloured as λ₂ = 0 against Eq. 47",
            bars["vary_lambda2", "lambda2=0"][0],
            _printed_atom(_ball(l2=0.0))[0],
            reading_error=READING_ERROR,
            why="wrong colour: the bars of λ₂ = 0 and 0.05 are swapped in the figure",
            erratum=True,
        )
    )
    return rows


def _corrected() -> list[Comparison]:
    """What the corrections change: every atom's position, and at the base point the three weights."""
    rows = []
    for model in MODELS:
        position, _ = model.grokking_time().atom
        rows.append(
            compare_number(
                f"position of the atom, {_name(model)}",
                _printed_atom(model)[0],
                float(position),
                reading_error=READING_ERROR,
                why="Eq. 46 lacks a factor ξ, so Eq. 47 has ε⁴ where ε² belongs",
                erratum=True,
            )
        )
    law = BASE.grokking_time()
    position, weight = law.atom
    rows.append(
        compare_number(
            f"weight of the atom, {_name(BASE)}",
            _printed_atom(BASE)[1],
            float(weight),
            reading_error=READING_ERROR,
            why="between 1 − 1/ε² and 1 of |w_⊥(0)|² only the test error waits for the slow mode: a continuous part",
            erratum=True,
        )
    )
    time = np.linspace(0.0, 1.0, FINE) ** 2 * float(position)  # crowded at 0, where the density rises steeply
    positive = float(np.trapezoid(published.fast_time_density(BASE, time), time))
    rows.append(
        compare_number(
            f"weight of t_G > 0 on the fast path, {_name(BASE)}",
            float(published.fast_weight(BASE)),
            positive,
            reading_error=READING_ERROR,
            why="Eq. 43 gives all of Eq. 45 a positive t_G, but a third of it has no test error from the start",
            erratum=True,
        )
    )
    return rows


def _law_against_idealised(data: xr.Dataset) -> Comparison:
    """Corrected law against simulated flows with the paper's own condition for zero train error, all models."""
    law, found, stderr = (
        data[name].values if name == "law_median" else data[name].sel(samples_per_class=SIZES[-1]).values
        for name in ("law_median", "idealised_median", "idealised_median_stderr")
    )
    neglected = np.array([(float(m.l2) + 1 / (m.dimension + 2)) / float(m.class_gap) ** 2 for m in MODELS])
    ratio = np.abs(found / law - 1) / (neglected + STANDARD_ERRORS * stderr / law)
    worst = int(np.argmax(ratio))
    return Comparison(
        f"median t_G of the idealised flow, all {len(MODELS)} parameter sets, simulated at N = {SIZES[-1]}",
        f"{law[worst]:.4g} (law, {_name(MODELS[worst])})",
        f"{found[worst]:.4g} there, the worst of all",
        f"neglected order L/ε² = {neglected[worst]:.1%}, s.e. {stderr[worst]:.2g}",
        bool((ratio <= 1).all()),
        "real flows judged by Eq. 37 follow the corrected law of the idealised flow: it is right for what it assumes",
    )


def _real_training(data: xr.Dataset) -> list[Comparison]:
    """Medians of real training against the bar that holds nearly all the published weight."""
    rows = []
    case = MODELS.index(BASE)
    for j, size in enumerate(SIZES):
        rows.append(
            compare_number(
                f"median t_G of real training, {_name(BASE)}, N = {size}, against the published bar",
                _printed_atom(BASE)[0],
                float(data["quantile"].sel(level=0.5)[case, j]),
                reading_error=READING_ERROR,
                stderr=float(data["median_stderr"][case, j]),
                why="the paper expects no close agreement; but Eq. 47 is wrong (corrected 0.941), and so is Eq. 37 "
                "at fixed D: with growing N ξ_train goes to 1/ε, not to 1/√(1+ε²), and t_G to zero",
                erratum=True,
            )
        )
    return rows


def _trends(data: xr.Dataset) -> list[Comparison]:
    """The parameter dependence the paper reads off its figure, in real training at the smallest N."""
    size = SIZES[0]
    medians = data["quantile"].sel(level=0.5, samples_per_class=size).values
    stderr = data["median_stderr"].sel(samples_per_class=size).values
    rows = []
    for name, claim, sign in (
        ("vary_D", "longer with growing D", 1),
        ("vary_lambda2", "shorter with growing λ₂", -1),
        ("vary_eps", "shorter with growing ε", -1),
    ):
        cases = [MODELS.index(model) for model in PANELS[name].series.values()]
        step = sign * np.diff(medians[cases])
        noise = STANDARD_ERRORS * np.hypot(stderr[cases][1:], stderr[cases][:-1])
        listed = ", ".join(f"{medians[c]:.3g}" for c in cases)
        labels = ", ".join(label.replace("lambda2", "λ₂").replace("eps", "ε") for label in PANELS[name].series)
        rows.append(
            Comparison(
                f"slow grokking time in real training, N = {size}: {labels}",
                claim,
                f"medians {listed}",
                f"s.e. {stderr[cases].max():.2g}",
                bool((step > -noise).all() and step.sum() > noise.max()),
                "the qualitative statement of the paper's Section 3.3.3",
            )
        )
    return rows


def _name(model: BallModel) -> str:
    return f"D = {model.dimension}, λ₂ = {model.l2:g}, ε = {model.class_gap:g}"


EXPERIMENT = Experiment(
    name="fig09",
    title="Grokking-time density of the ball model",
    summary=(
        "How late does generalisation come in D dimensions? Above: the published law has a fast part (curve) and a "
        "slow one (bar); corrected, the bar moves to much later times. Below: real training. Judged by the paper's "
        "idealised condition for zero train error it follows the corrected law (black); judged by its real samples it "
        "groks later with few samples and sooner with many."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"draws": 0},
)
