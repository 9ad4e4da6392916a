"""Exponential model: flow, errors and zero-error times against the differential inclusion and brute force."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import solve_ivp

import grokphase as gp


def integrated_bias(time, initial, mean, l1, l2):
    """b at increasing times by an eighth-order integrator, restarted at zeros by the rule of the inclusion."""
    time = np.asarray(time)
    result = np.zeros(time.shape)
    start, bias = 0.0, initial
    while True:
        if bias == 0 and abs(mean) <= l1:  # 0 lies in x̄ − λ₁[−1, 1]: rest
            return result
        sign = np.sign(bias) if bias else np.sign(mean)

        def reaches_zero(_, b, sign=sign, from_zero=bias == 0):
            return 1.0 if from_zero else b[0] * sign

        reaches_zero.terminal = True
        leg = solve_ivp(
            lambda t, b, sign=sign: mean - l1 * sign - (1 + l2) * b,
            (start, max(time[-1], start)),
            [bias],
            method="DOP853",
            rtol=1e-12,
            atol=1e-13,
            events=reaches_zero,
            dense_output=True,
        )
        here = (time >= start) & (time <= leg.t[-1])
        if here.any():
            result[here] = leg.sol(time[here])[0]
        if leg.status == 0:
            return result
        start, bias = leg.t[-1], 0.0


CROSSES = {"initial": 1.2, "mean": -0.6}
RESTS = {"initial": 1.2, "mean": -0.06}


@pytest.mark.parametrize("initial", [1.2, -0.7, 0.0, 0.004])
@pytest.mark.parametrize("mean", [-0.6, -0.1, -0.06, 0.0, 0.06, 0.1, 0.9])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.5), (0.0, 2.0)])
def test_bias_follows_the_inclusion(initial, mean, l1, l2):
    time = np.linspace(0, 4, 41)
    ours = gp.ExponentialModel(class_gap=0.1, l1=l1, l2=l2).bias(time, initial, mean)
    # The integrator keeps 1e-12 relative and 1e-13 absolute a step, with some 30 steps; the flow contracts.
    np.testing.assert_allclose(ours, integrated_bias(time, initial, mean, l1, l2), rtol=0, atol=1e-10)


def test_bias_follows_the_implicit_euler_scheme_that_knows_no_cases():
    """Each step is the minimiser of a convex function; the error is below h|b'(0)|/√2 (Rulla 1996)."""
    rng = np.random.default_rng(0)
    size, step = 3000, 1e-3
    initial, mean = rng.normal(0, 1, size), rng.normal(0, 0.5, size)
    l1, l2 = rng.exponential(0.3, size), rng.exponential(1.0, size)
    initial[:300] = 0
    l1[200:600] = 0
    model = gp.ExponentialModel(class_gap=0.1, l1=l1, l2=l2)
    minimal = np.where(
        initial == 0, np.maximum(np.abs(mean) - l1, 0), np.abs(mean - l1 * np.sign(initial) - (1 + l2) * initial)
    )
    bias, rested, crossed = initial.copy(), np.zeros(size, bool), np.zeros(size, bool)
    for count in range(1, 3001):
        trial = bias + step * mean
        bias = np.sign(trial) * np.maximum(np.abs(trial) - step * l1, 0) / (1 + step * (1 + l2))
        if count % 100 == 0:
            exact = model.bias(count * step, initial, mean)
            assert (np.abs(exact - bias) <= step / np.sqrt(2) * minimal + 1e-12).all()
            rested |= (exact == 0) & (initial != 0)
            crossed |= exact * initial < 0
    assert rested.sum() > 300  # the sample holds what the test is about
    assert crossed.sum() > 300


def printed_eq_6(time, initial, mean, l1, l2, sign):
    limit = (mean - l1 * sign) / (1 + l2)
    return limit - (limit - initial) * np.exp(-(1 + l2) * time)


