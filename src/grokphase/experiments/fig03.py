"""Figure 3: two training runs of the exponential model, one typical, one that groks.

The training set is the paper's own: each step of its train-error line is the moment at which the threshold b(t) passes
a sample, so the steps give the ten positive samples back. Only the mean of the negative ones enters; they are placed at
the quantiles of their distribution, rescaled to that mean. The published curves fit x̄ = 0.6095 and b(0) = 11.5 and
21.5, not x̄ = 0.7 and b(0) = 21 as caption and text have it.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grokphase import ExponentialModel
from grokphase._checks import FloatArray
from grokphase.experiments._framework import (
    Comparison,
    Curve,
    Experiment,
    Progress,
    Scale,
    compare_curve,
    compare_number,
    line_reading_error,
    published_curves,
    variable,
)
from grokphase.experiments._style import DASHES, colour, legend_below, panel_title, panels, published_panels, style

__all__ = ["EXPERIMENT"]

MODEL = ExponentialModel(class_gap=1.0)
MEAN = 0.6095  # fits both published test curves to 1e-4
INITIAL = {"typical": 11.5, "shifted": 21.5}
TEXT_MEAN, TEXT_INITIAL = 0.7, 21.0
STEP_WIDTH = 0.0032  # in t: the drawing's width of a step of the published train line
VISIBLE = 1e-4  # smallest error that the drawing shows


def _step_times(curve: Curve) -> FloatArray:
    """Times at which the published train error falls by one sample."""
    time, error = curve
    falls = np.flatnonzero(np.diff(error) < -0.05)
    return (time[falls] + time[falls + 1]) / 2


def _training_set(panel: str) -> tuple[FloatArray, FloatArray]:
    """Inputs and labels behind a published panel, from the steps of its train line."""
    steps = _step_times(published_curves("fig03")[panel]["train"])
    positive = MODEL.bias(steps, initial=INITIAL[panel], mean=MEAN)
    levels = (np.arange(positive.size) + 0.5) / positive.size
    excess = -np.log1p(-levels)
    gap = MODEL.class_gap
    wanted = positive.mean() - 2 * MEAN  # so that the mean of all inputs is MEAN
    negative = -(gap + excess * (wanted - gap) / excess.mean())
    inputs = np.concatenate([positive, negative])
    return inputs, np.repeat([1.0, -1.0], positive.size)


def compute(scale: Scale, rng: np.random.Generator, progress: Progress) -> xr.Dataset:
    """Errors on the positive samples, exact in time; the scale and the seed change nothing here."""
    time = np.linspace(0.0, 5.0, 1001)
    panel_names = list(INITIAL)
    train, test, zero_train, zero_test = [], [], [], []
    for panel in panel_names:
        inputs, labels = _training_set(panel)
        bias = MODEL.bias(np.maximum(time, 0.0), initial=INITIAL[panel], mean=MEAN)
        train.append((inputs[labels > 0] < bias[:, None]).mean(axis=1))
        test.append(2 * MODEL.test_error(bias))  # b > 0 errs on positive samples only
        zero_train.append(MODEL.zero_train_time(INITIAL[panel], inputs, labels))
        zero_test.append(MODEL.zero_test_time(INITIAL[panel], MEAN))
    progress(1.0)
    return xr.Dataset(
        {
            "train_error": variable(("panel", "time"), train, "train error on the positive samples", "E"),
            "test_error": variable(("panel", "time"), test, "test error on the positive samples", "E"),
            "zero_train_time": variable("panel", zero_train, "time of zero train error"),
            "zero_test_time": variable("panel", zero_test, "time of zero test error", "t_ε"),
        },
        coords={"panel": panel_names, "time": variable("time", time, "time of the gradient flow", "t")},
    )


def draw(data: xr.Dataset) -> Figure:
    """Train and test error of both runs, with the grokking time marked."""
    with style():
        figure, axes = panels(2)
        for index, (axis, panel) in enumerate(zip(axes, data["panel"].values, strict=True)):
            run = data.sel(panel=panel)
            start, end = float(run["zero_train_time"]), float(run["zero_test_time"])
            axis.axvspan(start, end, color="#dddddd", lw=0)
            axis.text((start + end) / 2, 0.93, f"$t_G={end - start:.2f}$", ha="center")
            axis.step(run["time"], run["train_error"], color=colour(0), where="post", label="train")
            axis.plot(run["time"], run["test_error"], color=colour(1), ls=DASHES[1], label="test")
            panel_title(axis, index, f"{panel} training set")
            axis.set_xlabel("time $t$")
        axes[0].set_ylabel("error on positive samples")
        legend_below(figure, axes[0], 2)
    return figure


def draw_published() -> Figure:
    """The published curves."""
    titles = {"typical": "typical training set", "shifted": "shifted training set"}
    return published_panels(
        published_curves("fig03"), titles=titles, xlabel="time $t$", ylabel="error on positive samples"
    )[0]


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The curves, the two grokking times, and what the text's parameters would have given."""
    rows = []
    for panel, curves in published_curves("fig03").items():
        time, error = curves["test"]
        time = np.maximum(time, 0.0)  # the reading puts the first point at -1e-5
        exact = 2 * MODEL.test_error(MODEL.bias(time, initial=INITIAL[panel], mean=MEAN))
        rows.append(
            compare_curve(
                f"test error against time, {panel} set",
                error,
                exact,
                x=time,
                reading_error=line_reading_error(curves, time, exact),
                why="Eqs. 6 and 7 with x̄ = 0.6095 and the initial threshold read off the curve: two numbers fit it all",
            )
        )
        # The published zeros are the ends of the drawn lines: last step of train, last visible point of test.
        published = time[error > VISIBLE].max() - _step_times(curves["train"]).max()
        run = data.sel(panel=panel)
        rows.append(
            compare_number(
                f"grokking time, {panel} set",
                published,
                float(run["zero_test_time"] - run["zero_train_time"]),
                reading_error=_time_resolution(curves["test"]) + STEP_WIDTH,
                why="difference of the exact zero-error times of the training set behind the published steps",
            )
        )
    drawn = published_curves("fig03")["typical"]["test"]
    rows.append(
        compare_number(
            "zero-test time for the text's x̄ = 0.7, b(0) = 21, typical set",
            float(drawn[0][drawn[1] > VISIBLE].max()),
            float(MODEL.zero_test_time(TEXT_INITIAL, TEXT_MEAN)),
            reading_error=_time_resolution(drawn),
            why="the curves were not drawn with the text's values: x̄ = 0.6095 fits both, b(0) = 11.5 and 21.5",
            erratum=True,
        )
    )
    return rows


def _time_resolution(curve: Curve) -> float:
    """Distance between the last point with a visible error and the next one."""
    time, error = curve
    last = int(np.flatnonzero(error > VISIBLE).max())
    return float(time[last + 1] - time[last])


EXPERIMENT = Experiment(
    name="fig03",
    title="Training runs of the exponential model",
    summary=(
        "A threshold b(t) slides down to the mean of the data. The train error is zero once it has passed the lowest "
        "positive sample, the test error once it is inside the gap. Shifting the samples away from the gap makes "
        "the wait between the two long: grokking."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
)
