"""Order of a transition: jumps and continuous transitions whose order is known, and what cannot be told."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats
from synthetic import FALSE_ALARM, as_runs, power_law_runs

import grokphase as gp

FIRST = {
    "jump, then a slope": (1.0, {"jump": 0.2, "noise": 0.1}),
    "small jump, then a root": (0.5, {"jump": 0.05}),
    "jump, then a root": (0.5, {"jump": 0.2, "noise": 0.2}),
    "a step": (1.0, {"jump": 0.3, "reach": 1e9}),
    "jump counted on 1000 inputs": (1.0, {"jump": 0.1, "samples": 1000}),
}
CONTINUOUS = {
    "root": (0.5, {"noise": 0.2}),
    "line": (1.0, {"noise": 0.2}),
    "steep": (2.5, {"noise": 0.2}),
    "coarse root": (0.5, {"reach": 15}),
    "counted": (1.0, {"samples": 10_000}),
}


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


@pytest.mark.parametrize("case", FIRST)
def test_jumps_are_seen(case):
    exponent, options = FIRST[case]
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
@pytest.mark.parametrize("case", FIRST)
def test_jumps_are_seen_and_never_sold_as_an_exponent(case):
    """500 repetitions: at most 1% are called continuous (at most 15 of them, once in 1e4)."""
    exponent, options = FIRST[case]
    said, sold = kinds(exponent, 500, **options)
    assert said["continuous"] <= most(500, 0.01)
    assert sold <= most(500, 0.01)
    assert said["first"] >= 300


@pytest.mark.slow
@pytest.mark.parametrize("case", CONTINUOUS)
def test_continuous_transitions_are_rarely_called_jumps(case):
    exponent, options = CONTINUOUS[case]
    said, _ = kinds(exponent, 500, **options)
    assert said["first"] <= most(500, 0.01)
    assert said["continuous"] >= 300


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