def test_eq_6_as_printed_fails_after_a_zero():
    model = gp.ExponentialModel(class_gap=0.15, l1=0.1, l2=0.5)
    exact = model.bias(1.2, **CROSSES)
    assert exact == pytest.approx(-0.136549, abs=5e-7)
    assert integrated_bias([1.2], l1=0.1, l2=0.5, **CROSSES)[0] == pytest.approx(exact, abs=1e-10)
    assert printed_eq_6(1.2, **CROSSES, l1=0.1, l2=0.5, sign=-1) == pytest.approx(-0.0799, abs=5e-5)
    # Within the L1 threshold the bias rests at 0; either printed branch contradicts its own condition.
    assert model.bias(3.0, **RESTS) == 0
    assert integrated_bias([3.0], l1=0.1, l2=0.5, **RESTS)[0] == 0
    assert printed_eq_6(3.0, **RESTS, l1=0.1, l2=0.5, sign=+1) == pytest.approx(-0.092, abs=5e-4)
    assert printed_eq_6(3.0, **RESTS, l1=0.1, l2=0.5, sign=-1) == pytest.approx(+0.040, abs=5e-4)
    # Before the zero, and without L1 always, the print is right.
    assert model.bias(0.5, **CROSSES) == pytest.approx(printed_eq_6(0.5, **CROSSES, l1=0.1, l2=0.5, sign=1), rel=1e-14)
    bare = gp.ExponentialModel(class_gap=0.15, l2=0.5)
    assert bare.bias(1.2, **CROSSES) == pytest.approx(printed_eq_6(1.2, **CROSSES, l1=0, l2=0.5, sign=1), rel=1e-14)


def test_eq_7_as_printed_fails_for_negative_bias():
    model = gp.ExponentialModel(class_gap=0.15, l1=0.1, l2=0.5)
    bias = model.bias(2.0, **CROSSES)
    assert bias < -model.class_gap  # where the printed formula says 0
    assert model.test_error(bias) == pytest.approx(0.0583, abs=5e-5)


@pytest.mark.parametrize("bias", [-4.0, -0.8, -0.5, -0.2, 0.0, 0.3, 0.5, 0.9, 5.0])
def test_test_error_is_the_fraction_of_fresh_samples_wrong(bias):
    model = gp.ExponentialModel(class_gap=0.5)
    inputs, labels = model.sample(500_000, rng=1)
    wrong = np.mean(np.where(inputs - bias >= 0, 1, -1) != labels)
    error = model.test_error(bias)
    # Nine values at 4.5 standard errors: false-alarm rate 6e-5.
    assert abs(wrong - error) <= 4.5 * np.sqrt(error * (1 - error) / 1e6)
    # Control: a gap smaller by a tenth must show where the error depends on it.
    other = gp.ExponentialModel(class_gap=0.45).test_error(bias)
    assert not 0.45 < abs(bias) < 1 or abs(wrong - other) > 20 * np.sqrt(other * (1 - other) / 1e6)


def test_test_error_keeps_small_values_and_takes_any_bias():
    model = gp.ExponentialModel(class_gap=0.5)
    assert model.test_error([np.inf, -np.inf]).tolist() == [0.5, 0.5]
    # 0.5 + 2^-40 is exact: E = 2^-41 (1 − 2^-41 + ...).
    assert model.test_error(-0.5 - 2.0**-40) == pytest.approx(2.0**-41, rel=1e-12)


def test_eq_8_as_printed_fails_with_l2():
    model = gp.ExponentialModel(class_gap=0.3, l1=0.05, l2=0.5)
    mean, initial = 0.1, 2.0
    limit = (mean - model.l1) / (1 + model.l2)
    printed = np.log((initial - limit) / (model.class_gap - limit))
    assert printed == pytest.approx(1.998, abs=5e-4)
    assert model.bias(printed, initial, mean) == pytest.approx(0.132, abs=5e-4)
    time = model.zero_test_time(initial, mean)
    assert time == pytest.approx(printed / 1.5, rel=1e-14)
    # db/dt = −0.4 there: one rounding error of t moves b by less than 1e-15.
    assert model.bias(time, initial, mean) == pytest.approx(0.3, abs=1e-15)
    bare = dataclasses.replace(model, l2=0.0)
    limit = mean - model.l1
    assert bare.zero_test_time(initial, mean) == pytest.approx(np.log((initial - limit) / (0.3 - limit)), rel=1e-14)


# --- zero-error times from the definition: scan the error on a fine grid, then bisect its last and first change ---


def scanned_times(is_zero, stays_zero):
    """First and final time of zero error, from the indicator alone."""
    grid = np.concatenate([np.linspace(0, 8, 40_001), np.geomspace(8.01, 60, 200)])
    zero = is_zero(grid)

    def bisect(wrong, right):
        for _ in range(60):
            middle = (wrong + right) / 2
            wrong, right = (wrong, middle) if is_zero(np.array([middle]))[0] else (middle, right)
        return right

    first = final = np.inf
    if zero.any():
        index = int(np.argmax(zero))
        first = bisect(grid[index - 1], grid[index]) if index else 0.0
    if stays_zero and zero[-1]:
        index = len(grid) - int(np.argmin(zero[::-1])) if not zero.all() else 0
        final = bisect(grid[index - 1], grid[index]) if index else 0.0
    return first, final


