"""The real engine: the same numbers bit by bit, whoever computes them and in whatever portions."""

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase.training import Scenario, run_block

# More members than are computed together, so that there is something for several threads.
MANY = Scenario(30, bond=3, members=40, lengths=(3, 4), batch=8, duration=0.1, observe=0.02, test_strings=64, seed=1)
TINY = Scenario(30, bond=4, members=5, lengths=(3, 4), batch=8, duration=0.1, observe=0.02, test_strings=64)
SNAPSHOTS = (0.05, "zero_test", "last")


@pytest.mark.slow
def test_same_numbers_whoever_computes_them(tmp_path):
    expected = run_block(TINY, snapshots=SNAPSHOTS)
    assert np.isfinite(expected.test_error).any()
    stored = gp.simulate(TINY, store=tmp_path / "here", snapshots=SNAPSHOTS, block_size=3)
    xr.testing.assert_identical(stored.load(), expected)
    stored = gp.simulate(TINY, store=tmp_path / "there", snapshots=SNAPSHOTS, block_size=2, workers=2)
    xr.testing.assert_identical(stored.load(), expected)
    xr.testing.assert_identical(gp.open(tmp_path / "there", TINY).load(), expected)
    assert {name: v.dtype for name, v in stored.variables.items()} == {
        name: v.dtype for name, v in expected.variables.items()
    }


@pytest.mark.slow
def test_same_numbers_with_any_number_of_threads(monkeypatch):
    expected = run_block(MANY)
    assert np.isfinite(expected.test_error).any()
    for threads in (1, 2, 5):
        monkeypatch.setattr("grokphase.runs.executors.usable_cores", lambda threads=threads: threads)
        xr.testing.assert_identical(gp.simulate(MANY), expected)
        xr.testing.assert_identical(gp.simulate(MANY, block_size=33), expected)
