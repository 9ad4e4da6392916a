"""The real engine: the same numbers bit by bit, whoever computes them and in whatever portions."""

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase.training import Scenario, run_block

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
