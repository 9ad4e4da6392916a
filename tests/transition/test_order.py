"""Order of a transition: jumps and continuous transitions whose order is known, and what cannot be told."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats
from synthetic import CONTINUOUS, FALSE_ALARM, JUMPS, as_runs, power_law_runs

import grokphase as gp


def kinds(exponent, repetitions, **options):
    """How often each kind is said, and how often an exponent is."""
    rng = np.random.default_rng(2)
    said, sold = Counter(), 0
    for seed in range(repetitions):
        transition = gp.measure(as_runs(*power_law_runs(rng, exponent, **options)))
        said[transition.order(seed=seed).kind] += 1
        try:
            transition.exponent(seed=seed)
            sold += 1
        except gp.ShortScalingWindow:
            pass
    return said, sold


def most(repetitions, rate):
    """Most false statements at this rate; more have a chance of 1e-4."""
    return stats.binom.isf(FALSE_ALARM, repetitions, rate)


@pytest.mark.parametrize("case", JUMPS)
def test_jumps_are_seen(case):
    exponent, options = JUMPS[case]
    said, sold = kinds(exponent, 10, **options)
    assert said["continuous"] == sold == 0
    assert said["first"] >= 5


@pytest.mark.parametrize("case", CONTINUOUS)
def test_continuous_transitions_are_not_called_jumps(case):
    exponent, options = CONTINUOUS[case]
    said, _ = kinds(exponent, 10, **options)
    assert said["first"] <= most(10, 0.01)
    assert said["continuous"] >= 5


@pytest.mark.slow
@pytest.mark.parametrize("case", JUMPS)
def test_jumps_are_seen_and_never_sold_as_an_exponent(case):
    """60 repetitions (500 with ``python benchmarks/coverage_exponent.py``); at 1%, more than 5 once in 1e4 cases."""
    exponent, options = JUMPS[case]
    said, sold = kinds(exponent, 60, **options)
    assert said["continuous"] <= most(60, 0.01)
    assert sold <= most(60, 0.01)
    assert said["first"] >= 60 - most(60, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("case", CONTINUOUS)
def test_continuous_transitions_are_rarely_called_jumps(case):
    exponent, options = CONTINUOUS[case]
    said, sold = kinds(exponent, 60, **options)
    assert said["first"] <= most(60, 0.01)
    assert said["continuous"] >= 36
    assert sold >= 60 - most(60, 0.01)


def test_interval_of_the_jump_covers_it():
    """Jumps of 0.1 to 0.3 under chance level 0.5, 40 ensembles; at least 33 cover (once in 1e4 fewer, at 95%)."""
    rng = np.random.default_rng(3)
    covered = shifted = 0
    for seed in range(40):
        jump = rng.uniform(0.1, 0.3)
        found = gp.measure(as_runs(*power_law_runs(rng, 1.0, jump=jump, noise=0.1))).order(seed=seed).jump
        truth = np.exp(0.1**2 / 2) / np.sqrt(1 / jump**2 + 1 / 0.5**2)  # the mean of the noise, and the bend to chance
        covered += found.low <= truth <= found.high
        shifted += found.low <= 0.9 * truth <= found.high
    assert covered >= stats.binom.ppf(FALSE_ALARM, 40, 0.95)
    assert shifted < covered  # the control


def test_undecided_with_few_runs_or_records():
    few = gp.measure(as_runs(*power_law_runs(np.random.default_rng(0), 1.0, members=5))).order()
    assert (few.kind, few.jump.low) == ("undecided", 0.0)
    assert "at least 8" in few.evidence
    never = {"time": np.arange(5.0), "train_error": np.zeros((9, 5)), "test_error": np.full((9, 5), 0.3)}
    order = gp.measure(never).order()
    assert order.kind == "undecided"
    assert "no run reaches zero test error" in order.evidence
    sudden = {"time": np.arange(3.0), "train_error": np.zeros((9, 3)), "test_error": np.full((9, 3), [0.3, 0.3, 0.0])}
    order = gp.measure(sudden).order()
    assert order.kind == "undecided"
    assert order.jump == (pytest.approx(0.3), 0.0, pytest.approx(0.3))


def test_a_jump_that_cannot_be_excluded_is_no_reason_to_refuse_an_exponent():
    """Twelve noisy runs on a coarse grid: nothing speaks for a jump, and its interval reaches far."""
    rng = np.random.default_rng(4)
    transition = gp.measure(as_runs(*power_law_runs(rng, 0.5, reach=15, noise=0.4, members=12)))
    order = transition.order()
    assert order.kind == "undecided"
    assert "may be a jump" in order.evidence
    assert transition.exponent().low > 0.2
    assert "If gradually, it falls as the remaining time to the power" in transition.describe()


def test_a_jump_among_few_noisy_runs_is_not_sold_as_a_small_exponent():
    """Neither evidence of a jump nor against it: the interval of the exponent reaches below 0.2, which is refused."""
    rng = np.random.default_rng(1)
    transition = gp.measure(as_runs(*power_law_runs(rng, 0.5, jump=0.1, noise=0.4, members=12)))
    with pytest.raises(gp.ShortScalingWindow, match="a power is not told from a jump"):
        transition.exponent()
