"""Aligned averages: exact on shifted copies, missing records, and how much aligning at the first zero selects."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import grokphase as gp


def shifted_copies(shifts, length=40):
    """The same curve, later by whole records."""
    time = np.arange(length) * 0.1
    curve = np.clip(0.05 * (20 - np.arange(-length, 2 * length)), 0.0, 0.5)  # zero from record 20 on
    error = np.array([curve[length - shift : 2 * length - shift] for shift in shifts])
    return {"time": time, "train_error": np.zeros_like(error), "test_error": error}, curve[length : 2 * length]


def test_shifted_copies_fall_on_one_curve():
    runs, curve = shifted_copies([0, 3, 7, -4])
    aligned = gp.measure(runs).aligned()
    # 0.1·k in binary is off by rounding; records are met nevertheless.
    places = np.round(aligned["offset"] / 0.1).astype(int).to_numpy() + 20
    inside = (places >= 0) & (places < curve.size)
    assert_allclose(aligned["test_error"].to_numpy()[inside], curve[places[inside]], atol=1e-15)
    assert_allclose(aligned["test_error_stderr"], 0.0, atol=1e-15)
    assert_allclose(aligned["selection_bias"], 0.0, atol=1e-15)
    plain = gp.measure(runs).aligned("fixed_time")
    assert plain["test_error_stderr"].max() > 0.05  # the control: without alignment they differ


def test_count_mean_and_standard_error_by_hand():
    error = np.array([[0.4, 0.2, 0.0, 0.0], [np.nan, 0.3, 0.1, 0.0], [0.5, 0.5, 0.5, 0.5]])
    runs = {"time": [0.0, 1, 2, 3], "train_error": np.zeros((3, 4)), "test_error": error}
    aligned = gp.measure(runs).aligned(offsets=[-3, -2, -1, 0, 1])
    assert_array_equal(aligned["count"], [0, 2, 2, 2, 1])
    assert_allclose(aligned["test_error"], [np.nan, 0.35, 0.15, 0.0, 0.0])
    assert_allclose(aligned["test_error_stderr"], [np.nan, 0.05, 0.05, 0.0, np.inf])
    fixed = gp.measure(runs).aligned("fixed_time")
    assert_array_equal(fixed["count"], [2, 3, 3, 3])
    assert_allclose(fixed["test_error"], [0.45, 1 / 3, 0.2, 0.5 / 3])
    assert_allclose(fixed["test_error_stderr"][1], np.std([0.2, 0.3, 0.5], ddof=1) / 3**0.5)


def test_other_variables_and_gaps_are_interpolated():
    table = {
        "time": [0.0, 1, 2, 3],
        "train_error": np.zeros((1, 4)),
        "test_error": [[0.4, 0.2, 0.0, 0.0]],
        "dimension": [[4.0, np.nan, 2.0, 1.0]],
    }
    aligned = gp.measure(gp.read_runs(table, others=["dimension"])).aligned(offsets=[-1.5, -1, 0.5])
    assert_allclose(aligned["dimension"], [3.5, 3.0, 1.5])
    assert_allclose(aligned["test_error"], [0.3, 0.2, 0.0])


def test_zero_train_time_and_refusals():
    runs, _ = shifted_copies([0, 2])
    runs["train_error"] = np.where(np.arange(40) < 5, 0.5, 0.0) * np.ones((2, 1))
    transition = gp.measure(runs)
    aligned = transition.aligned("zero_train_time", offsets=[-0.1, 0.0])
    assert_allclose(aligned["train_error"], [0.5, 0.0])
    with pytest.raises(ValueError, match="about must be one of"):
        transition.aligned("zero")
    with pytest.raises(ValueError, match="ascending"):
        transition.aligned(offsets=[1.0, 0.0])
    with pytest.raises(ValueError, match="offsets must be left out"):
        transition.aligned("fixed_time", offsets=[0.0])
    never = gp.measure({"time": [0.0, 1], "train_error": [[0.5, 0.5]], "test_error": [[0.5, 0.5]]})
    with pytest.raises(ValueError, match="no run reached its zero_test_time"):
        never.aligned()


def test_selection_bias_is_a_lower_bound_of_the_true_one():
    """Errors counted on 200 fresh inputs touch zero before the true zero: the mean before "first" is too large.

    The truth is known here: the same mean aligned at the true zero.  Differences are compared in standard errors;
    4.5 is a false-alarm rate of 7e-6.
    """
    rng = np.random.default_rng(2)
    time, members = np.arange(400.0), 500
    zero = rng.uniform(250, 350, members)
    law = np.clip((zero[:, None] - time) / 100, 0.0, 0.5) ** 1.5
    error = rng.binomial(200, law) / 200
    transition = gp.measure({"time": time, "train_error": np.zeros_like(error), "test_error": error})
    offset = np.array([-20.0])
    aligned = transition.aligned(offsets=offset)
    # E(20 before the true zero), plus what half a sampling step adds.
    truth = ((20 - rng.random(10**6)) / 100) ** 1.5
    true_bias = float(aligned["test_error"][0]) - truth.mean()
    told, stderr = float(aligned["selection_bias"][0]), float(aligned["selection_bias_stderr"][0])
    assert told > 4.5 * stderr  # it is seen
    assert told < true_bias + 4.5 * np.hypot(stderr, float(aligned["test_error_stderr"][0]))
    assert told > 0.2 * true_bias  # and is no empty bound
    exact = gp.measure({"time": time, "train_error": np.zeros_like(error), "test_error": law})
    assert float(abs(exact.aligned(offsets=offset)["selection_bias"][0])) == 0.0
