r"""Figure 12: training and test error of a student with bond 6 whose attention was trained in advance.

Attention.  Non-negative tensors A = θ² (so that contexts have an invariant cone and A₀ its Perron vectors) start at
θ ~ N(0, 1) and minimise, by L-BFGS with the exact gradient through the tree of contexts,

    min_B  mean over l, x, r of (l B_x r − y)²  +  ρ |B|²,

with l and r the contexts behind all words of four letters after a row of −1, which are those of all shorter words too.
The best classifier for given contexts is known in closed form, so that only θ is searched.  Training stops as soon as
the classifier that the *flow* ends with (all inputs of length 3, λ₂ = 0.01) is certified to be right on every input of
every length, with a margin of 0.15: at the first certificate zero test error can take a hundred units of time.

Flow.  Then the attention is fixed, and the classifier starts at B ~ N(0, 1).  Time and λ₂ are the paper's: its loss
weighs the data κ = 6 times as much as that of Eq. 19 (three cells summed, no ½; see Fig. 14), so t = t_Eq.19/κ.

Exact: training error, zero-train and zero-test times (certified where they were found), bulk test error (a certified
lower bound, within 1e-3).  The paper's attention is not known; ours is of the same kind, so times agree in size only.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.optimize import OptimizeResult, minimize

from grokphase import Attention, CellularAutomaton, GradientFlow, ThermodynamicLimit
from grokphase._checks import FloatArray
from grokphase.experiments._framework import (
    Comparison,
    Curve,
    Experiment,
    Progress,
    Scale,
    number_of_draws,
    published_curves,
    variable,
)
from grokphase.experiments._style import colour, legend_below, panel_title, panels, published_panels, style
from grokphase.student import all_inputs

__all__ = ["EXPERIMENT", "attention_loss", "train_attention"]

RULE = CellularAutomaton(30)
BOND = 6
L2, SCALE = 0.01, 6  # the paper's λ₂, and κ
RIDGE = 0.003  # ρ
LETTERS, PADDING = 4, 6
MARGIN = 0.15
ITERATIONS = 200  # many times what it takes
ATTEMPTS = 20
DRAWS: dict[Scale, int] = {"quick": 40, "paper": 1000}
SHOWN = {"long": 0.9, "typical": 0.5, "short": 0.1}  # quantiles of the grokking time
MOMENTS = 120
TOLERANCE = 1e-3
RISE_RUNS, RISE_LENGTH, RISE = 300, 8, 0.01  # more runs, by the error on all inputs of length 8
RISE_TIMES = np.linspace(0.0, 10.0, 81)


def _contexts(tensors: FloatArray) -> tuple[FloatArray, list[tuple[FloatArray, FloatArray]]]:
    """Contexts behind all words, and what the way back needs: at every step the rows before and their growth."""
    rows = np.full((1, tensors.shape[-1]), tensors.shape[-1] ** -0.5)
    tape = []
    for step in range(PADDING + LETTERS):
        moved = rows[:, None, None, :] @ (tensors[:1] if step < PADDING else tensors)
        moved = moved.reshape(-1, tensors.shape[-1])
        size = np.linalg.norm(moved, axis=1, keepdims=True)
        tape.append((rows, size))
        rows = moved / size
    return rows, tape


def _backwards(
    tensors: FloatArray, rows: FloatArray, tape: list[tuple[FloatArray, FloatArray]], gradient: FloatArray
) -> FloatArray:
    """Gradient with respect to the tensors from that with respect to the contexts."""
    total = np.zeros_like(tensors)
    for step in reversed(range(PADDING + LETTERS)):
        before, size = tape[step]
        letters = 1 if step < PADDING else 2
        moved = (gradient - rows * (gradient * rows).sum(axis=1, keepdims=True)) / size
        moved = moved.reshape(len(before), letters, -1)
        total[:letters] += np.einsum("pi,psj->sij", before, moved)
        gradient = np.einsum("psj,sij->pi", moved, tensors[:letters])
        rows = before
    return total


def attention_loss(theta: FloatArray) -> tuple[float, FloatArray]:
    """Loss of the best classifier for tensors θ², and its gradient; θ as a flat array."""
    root = theta.reshape(2, BOND, BOND)
    tensors = root**2
    mirrored = np.swapaxes(tensors, -1, -2)
    left, left_tape = _contexts(tensors)
    right, right_tape = _contexts(mirrored)
    nearest = np.arange(2**LETTERS) & 1  # the last letter of a word is next to the cell, on either side
    target = RULE.table.reshape(2, 2, 2).swapaxes(0, 1)[:, nearest][:, :, nearest].astype(float)
    # Ridge regression on products of contexts: diagonal in the eigenvectors of both Gram matrices.
    (s, u), (t, v) = (np.linalg.eigh(rows.T @ rows) for rows in (left, right))
    classifier = u @ ((u.T @ left.T @ target @ right @ v) / (s[:, None] * t + RIDGE * target.size)) @ v.T
    residual = left @ classifier @ right.T - target
    loss = float((residual**2).mean() + RIDGE * (classifier**2).sum())
    # The classifier is at its minimum, so only the contexts' part of the gradient counts.
    to_left = 2 / target.size * (residual @ right @ np.swapaxes(classifier, -1, -2)).sum(axis=0)
    to_right = 2 / target.size * (np.swapaxes(residual, -1, -2) @ left @ classifier).sum(axis=0)
    gradient = _backwards(tensors, left, left_tape, to_left)
    gradient += np.swapaxes(_backwards(mirrored, right, right_tape, to_right), -1, -2)
    return loss, np.asarray(2 * root * gradient).ravel()


def _flow(attention: Attention) -> GradientFlow:
    features = attention.features_of_all(3).reshape(-1, attention.dimension)
    return GradientFlow(features, RULE(all_inputs(3)).reshape(-1).astype(float), l2=L2 / SCALE)


def _margin(attention: Attention) -> float:
    """Certified margin of the classifier that the flow ends with; negative or 0 where it does not generalise."""
    classifier = _flow(attention).stationary().reshape(2, BOND, BOND)
    certificate = ThermodynamicLimit(attention, RULE).certify(classifier)
    return certificate.margin if certificate.generalises else 0.0


def train_attention(rng: np.random.Generator) -> tuple[Attention, float, int]:
    """Attention for which the flow generalises, the certified margin, and the number of iterations."""
    for _ in range(ATTEMPTS):
        theta = rng.standard_normal(2 * BOND**2)
        iterations = 0

        def enough(intermediate_result: OptimizeResult) -> None:
            nonlocal iterations
            iterations += 1
            if _margin(_attention(intermediate_result.x)) >= MARGIN:
                raise StopIteration

        result = minimize(
            attention_loss, theta, jac=True, method="L-BFGS-B", callback=enough, options={"maxiter": ITERATIONS}
        )
        attention = _attention(result.x)
        margin = _margin(attention)
        if margin >= MARGIN:
            return attention, margin, iterations
    raise RuntimeError(f"no attention of {ATTEMPTS} reached a margin of {MARGIN}")


def _attention(theta: FloatArray) -> Attention:
    return Attention(theta.reshape(2, BOND, BOND) ** 2)


def compute(scale: Scale, rng: np.random.Generator, progress: Progress, *, draws: int = 0) -> xr.Dataset:
    """Train the attention, draw classifiers, and follow three of them."""
    draws = number_of_draws(scale, draws, DRAWS)
    attention, margin, iterations = train_attention(rng)
    limit, flow = ThermodynamicLimit(attention, RULE), _flow(attention)
    initial = rng.standard_normal((draws, attention.dimension))
    train = flow.zero_train_time(initial) / SCALE
    test = np.empty(draws)
    for run in range(draws):
        test[run] = limit.zero_test_time(flow, initial[run]) / SCALE
        progress(0.8 * (run + 1) / draws)
    order = np.argsort(test - train, kind="stable")
    shown = np.array([order[round(quantile * (draws - 1))] for quantile in SHOWN.values()])
    time = np.linspace(0.0, 1.15, MOMENTS) * test[shown, None]
    train_error, test_error = np.empty((3, MOMENTS)), np.empty((3, MOMENTS))
    for row, run in enumerate(shown):
        weights = flow.weights(SCALE * time[row], initial[run])
        train_error[row] = (flow.labels * (weights @ flow.inputs.T) <= 0).mean(axis=1)
        for moment, classifier in enumerate(weights.reshape(-1, 2, BOND, BOND)):
            test_error[row, moment] = limit.test_error(classifier, tolerance=TOLERANCE).lower
        progress(0.8 + 0.2 * (row + 1) / 3)
    return xr.Dataset(
        {
            "train_error": variable(("shown", "moment"), train_error, "fraction of wrong training outputs", "E"),
            "test_error": variable(("shown", "moment"), test_error, "fraction of wrong outputs of endless inputs", "E"),
            "time": variable(("shown", "moment"), time, "time in the paper's units", "t"),
            "zero_train_time": variable("run", train, "time of zero training error", "t"),
            "zero_test_time": variable("run", test, "time of zero test error", "t_ε"),
            "rises": variable("rise_run", _rises(attention, flow, rng), "largest rise of the test error in other runs"),
            "shown_run": variable("shown", shown, "number of the run that is shown"),
            "tensors": variable(
                ("spin", "left_bond", "right_bond"), attention.tensors, "trained attention tensors", "A"
            ),
        },
        coords={"shown": list(SHOWN)},
        attrs={"draws": draws, "margin": margin, "iterations": iterations},
    )


def _rises(attention: Attention, flow: GradientFlow, rng: np.random.Generator) -> FloatArray:
    """By how much the error on all inputs of length 8 rises above an earlier value, in each of some more runs."""
    wanted = RULE(all_inputs(RISE_LENGTH))
    rises = np.empty(RISE_RUNS)
    for run, start in enumerate(rng.standard_normal((RISE_RUNS, attention.dimension))):
        weights = flow.weights(SCALE * RISE_TIMES, start)
        scores = attention.scores_of_all(RISE_LENGTH, weights.reshape(-1, 2, BOND, BOND))
        error = (scores * wanted <= 0).mean(axis=(-2, -1))
        rises[run] = (error - np.minimum.accumulate(error)).max()
    return rises


def draw(data: xr.Dataset) -> Figure:
    """Three runs, and all of them by their two times."""
    with style():
        figure, axes = panels(4, height=2.5)
        for index, (axis, name) in enumerate(zip(axes, SHOWN, strict=False)):
            run = data.sel(shown=name)
            axis.step(run["time"], run["train_error"], where="post", color=colour(0), label="train")
            axis.plot(run["time"], run["test_error"], color=colour(1), ls=(0, (5, 1.5)), label="test")
            axis.set_xlabel("$t$")
            panel_title(axis, index, f"{name} plateau")
        axes[0].set_ylabel("fraction of wrong outputs")
        axis = axes[3]
        axis.plot(data["zero_train_time"], data["zero_test_time"], ".", ms=3, color=colour(2), label="all runs")
        published = np.array([_times(panel) for panel in published_curves("fig12").values()])
        axis.plot(*published.T, "k*", ms=7, label="published runs")
        axis.axline((1, 1), slope=1, color="#999999", lw=0.6)
        for scale, each in ((axis.set_xscale, axis.xaxis), (axis.set_yscale, axis.yaxis)):
            scale("log")
            each.set_major_locator(LogLocator(10, (1, 2, 5)))
            each.set_major_formatter("{x:g}")
            each.set_minor_formatter(NullFormatter())
        axis.set_xlabel("zero-train time")
        axis.set_ylabel("zero-test time")
        panel_title(axis, 3, "all runs")
        legend_below(figure, axes[0], 2)
        axis.legend(loc="lower right", fontsize=6)
    return figure


def draw_published() -> Figure:
    """The published curves."""
    return published_panels(
        published_curves("fig12"),
        titles={"left": "left", "middle": "middle", "right": "right"},
        xlabel="$t$",
        ylabel="fraction of wrong outputs",
    )[0]


def _times(panel: dict[str, Curve]) -> tuple[float, float]:
    """Published zero-train and zero-test times: the first reading of zero."""
    train, test = (float(time[np.flatnonzero(error > 0)[-1] + 1]) for time, error in (panel["train"], panel["test"]))
    return train, test


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """Published times among ours, the grids of the errors, and the statements on plateaus."""
    curves = published_curves("fig12")
    times = {"zero-train": data["zero_train_time"].values, "zero-test": data["zero_test_time"].values}
    rows = []
    for panel, published in curves.items():
        for (name, ours), theirs in zip(times.items(), _times(published), strict=True):
            rows.append(
                Comparison(
                    f"{name} time, {panel} panel",
                    f"{theirs:.3g}",
                    f"{np.mean(ours < theirs):.0%} of our runs are faster",
                    f"{ours.size} runs from {ours.min():.2g} to {ours.max():.3g}",
                    bool(ours.min() <= theirs <= ours.max()),
                    "one run of another attention of the same kind, in time units with κ = 6: size only",
                )
            )
    gap = times["zero-test"] - times["zero-train"]
    rises = data["rises"].values
    rows += [
        Comparison(
            "training error is zero before test error is",
            "in all three runs",
            f"in {np.mean(gap > 0):.0%} of {gap.size}, never after",
            "exact times",
            bool((gap >= 0).all()),
            "the training inputs are among those of the test; equal times mean that a training input is the last one",
        ),
        Comparison(
            "the test error may rise on its way",
            "yes (left panel)",
            f"by more than {RISE} in {np.mean(rises > RISE):.1%} of {rises.size} runs, at most by {rises.max():.2g}",
            f"all inputs of length {RISE_LENGTH}",
            bool((rises > RISE).any()),
            "a mode that is learned early can turn scores that were right by chance",
        ),
        Comparison(
            "zero final error for inputs of every length",
            "by construction",
            f"certified, margin {data.attrs['margin']:.3f}",
            f"{data.attrs['iterations']} iterations of L-BFGS",
            data.attrs["margin"] > 0,
            "proof by balls around the contexts; the paper tests 5000 outputs",
        ),
    ]
    return rows


EXPERIMENT = Experiment(
    name="fig12",
    title="A plateau after training, with attention fixed",
    summary=(
        "A student of bond 6 whose attention was trained beforehand learns only its linear classifier. Where it starts "
        "decides whether its test error waits on a plateau after the training error has vanished, or falls with it."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"draws": 0},
)
