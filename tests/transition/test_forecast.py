"""Forecast of a linear head: against plain gradient descent with small steps, and against what must hold."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import grokphase as gp


def task(seed, samples=20, held_out=200, dims=6, gap=0.3):
    """Two classes on either side of a plane, the held-out samples from the same law."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(samples + held_out, dims))
    labels = np.where(rng.random(len(features)) < 0.5, 1.0, -1.0)
    features[:, 0] = labels * (gap + rng.exponential(size=len(features)))
    return features[:samples], labels[:samples], features[samples:], labels[samples:]


def descent(features, labels, initial, l1, l2, step, time):
    """Plain (sub)gradient descent of the mean squared loss; small steps follow the flow to first order in the step."""
    weights = np.array(initial)
    path = [weights]
    for _ in range(round(time / step)):
        gradient = features.T @ (features @ weights - labels) / len(features) + l2 * weights
        weights = weights - step * gradient
        weights = np.sign(weights) * np.maximum(np.abs(weights) - step * l1, 0.0)  # proximal: rests at zero
        path.append(weights)
    return np.array(path)


def zero_from(features, labels, path, step):
    wrong = ((path @ (labels[:, None] * features).T) <= 0).any(axis=1)
    return 0.0 if not wrong.any() else (np.flatnonzero(wrong)[-1] + 1) * step


@pytest.mark.parametrize(("seed", "l1", "l2"), [(0, 0.0, 0.0), (1, 0.0, 0.3), (2, 0.1, 0.1), (3, 0.05, 0.0)])
def test_agrees_with_gradient_descent(seed, l1, l2):
    train, labels, test, test_labels = task(seed)
    initial = np.random.default_rng(seed).normal(size=train.shape[1])
    forecast = gp.perceptron_forecast(train, labels, test, test_labels, l1=l1, l2=l2, initial=initial)
    step, end = 1e-3, 20.0
    path = descent(train, labels, initial, l1, l2, step, end)
    # The path is off by about step·|rate|·|w|/2 ~ 1e-3; where a sample crosses the plane at the speed v, that is 1e-3/v
    # in time.
    for time, features, sides in (
        (forecast.zero_train_time, train, labels),
        (forecast.zero_test_time, test, test_labels),
    ):
        if np.isfinite(time) and time < 0.8 * end:
            assert zero_from(features, sides, path, step) == pytest.approx(
                float(time), abs=0.02 * max(float(time), 1.0)
            )
        else:
            assert zero_from(features, sides, path, step) > 0.8 * end or not np.isfinite(time)
    assert_allclose(forecast.limit, descent(train, labels, initial, l1, l2, 0.01, 400.0)[-1], atol=1e-3)
    errors = forecast.errors([0.0, 1.0, 5.0])
    for name, features, sides in (("train_error", train, labels), ("test_error", test, test_labels)):
        wrong = (path[[0, 1000, 5000]] @ (sides[:, None] * features).T <= 0).mean(axis=1)
        assert_allclose(errors[name][0], wrong, atol=1.5 / len(features))  # one sample may be at the plane


def test_its_errors_measure_to_its_times():
    """The dataset of the forecast, through the other door."""
    train, labels, test, test_labels = task(4)
    initial = np.random.default_rng(0).normal(size=(5, train.shape[1]))
    forecast = gp.perceptron_forecast(train, labels, test, test_labels, l2=0.05, initial=initial)
    time = np.linspace(0, 30, 3001)
    transition = gp.measure(forecast.errors(time), which="final")
    for measured, exact in (
        (transition.zero_train_time, forecast.zero_train_time),
        (transition.zero_test_time, forecast.zero_test_time),
    ):
        reached = np.asarray(exact) < 30
        assert_array_equal(measured.reached, reached)
        assert ((measured.low <= exact) & (exact <= measured.high))[reached].all()
    assert forecast.grokking_time.shape == (5,)


def test_says_never_where_the_held_out_samples_contradict_the_limit():
    train = np.array([[1.0, 0.2], [-1.0, 0.2]])
    forecast = gp.perceptron_forecast(train, [1, -1], [[-1.0, 0.0]], [1])
    assert not forecast.reaches_zero_test_error
    assert forecast.grokking_time == np.inf
    assert (forecast.final_train_error, forecast.final_test_error) == (0.0, 1.0)
    assert forecast.zero_train_time == 0.0  # from w = 0, the first step is in the right direction


def test_bias_is_a_feature_of_ones():
    train, labels, test, test_labels = task(5)
    with_bias = gp.perceptron_forecast(train, labels, test, test_labels, l2=0.1, bias=True)
    ones = [np.hstack([part, np.ones((len(part), 1))]) for part in (train, test)]
    by_hand = gp.perceptron_forecast(ones[0], labels, ones[1], test_labels, l2=0.1)
    assert_allclose(with_bias.limit, by_hand.limit)
    assert with_bias.zero_test_time == by_hand.zero_test_time


def test_bad_input():
    train, labels, test, test_labels = task(0)
    with pytest.raises(ValueError, match="test_features must have 6 dims as features, got 5"):
        gp.perceptron_forecast(train, labels, test[:, :5], test_labels)
    with pytest.raises(ValueError, match=r"labels must have shape \(20,\)"):
        gp.perceptron_forecast(train, labels[:5], test, test_labels)
    with pytest.raises(ValueError, match="labels must hold only -1"):
        gp.perceptron_forecast(train, labels * 0, test, test_labels)
    with pytest.raises(ValueError, match="l2 must be ≥ 0"):
        gp.perceptron_forecast(train, labels, test, test_labels, l2=-1)
    with pytest.raises(ValueError, match=r"initial must have shape \(..., 6\)"):
        gp.perceptron_forecast(train, labels, test, test_labels, initial=[0.0])
    with pytest.raises(ValueError, match="features must have at least 2 dim"):
        gp.perceptron_forecast(train[0], labels, test, test_labels)
    with pytest.raises(ValueError, match="ascending"):
        gp.perceptron_forecast(train, labels, test, test_labels).errors([1.0, 0.0])
