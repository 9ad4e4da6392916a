"""Implied normals: the cone is the same, by linear programming, and so are the times of a flow."""

import numpy as np
import pytest
from scipy.optimize import linprog

from grokphase import GradientFlow
from grokphase.solvable import gradient_flow
from grokphase.solvable._cones import essential_normals


def implied(normal, others):
    """Whether normal · w > 0 follows from others · w ≥ 0: the least value over the cone, cut at |w|∞ ≤ 1, is 0."""
    found = linprog(normal, A_ub=-others, b_ub=np.zeros(len(others)), bounds=(-1, 1))
    return found.fun > -1e-9  # the solver's own accuracy


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_what_is_left_out_is_implied_and_what_is_kept_is_not(dimension):
    rng = np.random.default_rng(dimension)
    for _ in range(20):
        normals = rng.standard_normal((12, dimension)) + 1.5  # most of them in a common half space
        normals = np.concatenate([normals, normals[:3] + normals[3:6], 2 * normals[:1]])
        kept = essential_normals(normals)
        others = np.setdiff1d(np.arange(len(normals)), kept)
        for number in others:
            assert implied(normals[number], normals[kept])
        for number in kept:
            rest = normals[np.setdiff1d(kept, number)]
            assert not len(rest) or not implied(normals[number], rest)
    assert len(kept) < len(normals)


def test_a_zero_normal_decides_alone():
    assert essential_normals(np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])).tolist() == [1]


def test_times_do_not_depend_on_it(monkeypatch):
    rng = np.random.default_rng(0)
    flow = GradientFlow(rng.standard_normal((20, 4)) + np.eye(4)[0], np.ones(20), l2=0.05)
    cone = flow.stationary() + 0.3 * rng.standard_normal((10, 4))
    initial = rng.standard_normal((2000, 4))
    for which in ("first", "final"):
        time, index = flow.cone_time(cone, initial, which, return_index=True)
        monkeypatch.setattr(gradient_flow, "essential_normals", lambda normals: np.arange(len(normals)))
        every_time, every_index = flow.cone_time(cone, initial, which, return_index=True)
        monkeypatch.undo()
        assert np.isfinite(time).mean() > 0.1
        np.testing.assert_allclose(time, every_time, rtol=1e-12)
        np.testing.assert_array_equal(index, every_index)
    assert essential_normals(cone).size < len(cone)