def agree(ours, scanned):
    # 40 bisections reach rounding of the error indicator: the bias is good to 1e-15 or so, and moves at more than
    # 1e-4 in all cases below.
    return ours == scanned if np.isinf(scanned) or scanned == 0 else abs(ours - scanned) < 1e-10


def test_zero_test_time_is_that_of_a_scan():
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(150):
        gap, l1, l2 = rng.exponential([0.3, 0.2, 0.5]) * (rng.random(3) < 0.8)
        model = gp.ExponentialModel(class_gap=gap, l1=l1, l2=l2)
        initial, mean = rng.normal(0, 0.7, 2)

        def is_zero(time, model=model, initial=initial, mean=mean):
            return model.test_error(model.bias(time, initial, mean)) == 0

        first, final = scanned_times(is_zero, is_zero(np.array([np.inf]))[0])
        if gap:  # without a gap the error may vanish for an instant, between the points of the grid
            assert agree(model.zero_test_time(initial, mean, which="first"), first)
        assert agree(model.zero_test_time(initial, mean), final)
        kinds.add((first > 0, np.isinf(first), np.isinf(final)))
    assert len(kinds) == 5  # at once or later, never, and for good or not


def test_zero_train_time_is_that_of_a_scan():
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(150):
        gap, l1, l2 = rng.exponential([0.3, 0.2, 0.5]) * (rng.random(3) < 0.8)
        model = gp.ExponentialModel(class_gap=gap, l1=l1, l2=l2)
        labels = rng.permutation([1.0, -1.0, *rng.choice([1.0, -1.0], rng.integers(0, 6))])
        inputs = labels * (gap + rng.exponential(0.7, labels.size)) + rng.normal(0, 0.4)
        if rng.random() < 0.2:
            labels, inputs = labels[labels > 0], inputs[labels > 0]  # one class only
        initial, mean = rng.normal(0, 1), (inputs - labels).mean()

        def is_zero(time, model=model, initial=initial, mean=mean, inputs=inputs, labels=labels):
            bias = model.bias(time, initial, mean)
            # A positive sample on the boundary counts as correct, and so does a negative one.
            return ((inputs - bias[:, None]) * labels >= 0).all(axis=1)

        first, final = scanned_times(is_zero, is_zero(np.array([np.inf]))[0])
        assert agree(model.zero_train_time(initial, inputs, labels, which="first"), first)
        assert agree(model.zero_train_time(initial, inputs, labels), final)
        kinds.add((first > 0, np.isinf(first), np.isinf(final)))
    assert len(kinds) == 5  # at once or later, never, and for good or not


numbers = st.floats(-3, 3).map(lambda x: x if abs(x) > 1e-200 else 0.0)  # no underflow
strengths = st.one_of(st.just(0.0), st.floats(1e-3, 2))
models = st.builds(
    lambda gap, l1, l2: gp.ExponentialModel(class_gap=gap, l1=l1, l2=l2),
    st.one_of(st.just(0.0), st.floats(1e-3, 2)),
    strengths,
    strengths,
)
# Rounding of biases of up to 6 over a few operations.
ROUNDING = 1e-14


@given(models, numbers, numbers)
def test_zero_test_time_by_its_definition(model, initial, mean):
    gap, limit = model.class_gap, model.bias(np.inf, initial, mean)
    first, final = (model.zero_test_time(initial, mean, which=which) for which in ("first", "final"))
    assert 0 <= first <= final
    if np.isfinite(final):
        assert first == final
        later = model.bias(final + np.array([0, 1e-9, 1e-3, 0.1, 1, 10, np.inf]), initial, mean)
        assert (np.abs(later) <= gap + ROUNDING).all()
    else:
        assert abs(limit) >= gap - ROUNDING
    if np.isfinite(first) and first > 0:
        earlier = model.bias(first * np.array([0, 0.1, 0.9, 0.999]), initial, mean)
        assert (np.abs(earlier) >= gap - ROUNDING).all()
        assert abs(model.bias(first, initial, mean)) == pytest.approx(gap, abs=ROUNDING)
    assert (first == 0) == (abs(initial) <= gap)


