"""Lengths and offsets of crops are drawn once for an ensemble: what that does to statistics over members."""

import numpy as np
import pytest
from scipy import stats

from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario, run_block

SCENARIO = Scenario(
    CellularAutomaton(np.array([-1, 1])),
    4,
    l1=0.001,
    lengths=(4, 6),
    batch=16,
    learning_rate=0.02,
    duration=1.5,
    observe=0.0,
    test_sites=50,
    test_strings=128,
)
SEEDS, MEMBERS = 16, 32


@pytest.fixture(scope="module")
def times():
    """Zero training and test times by seed and member; never counts as later than all others."""
    found = [run_block(SCENARIO.replace(seed=seed), range(MEMBERS)) for seed in range(SEEDS)]
    return {name: np.stack([run[name].values for run in found]) for name in ("zero_train_time", "zero_test_time")}


@pytest.mark.parametrize("name", ["zero_train_time", "zero_test_time"])
def test_ensembles_with_different_lengths_have_the_same_distribution(times, name):
    """Members of an ensemble are as different as members of different ensembles (rank test over 16 ensembles)."""
    # Ties (never) are taken into account by the test.  False alarm 1e-4 each.
    assert stats.kruskal(*times[name]).pvalue > 1e-4


def test_a_common_part_of_a_quarter_of_the_variance_would_be_noticed(times):
    """Control: a shift common to the members of an ensemble, half as large as their spread."""
    ranks = stats.rankdata(times["zero_train_time"]).reshape(SEEDS, MEMBERS)
    shifts = np.random.default_rng(0).normal(size=(SEEDS, 1)) * 0.5 * ranks.std()
    assert stats.kruskal(*(ranks + shifts)).pvalue < 1e-4
