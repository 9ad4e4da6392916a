"""Predictions for one set of parameters, as the command line shows them: numbers, one plain sentence, a picture.

A prediction is a record of what the solvable models say: the grokking probability, the grokking time and the
exponent.  It is turned into text, into JSON (``SCHEMA`` names its version; fields are only ever added) or into a
figure.  Nothing here is a formula: every number comes from the public models.

For the ball model three answers stand side by side, since they are different things: the large-sample law of the
probability and exact stationary solutions of drawn training sets; the idealised law of the grokking time and
simulated gradient flows with these very samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from grokphase._checks import FloatArray, generator, integer, real
from grokphase.solvable.ball import BallModel
from grokphase.solvable.exponential import ExponentialModel
from grokphase.solvable.gradient_flow import GradientFlow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SCHEMA", "Prediction", "predict_ball", "predict_exponential"]

SCHEMA = 1
"""Version of the JSON form."""

_LEVELS = (0.05, 0.5, 0.95)
_DRAWN_NUMBERS = 10**8  # drawn for the probability at most
_FLOW_NUMBERS = 2 * 10**8  # multiplied out for the simulated times at most
_MOST_RUNS = 1000
_SHOWN_UP_TO = 0.99  # quantile at which the time axis ends


@dataclass(frozen=True)
class Prediction:
    """What a solvable model predicts for one set of parameters.

    Attributes
    ----------
    data
        The JSON form: plain numbers, strings, lists and dictionaries; None where a quantity does not exist.
    sentence
        What it means, in one sentence.
    draw
        Makes the picture (and only then loads matplotlib).
    """

    data: dict[str, Any]
    sentence: str
    draw: Callable[[], "Figure"]


# --- exponential model ---


def predict_exponential(class_gap: float, samples_per_class: int, l1: float = 0.0, l2: float = 0.0) -> Prediction:
    """Exact prediction of the one-dimensional exponential model.

    Parameters
    ----------
    class_gap, l1, l2
        ε, λ₁, λ₂ ≥ 0.
    samples_per_class
        N ≥ 1.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> prediction = predict_exponential(0.4, 10, l2=0.1)
    >>> round(prediction.data["grokking_probability"]["value"], 4)
    0.9485
    """
    gap = real("class_gap", class_gap, minimum=0.0)
    n = integer("samples_per_class", samples_per_class, minimum=1)
    model = ExponentialModel(class_gap=gap, l1=real("l1", l1, minimum=0.0), l2=real("l2", l2, minimum=0.0))
    probability = float(model.grokking_probability(n))
    time, note = _exponential_time(model, n)
    data = {
        "schema": SCHEMA,
        "model": "exponential",
        "parameters": {"class_gap": gap, "samples_per_class": n, "l1": model.l1, "l2": model.l2},
        "effective_gap": model.effective_gap,
        "grokking_probability": {
            "value": probability,
            "complement": float(model.grokking_probability(n, complement=True)),
            "method": "exact",
        },
        "grokking_time": time,
        "exponent": model.exponent,
        "note": note,
    }
    odds = f"{_percent(probability)} of random training sets with {n} samples a class end with zero test error"
    if time is None:
        meaning = f"{odds}."
    else:
        meaning = (
            f"{odds}; those that do get there {time['mean']:.3g} ± {time['std']:.2g} units of gradient-flow time after "
            "the training error is zero, and the test error then falls linearly to zero."
        )
    return Prediction(data, meaning, lambda: _draw_exponential(model, n))


def _exponential_time(model: ExponentialModel, n: int) -> tuple[dict[str, Any] | None, str | None]:
    """Mean, spread and quantiles of t_G, or why there are none."""
    try:
        law = model.grokking_time(n)
    except ValueError as error:
        return None, f"no grokking time: {error}"
    return {
        "mean": float(law.mean()),
        "std": float(law.std()),
        "quantiles": _quantiles(law.ppf(np.array(_LEVELS))),
        "method": "exact, given zero test error and an initial bias above every positive sample",
    }, None


def _draw_exponential(model: ExponentialModel, n: int) -> "Figure":
    from grokphase.experiments._style import colour, panel_title, panels, style

    with style():
        figure, (left, right) = panels(2)
        sizes = np.unique(np.rint(np.geomspace(1, max(100, 10 * n), 120)).astype(int))
        left.plot(sizes, model.grokking_probability(sizes), color=colour(0))
        left.plot([n], [model.grokking_probability(n)], "o", color=colour(1))
        left.set_xscale("log")
        left.set_ylim(0, 1.03)
        left.set_xlabel("samples per class $N$")
        left.set_ylabel("grokking probability $P_G$")
        panel_title(left, 0, "how likely")
        panel_title(right, 1, "how late")
        right.set_xlabel("grokking time $t_G$")
        if _exponential_time(model, n)[0] is None:
            right.text(0.5, 0.5, "no grokking time:\nsee the note", ha="center", transform=right.transAxes)
        else:
            law = model.grokking_time(n)
            time = np.linspace(0, float(law.ppf(_SHOWN_UP_TO)), 400)
            right.plot(time, law.pdf(time), color=colour(0))
            right.axvline(float(law.mean()), color=colour(1), lw=0.8)
            right.set_ylim(0, None)
            right.set_ylabel("density")
    return figure


# --- ball model ---


def predict_ball(
    dimension: int,
    class_gap: float,
    samples_per_class: int,
    l1: float = 0.0,
    l2: float = 0.01,
    *,
    trials: int | None = None,
    seed: int = 0,
) -> Prediction:
    """Prediction of the D-dimensional ball model: theory beside simulation.

    Parameters
    ----------
    dimension
        D ≥ 1.
    class_gap, l1, l2
        ε, λ₁, λ₂ ≥ 0.
    samples_per_class
        N ≥ 1.
    trials
        Training sets drawn for the probability; None: at most 10 000, fewer where they are large.  Of these at most
        1000 are also trained, from standard normal initial weights.
    seed
        Of everything drawn.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> prediction = predict_ball(5, 2.0, 20, trials=200)
    >>> print(round(prediction.data["grokking_time"]["idealised"]["mean"], 3), prediction.data["exponent"])
    0.861 3.0
    """
    n = integer("samples_per_class", samples_per_class, minimum=1)
    model = BallModel(
        dimension=dimension,
        class_gap=real("class_gap", class_gap),
        l1=real("l1", l1),
        l2=real("l2", l2),
    )
    seed = integer("seed", seed)
    size = 2 * n * model.dimension
    if trials is None:
        trials = int(np.clip(_DRAWN_NUMBERS // size, 100, 10_000))
    count = integer("trials", trials, minimum=1)
    estimate, stderr = model.grokking_probability(n, "monte-carlo", trials=count, rng=seed)
    idealised, note = _idealised_time(model)
    times = _simulated_times(model, n, int(np.clip(_FLOW_NUMBERS // size**2, 20, min(count, _MOST_RUNS))), seed)
    simulated = _summary_of_runs(times)
    data = {
        "schema": SCHEMA,
        "model": "ball",
        "parameters": {
            "dimension": model.dimension,
            "class_gap": model.class_gap,
            "samples_per_class": n,
            "l1": model.l1,
            "l2": model.l2,
            "trials": count,
            "seed": seed,
        },
        "grokking_probability": {
            "value": float(estimate),
            "stderr": float(stderr),
            "method": "monte-carlo",
            "first_order": float(model.grokking_probability(n)),
            "lower_bound": float(model.grokking_probability(n, "lower-bound")),
        },
        "grokking_time": {"idealised": idealised, "simulated": simulated},
        "exponent": model.exponent,
        "note": note,
    }
    odds = (
        f"{_share(float(estimate), float(stderr))} of {count} drawn training sets with {n} samples a class "
        "end with zero test error"
    )
    if simulated is None:
        meaning = f"{odds}; none of {times.size} simulated runs got there."
    else:
        quantiles = simulated["quantiles"]
        meaning = (
            f"{odds}; half of the simulated runs that get there do so within {quantiles['0.5']:.3g} units of "
            f"gradient-flow time after the training error is zero, 95% within {quantiles['0.95']:.3g}, and the test "
            f"error then vanishes as the power {model.exponent:g} of the time left."
        )
    return Prediction(data, meaning, lambda: _draw_ball(model, n, float(estimate), times))


def _idealised_time(model: BallModel) -> tuple[dict[str, Any] | None, str | None]:
    """Mean, spread and quantiles of the resolved two-mode law, or why it does not exist."""
    try:
        law = model.grokking_time()
    except ValueError as error:
        return None, f"no idealised grokking time: {error}"
    resolved = law.resolve()
    position, weight = law.atom
    return {
        "mean": float(resolved.mean()),
        "std": float(resolved.std()),
        "quantiles": _quantiles(resolved.ppf(np.array(_LEVELS))),
        "atom": {"position": float(position), "weight": float(weight)},
        "method": "two-mode flow, many samples",
    }, None


def _simulated_times(model: BallModel, n: int, runs: int, seed: int) -> FloatArray:
    """Grokking times of drawn training sets, inf where the test error does not vanish for good."""
    rng = generator("seed", seed)
    inputs, labels = model.sample(n, rng, size=runs)
    initial = rng.standard_normal((runs, model.dimension))
    flow = GradientFlow(inputs, labels, l1=float(model.l1), l2=float(model.l2))
    test = flow.zero_test_time(initial, model)
    groks = np.isfinite(test)
    train = flow.zero_train_time(initial)
    return np.where(groks, np.maximum(test - np.where(groks, train, 0.0), 0.0), np.inf)


def _summary_of_runs(times: FloatArray) -> dict[str, Any] | None:
    finite = times[np.isfinite(times)]
    if not finite.size:
        return None
    return {
        "mean": float(finite.mean()),
        "mean_stderr": float(finite.std(ddof=1) / np.sqrt(finite.size)) if finite.size > 1 else None,
        "std": float(finite.std()),
        "quantiles": _quantiles(np.quantile(finite, _LEVELS)),
        "runs": int(times.size),
        "runs_with_zero_test_error": int(finite.size),
        "method": "exact gradient flows of drawn training sets, standard normal initial weights",
    }


def _draw_ball(model: BallModel, n: int, probability: float, times: FloatArray) -> "Figure":
    from grokphase.experiments._style import colour, panel_title, panels, style

    with style():
        figure, (left, right) = panels(2)
        sizes = np.unique(np.rint(np.geomspace(1, max(100, 10 * n), 120)).astype(int))
        left.plot(sizes, model.grokking_probability(sizes), color=colour(0), label="large-sample law")
        left.plot([n], [probability], "o", color=colour(1), label="drawn training sets")
        left.set_xscale("log")
        left.set_ylim(-0.03, 1.03)
        left.set_xlabel("samples per class $N$")
        left.set_ylabel("grokking probability $P_G$")
        left.legend()
        panel_title(left, 0, "how likely")
        panel_title(right, 1, "how late (simulated runs)")
        right.set_xlabel("grokking time $t_G$")
        finite = times[np.isfinite(times)]
        if finite.size:
            right.hist(finite, bins=30, range=(0, np.quantile(finite, _SHOWN_UP_TO)), color=colour(0), density=True)
            right.set_ylabel("density")
        else:
            right.text(0.5, 0.5, "no run got there", ha="center", transform=right.transAxes)
    return figure


def _quantiles(values: FloatArray) -> dict[str, float]:
    return {f"{level:g}": float(value) for level, value in zip(_LEVELS, values, strict=True)}


def _percent(probability: float) -> str:
    """A probability in words that never round it to impossibility or certainty."""
    if probability == 0:
        return "None"
    if probability < 1e-3:
        return f"A fraction {probability:.2g}"
    return "More than 99.9%" if probability > 0.9995 else f"{100 * probability:.3g}%"


def _share(estimate: float, stderr: float) -> str:
    """A counted fraction in words, with its standard error."""
    if estimate in (0, 1):
        return "All" if estimate else "None"
    return f"{100 * estimate:.3g}% (± {100 * stderr:.1g} percentage points)"
