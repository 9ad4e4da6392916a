"""Kaplan-Meier curve and restricted means: against hand calculation, a textbook sample and simulated runs."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import grokphase as gp
from grokphase.transition.survival import mean_delay, survival_curve
from grokphase.transition.zero_times import CensoredTimes

INF = np.inf


def delays(values, censored=(), unknown=0, only_test=0):
    """Delays of runs that grokked, runs whose record ended, runs with neither, and runs with zero test error only."""
    low = np.array([*values, *censored, *[-INF] * (unknown + only_test)], dtype=float)
    high = np.array([*values, *[INF] * (len(censored) + unknown), *[-1.0] * only_test])
    reached = np.arange(low.size) < len(values)
    return CensoredTimes(value=low, low=low, high=high, reached=reached)


def by_hand(values, censored, at):
    """Product-limit estimate in exact fractions."""
    result = Fraction(1)
    for moment in sorted({value for value in values if value <= at}):
        at_risk = sum(value >= moment for value in [*values, *censored])
        result *= 1 - Fraction(sum(value == moment for value in values), at_risk)
    return float(result)


# Remission times in weeks under 6-mercaptopurine (Freireich et al. 1963), the textbook sample of the method.
REMISSION = [6, 6, 6, 7, 10, 13, 16, 22, 23]
STILL_WELL = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]


def test_textbook_sample():
    curve = survival_curve(delays(REMISSION, STILL_WELL), 0.95)
    places = np.searchsorted(curve.time, sorted(set(REMISSION)))
    # Published to three digits (e.g. Cox & Oakes, Analysis of Survival Data, 1984, Sec. 4.2).
    assert_allclose(curve.probability[places], [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=5e-4)
    assert (curve.events, curve.censored, curve.median, curve.horizon) == (9, 12, 23.0, 35.0)
    # Log-log interval at 10 weeks: S^exp(±z se), se = sqrt(Greenwood)/|ln S|, by hand.
    greenwood = 3 / (21 * 18) + 1 / (17 * 16) + 1 / (15 * 14)
    survival = 18 / 21 * 16 / 17 * 14 / 15
    spread = np.exp(1.959963985 * np.sqrt(greenwood) / abs(np.log(survival)))
    place = np.searchsorted(curve.time, 10)
    assert_allclose([curve.low[place], curve.high[place]], [survival**spread, survival ** (1 / spread)], rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_curve_and_mean_by_hand(seed):
    rng = np.random.default_rng(seed)
    values = [Fraction(int(value), 4) for value in rng.integers(0, 12, 9)]
    censored = [Fraction(int(value), 4) for value in rng.integers(0, 12, 6)]
    times = delays([float(value) for value in values], [float(value) for value in censored])
    curve = survival_curve(times, 0.9)
    assert_allclose(curve.probability, [by_hand(values, censored, time) for time in curve.time], rtol=1e-12)
    assert (curve.low <= curve.probability).all()
    assert (curve.probability <= curve.high).all()
    end = Fraction(9, 4)
    edges = sorted({Fraction(0), end, *[value for value in values if value < end]})
    area = sum(by_hand(values, censored, left) * float(right - left) for left, right in pairwise(edges))
    assert_allclose(mean_delay(times, float(end), "all").mean, area, rtol=1e-12)


def test_without_censoring_it_is_the_plain_mean():
    values = np.random.default_rng(0).exponential(size=30)
    mean = mean_delay(delays(values), None, "all")
    # Greenwood's variance is then the sample variance with 1/n over n, exactly.
    assert_allclose(mean, (values.mean(), values.std() / np.sqrt(30)), rtol=1e-12)
    assert_allclose(mean_delay(delays(values), None, "reached"), (values.mean(), values.std(ddof=1) / np.sqrt(30)))


def test_negative_delays_count_as_none_and_published_averages_leave_them_out():
    times = delays([-2.0, -1.0, 1.0, 3.0], only_test=2)
    assert mean_delay(times, None, "all").mean == pytest.approx(4 / 6)
    assert mean_delay(times, None, "reached").mean == pytest.approx(4 / 6)
    assert mean_delay(times, None, "published").mean == pytest.approx(2.0)
    curve = survival_curve(times, 0.95)
    assert (curve.time[0], curve.probability[0]) == (0.0, pytest.approx(2 / 6))


def test_runs_in_which_nothing_is_reached_are_counted_but_do_not_matter():
    with_unknown, without = (survival_curve(delays([1.0, 2.0], [1.5], unknown), 0.95) for unknown in (3, 0))
    assert with_unknown.unknown == 3
    assert_array_equal(with_unknown.probability, without.probability)


def test_a_mean_that_the_records_do_not_determine_is_refused():
    with pytest.raises(ValueError, match=r"1 runs have not grokked.*restricted_to ≤ 7"):
        mean_delay(delays([1.0, 2.0], [7.0]), None, "all")
    with pytest.raises(ValueError, match="restricted_to must be ≤ 7"):
        mean_delay(delays([1.0, 2.0], [7.0]), 8.0, "all")
    assert mean_delay(delays([1.0, 7.0], [2.0]), 100.0, "all").mean == pytest.approx(1 + 6 * 2 / 3)
    for times in (delays([]), delays([], unknown=2)):
        with pytest.raises(ValueError, match="no run reached"):
            survival_curve(times, 0.95)
    with pytest.raises(ValueError, match="runs must be one of"):
        mean_delay(delays([1.0]), None, "some")


def test_intervals_where_the_curve_is_zero_or_one():
    nothing_yet = survival_curve(delays([], [1.0] * 10), 0.95)
    assert_array_equal(nothing_yet.probability, 1.0)
    assert_allclose(nothing_yet.low, 0.025**0.1)  # exact binomial bound for 0 of 10
    assert nothing_yet.median == INF
    all_at_once = survival_curve(delays([0.0] * 10), 0.95)
    assert_array_equal(all_at_once.probability, 0.0)
    assert_allclose(all_at_once.high, 1 - 0.025**0.1)


def test_censored_runs_are_used_without_bias_and_dropping_them_is_biased():
    """Exponential delays, uniform ends of the record: 400 ensembles of 50 runs.

    The mean of the ensemble means is compared in its own standard error; |z| < 4.5 is a false-alarm rate of 7e-6.
    The coverage of ±1.96 standard errors, of 400, lies above 0.9 (binomial, for 0.95: below that with a probability of
    2e-5).
    """
    rng = np.random.default_rng(5)
    end = 1.5
    truth = 1 - np.exp(-end)
    means, errors, dropped = [], [], []
    for _ in range(400):
        delay, record = rng.exponential(size=50), rng.uniform(0.5, 3.0, 50)
        reached = delay <= record
        times = delays(delay[reached], record[~reached])
        mean = mean_delay(times, end, "all")
        means.append(mean.mean)
        errors.append(mean.stderr)
        dropped.append(mean_delay(times, end, "reached").mean)
    means, errors, dropped = np.array(means), np.array(errors), np.array(dropped)
    assert abs(means.mean() - truth) < 4.5 * means.std() / 20
    assert abs(dropped.mean() - truth) > 10 * dropped.std() / 20  # the control: leaving runs out is seen
    covered = np.mean(np.abs(means - truth) < 1.96 * errors)
    assert covered > 0.90
    assert np.mean(np.abs(dropped - truth) < 1.96 * errors) < 0.90


def test_through_the_public_door():
    time = np.arange(6.0)
    test = np.array([[0.5, 0.5, 0.0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.4], [0.5, 0.5, 0.5, 0.5, 0.0, 0.0]])
    train = np.array([[0.5, 0.0, 0, 0, 0, 0], [0.5, 0.5, 0.0, 0, 0, 0], [0.5, 0.0, 0, 0, 0, 0]])
    transition = gp.measure({"time": time, "train_error": train, "test_error": test})
    curve = transition.survival()
    assert_array_equal(curve.time, [0, 1, 3])
    assert_allclose(curve.probability, [1, 2 / 3, 1 / 3])  # the run censored at 3 is still at risk there
    mean = transition.mean_grokking_time(restricted_to=3.0)
    assert mean.mean == pytest.approx(1 + 2 * 2 / 3)