@given(models, numbers, numbers, st.floats(0, 5), st.floats(0, 5))
def test_flow_property(model, initial, mean, once, again):
    middle = model.bias(once, initial, mean)
    assert model.bias(once + again, initial, mean) == pytest.approx(model.bias(again, middle, mean), abs=ROUNDING)
    # Convex loss: two solutions approach each other at least like exp(−(1+λ₂)t).
    other = model.bias(once, initial + 0.5, mean)
    assert abs(other - middle) <= 0.5 * np.exp(-(1 + model.l2) * once) + ROUNDING


@given(models, numbers, numbers, st.sampled_from(["first", "final"]))
def test_reflection(model, initial, mean, which):
    assert model.zero_test_time(initial, mean, which) == model.zero_test_time(-initial, -mean, which)
    assert model.bias(0.7, -initial, -mean) == -model.bias(0.7, initial, mean)


@given(models, numbers, numbers, st.sampled_from(["first", "final"]), st.integers(-40, 40))
def test_unit_of_length(model, initial, mean, which, power):
    # Everything is linear in lengths, and a power of two changes no digit.
    unit = 2.0**power
    scaled = gp.ExponentialModel(class_gap=unit * model.class_gap, l1=unit * model.l1, l2=model.l2)
    assert scaled.zero_test_time(unit * initial, unit * mean, which) == model.zero_test_time(initial, mean, which)


@given(models, st.integers(1, 6), st.integers(0, 10**6), st.floats(0, 2), st.floats(-30, 30))
def test_training_error_vanishes_no_later_than_the_test_error(model, samples, seed, shift, initial):
    inputs, labels = model.sample(samples, seed, shift=shift)
    for which in ("first", "final"):
        train = model.zero_train_time(initial, inputs, labels, which)
        assert train <= model.zero_test_time(initial, inputs.mean(), which) * (1 + 1e-14)


def test_zero_times_at_the_edges():
    model = gp.ExponentialModel(class_gap=0.5, l1=0.25, l2=1.0)  # ε_λ = 1.25, exact in binary
    assert model.effective_gap == 1.25
    assert model.zero_test_time(0.5, 0.0) == 0.0
    assert model.zero_test_time(-0.5, 1.25) == 0.0
    # The limit is the edge itself: reached only asymptotically from outside, for good from inside.
    assert model.zero_test_time(2.0, 1.25) == np.inf
    assert model.zero_test_time(0.1, 1.25) == 0.0
    assert model.zero_test_time(0.1, 1.26) == np.inf
    assert model.zero_test_time(0.1, 1.26, which="first") == 0.0
    # Comes in, goes out on the other side.
    assert 0 < model.zero_test_time(2.0, -3.0, which="first") < np.inf
    assert model.zero_test_time(2.0, -3.0) == np.inf
    assert model.zero_test_time(2.0, 3.0, which="first") == np.inf
    # No gap: zero error is b = 0, reached in finite time thanks to L1 only, and not on the edge |x̄| = λ₁.
    bare = gp.ExponentialModel(class_gap=0.0, l1=0.25)
    assert bare.zero_test_time(1.0, 0.125) == pytest.approx(np.log(1 + 1 / 0.125), rel=1e-15)
    assert bare.zero_test_time(1.0, 0.25) == np.inf
    assert bare.zero_test_time(0.0, 0.25) == 0.0
    assert gp.ExponentialModel(class_gap=0.0).zero_test_time(1.0, 0.0) == np.inf


def test_zero_train_time_at_the_edges():
    model = gp.ExponentialModel(class_gap=0.5)
    assert model.zero_train_time(0.0, [1.0, -1.0], [1, -1]) == 0.0
    assert model.zero_train_time(9.0, [-1.0, 1.0], [1, -1]) == np.inf  # not separable by any bias
    assert model.zero_train_time(9.0, [-1.0, 1.0], [1, -1], which="first") == np.inf
    assert model.zero_train_time(5.0, [0.5, 0.5], [1, -1]) == np.inf  # b → 0.5, the only solution, in infinite time
    assert model.zero_train_time(0.5, [0.5, 0.5], [1, -1]) == 0.0
    assert model.zero_train_time(9.0, [3.0], [1]) == pytest.approx(np.log(7.0), rel=1e-15)  # 2 + 7e^{−t} = 3
    assert model.zero_train_time(-9.0, [-3.0], [-1]) == pytest.approx(np.log(7.0), rel=1e-15)
    assert model.zero_train_time(9.0, [-3.0], [-1]) == 0.0
    assert model.zero_train_time(-2.0, [2.5], [1], which="first") == 0.0


def test_grokking_time_is_eq_16():
    model = gp.ExponentialModel(class_gap=0.3, l1=0.05, l2=0.4)
    inputs, labels = model.sample(4, 7, size=500)
    mean, lowest = inputs.mean(axis=1), np.where(labels > 0, inputs, np.inf).min(axis=1)
    generalises = np.abs(mean) < model.effective_gap
    test, train = model.zero_test_time(20.0, mean), model.zero_train_time(20.0, inputs, labels)
    delay = test[generalises] - train[generalises]
    limit, lowest = (mean[generalises] - model.l1) / (1 + model.l2), lowest[generalises]
    eq_16 = np.log((lowest - limit) / (model.class_gap - limit)) / (1 + model.l2)  # ε + x_min is the raw minimum
    # A difference of two times below 30, each good to a few rounding errors.
    np.testing.assert_allclose(delay, eq_16, rtol=0, atol=1e-13)
    assert np.isinf(test[~generalises]).all()
    assert 0 < generalises.sum() < 500


# --- the transition ---


@pytest.mark.parametrize(
    ("gap", "l1", "l2", "initial", "mean"),
    [(1.0, 0.0, 0.0, 11.5, 0.61), (0.3, 0.05, 0.5, 2.0, 0.1), (0.1, 0.0, 2.0, -1.0, 0.2), (0.0, 0.2, 0.1, 0.7, -0.1)],
)
def test_exponent_of_exact_trajectories(gap, l1, l2, initial, mean):
    model = gp.ExponentialModel(class_gap=gap, l1=l1, l2=l2)
    before = np.geomspace(1e-6, 1e-4, 30)
    error = model.test_error(model.bias(model.zero_test_time(initial, mean) - before, initial, mean))
    slope, log_prefactor = np.polyfit(np.log(before), np.log(error), 1)
    assert model.exponent == 1
    # Curvature of E changes the local slope by about (2+λ₂)δ ≤ 4e-4 at the far end, by a tenth of it in the fit.
    assert abs(slope - model.exponent) < 1e-3
    # Eq. 9 for either side: ε_λ − x̄ sgn b(0).
    assert np.exp(log_prefactor) == pytest.approx((model.effective_gap - mean * np.sign(initial)) / 2, rel=3e-3)


def test_prefactor_is_the_mean_over_data_that_end_at_zero_error():
    model = gp.ExponentialModel(class_gap=0.3, l1=0.1, l2=0.5)
    mean = model.sample(3, 11, size=400_000)[0].mean(axis=1)
    before = 1e-5

    def average(times):
        reached = np.isfinite(times)
        slope = model.test_error(model.bias(times[reached] - before, 9.0, mean[reached])) / before
        return slope.mean(), slope.std() / np.sqrt(slope.size)

    assert model.prefactor == model.effective_gap / 2 == pytest.approx(0.275)
    value, error = average(model.zero_test_time(9.0, mean))
    # False-alarm rate 7e-6; the curvature shifts the mean by a relative 1e-5, a hundredth of the standard error.
    assert abs(value - model.prefactor) < 4.5 * error
    assert error < 3e-4
    # Control: all data that touch zero error, also those whose error returns.
    touching, _ = average(model.zero_test_time(9.0, mean, which="first"))
    assert touching == pytest.approx(0.310, abs=1.5e-3)
    assert touching - model.prefactor > 50 * error


def test_aligned_mean_error_has_exponent_one():
    model = gp.ExponentialModel(class_gap=0.4, l2=0.1)
    mean = model.sample(10, 3, size=2000)[0].mean(axis=1)
    time = model.zero_test_time(9.0, mean)
    ends, before = np.isfinite(time), np.geomspace(1e-6, 1e-4, 20)
    error = model.test_error(model.bias(time[ends] - before[:, None], 9.0, mean[ends])).mean(axis=1)
    assert abs(np.polyfit(np.log(before), np.log(error), 1)[0] - 1) < 1e-3


# --- training sets ---


def test_samples_are_shifted_exponential_variables():
    model = gp.ExponentialModel(class_gap=0.4, l1=3.0, l2=1.0)  # the regularisation does not touch the data
    inputs, labels = model.sample(50, np.random.default_rng(5), shift=5.0, size=(40, 25))
    assert inputs.shape == labels.shape == (40, 25, 100)
    assert (labels[..., :50] == 1).all()
    assert (labels[..., 50:] == -1).all()
    excess = (inputs * labels - 5.4).ravel()
    assert excess.min() >= 0
    # Two tests with threshold 1e-5 each; control: a shift of 1 %.
    assert stats.kstest(excess[labels.ravel() > 0], "expon").pvalue > 1e-5
    assert stats.kstest(excess[labels.ravel() < 0], "expon").pvalue > 1e-5
    assert stats.kstest(excess + 0.01, "expon").pvalue < 1e-5


def test_sample_seeds_and_shapes():
    model = gp.ExponentialModel(class_gap=0.4)
    inputs, labels = model.sample(3, 12)
    assert inputs.shape == labels.shape == (6,)
    assert labels.tolist() == [1, 1, 1, -1, -1, -1]
    np.testing.assert_array_equal(inputs, model.sample(3, np.random.default_rng(12))[0])
    assert (inputs != model.sample(3, 13)[0]).all()
    rng = np.random.default_rng(12)
    assert (model.sample(3, rng)[0] != model.sample(3, rng)[0]).all()
    np.testing.assert_allclose(model.sample(3, 12, shift=2.0)[0], inputs + 2 * labels, rtol=1e-15)
    assert model.sample(3, 12, size=0)[0].shape == (0, 6)
    many = gp.ExponentialModel(class_gap=[[0.0], [7.0]], l1=[0.1, 0.2, 0.3])
    assert many.sample(2, 0)[0].shape == (2, 3, 4)
    drawn, signs = many.sample(2, 0, size=(5, 2, 3))
    assert drawn.shape == (5, 2, 3, 4)
    assert ((drawn * signs)[:, 1] >= 7).all()
    assert ((drawn * signs)[:, 0] < 7).any()


# --- the record ---


def test_model_is_a_frozen_value():
    model = gp.ExponentialModel(class_gap=0.4, l1=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.l1 = 0.2
    with pytest.raises(TypeError):
        gp.ExponentialModel(0.4)
    same = gp.ExponentialModel(class_gap=0.4, l1=0.1, l2=-0.0)
    assert model == same
    assert hash(model) == hash(same)
    assert model != gp.ExponentialModel(class_gap=0.4, l1=0.1, l2=1e-300)
    assert model != gp.ExponentialModel(class_gap=[0.4], l1=0.1)
    assert model != 0.4
    gaps = np.array([0.1, 0.2])
    table = gp.ExponentialModel(class_gap=gaps)
    assert len({table, gp.ExponentialModel(class_gap=[0.1, 0.2]), model}) == 2
    gaps[0] = 9  # the record keeps its own copy, read-only
    assert table.class_gap[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        table.class_gap[0] = 9
    assert eval(repr(model), {"ExponentialModel": gp.ExponentialModel}) == model
    assert dataclasses.replace(model, l2=1.0).effective_gap == pytest.approx(0.9)


def test_everything_broadcasts():
    gap, l1, l2 = np.array([0.1, 0.4])[:, None], np.array([0.0, 0.1, 0.2]), 0.3
    model = gp.ExponentialModel(class_gap=gap, l1=l1, l2=l2)
    time, initial, mean = np.array([0.0, 0.3, 5.0])[:, None, None, None], np.array([2.0, -1.0])[:, None, None], 0.15
    shape = (2, 2, 3)
    inputs, labels = model.sample(2, 1, size=shape)
    bias = model.bias(time, initial, mean)
    test, train = model.zero_test_time(initial, mean), model.zero_train_time(initial, inputs, labels)
    error = model.test_error(bias)
    assert bias.shape == error.shape == (3, 2, 2, 3)
    assert test.shape == train.shape == shape
    for i in range(2):
        for j in range(3):
            one = gp.ExponentialModel(class_gap=gap[i, 0], l1=l1[j], l2=l2)
            assert one.effective_gap == model.effective_gap[i, j]
            assert one.prefactor == model.prefactor[i, j]
            for k in range(2):
                start = initial[k, 0, 0]
                np.testing.assert_array_equal(one.bias(time.ravel(), start, mean), bias[:, k, i, j])
                np.testing.assert_array_equal(one.test_error(bias[:, k, i, j]), error[:, k, i, j])
                assert one.zero_test_time(start, mean) == test[k, i, j]
                assert one.zero_train_time(start, inputs[k, i, j], labels[k, i, j]) == train[k, i, j]
    scalar = gp.ExponentialModel(class_gap=0.4)
    for value in (scalar.effective_gap, scalar.prefactor, scalar.bias(1, 2, 0.1), scalar.test_error(0.7)):
        assert isinstance(value, float)


def test_extreme_arguments_give_no_nan_and_no_warning():
    model = gp.ExponentialModel(class_gap=0.3, l1=0.05, l2=1e3)
    assert model.bias(1e308, 1.0, 0.2) == pytest.approx(0.15 / 1001)
    assert model.bias([0.0, np.inf], 1e300, 0.2).tolist() == [1e300, pytest.approx(0.15 / 1001)]
    assert model.zero_test_time(1e300, 0.1) == pytest.approx(np.log(1e300 / 0.3) / 1001, rel=1e-3)
    assert model.zero_test_time(1e308, -1e308) == np.inf


@pytest.mark.parametrize("name", ["class_gap", "l1", "l2"])
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "a", None, 1j, [0.1, -1]])
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        gp.ExponentialModel(**{"class_gap": 0.4, name: value})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m: m.bias(-1, 1, 0), "time"),
        (lambda m: m.bias(np.nan, 1, 0), "time"),
        (lambda m: m.bias(1, np.inf, 0), "initial"),
        (lambda m: m.bias(1, 1, np.nan), "mean"),
        (lambda m: m.bias([1, 2], [1, 2, 3], 0), "time and initial"),
        (lambda m: m.test_error(np.nan), "bias"),
        (lambda m: m.test_error("x"), "bias"),
        (lambda m: m.zero_test_time(np.nan, 0), "initial"),
        (lambda m: m.zero_test_time(1, None), "mean"),
        (lambda m: m.zero_test_time(1, 0, which="last"), "which"),
        (lambda m: m.zero_test_time([1, 2], [1, 2, 3]), "initial and mean"),
        (lambda m: m.zero_train_time(np.nan, [1.0], [1]), "initial"),
        (lambda m: m.zero_train_time(1, [np.nan], [1]), "inputs"),
        (lambda m: m.zero_train_time(1, 1.0, [1]), "inputs"),
        (lambda m: m.zero_train_time(1, [1.0], [0]), "labels"),
        (lambda m: m.zero_train_time(1, [1.0, 2.0], [1]), "inputs and labels"),
        (lambda m: m.zero_train_time(1, [], []), "inputs and labels"),
        (lambda m: m.zero_train_time(1, np.ones((2, 4)), np.ones((3, 4))), "inputs and labels"),
        (lambda m: m.zero_train_time([1, 2, 3], np.ones((2, 4)), np.ones(4)), "initial"),
        (lambda m: m.zero_train_time(1, [1.0], [1], which=None), "which"),
        (lambda m: m.sample(0, 1), "samples_per_class"),
        (lambda m: m.sample([1, 2], 1), "samples_per_class"),
        (lambda m: m.sample(2, -1), "rng"),
        (lambda m: m.sample(2, None), "rng"),
        (lambda m: m.sample(2, 1, shift=np.nan), "shift"),
        (lambda m: m.sample(2, 1, size=2.5), "size"),
        (lambda m: m.sample(2, 1, size=(-1,)), "size"),
        (lambda m: m.grokking_time(0), "samples_per_class"),
        (lambda m: m.grokking_time([2, 3]), "samples_per_class"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(gp.ExponentialModel(class_gap=0.4))


def test_parameters_that_do_not_fit_together():
    with pytest.raises(ValueError, match="broadcast"):
        gp.ExponentialModel(class_gap=[0.1, 0.2], l1=[0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="overflow"):
        gp.ExponentialModel(class_gap=1e300, l2=1e300)
    with pytest.raises(ValueError, match="size"):
        gp.ExponentialModel(class_gap=[0.1, 0.2]).sample(3, 0, size=3)
    with pytest.raises(ValueError, match="samples_per_class and parameters"):
        gp.ExponentialModel(class_gap=[0.1, 0.2]).grokking_probability([1, 2, 3])
    with pytest.raises(ValueError, match="effective_gap"):
        gp.ExponentialModel(class_gap=0.0, l2=1.0).grokking_time(3)
