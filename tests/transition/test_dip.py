"""Dip statistic against its definition, hand-computed cases, exact invariances and limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_dip import naive_dip

from grokphase.transition import dip
from grokphase.transition.dip_statistic import _lower_hull, _monotone_chain

seeds = st.integers(0, 2**32 - 1)
LINEAR_PROGRAM = 1e-8  # ten times the feasibility tolerance of the solver
ROUNDING = 1e-13  # counts up to 1e3 times slopes, each to 1e-16


@pytest.mark.parametrize("kind", ["distinct", "tied", "clustered", "atoms"])
@pytest.mark.parametrize("seed", range(6))
def test_definition(kind, seed):
    rng = np.random.default_rng(seed)
    for _ in range(3):
        size = int(rng.integers(2, 10))
        values = {
            "distinct": lambda n: rng.normal(size=n),
            "tied": lambda n: rng.integers(0, 6, n),
            "clustered": lambda n: np.concatenate([rng.normal(size=n), 4 + rng.normal(size=n // 2)]),
            "atoms": lambda n: np.repeat(rng.normal(size=4), rng.integers(1, 6, 4)),
        }[kind](size)
        assert abs(dip(values).statistic - naive_dip(values)) < LINEAR_PROGRAM


def test_definition_is_not_met_by_a_nearby_number():
    """Control: the linear program does tell the dip of a sample from that of a slightly different one."""
    values = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 1.3])
    moved = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 1.5])
    assert abs(dip(values).statistic - naive_dip(moved)) > 1e4 * LINEAR_PROGRAM


@pytest.mark.parametrize("size", [2, 3, 4, 7, 100])
def test_evenly_spaced_values_have_the_least_dip(size):
    np.testing.assert_allclose(dip(np.arange(size)).statistic, 1 / (2 * size), rtol=ROUNDING)


@pytest.mark.parametrize(("few", "many"), [(1, 1), (1, 3), (20, 100), (7, 8)])
def test_two_point_masses(few, many):
    """A jump at the mode is free, half of the other jump is not: D = ½ min(p, 1 − p)."""
    found = dip([0.0] * few + [1.0] * many)
    np.testing.assert_allclose(found.statistic, few / (few + many) / 2, rtol=ROUNDING)
    if few != many:
        assert found.modal_interval == (1.0, 1.0)
        assert found.departure == 0.0


def test_point_mass_has_no_dip():
    assert dip([3.0]).statistic == 0
    assert dip([-2.0] * 5) == (0.0, (-2.0, -2.0), -2.0)


def test_large_sample_of_two_boxes():
    """Density ½ on [0, 1] and [2, 3].  The line from (0, 0) to (2, ½) misses F(1) = ½ by ¼, so that D = 1/8."""
    count = 1_000_000
    values = np.random.default_rng(0).random(count) + 2 * (np.arange(count) % 2)
    found = dip(values)
    # The empirical F is within 4/(2√n) of F except with probability 2e-14 (Dvoretzky-Kiefer-Wolfowitz).
    assert abs(found.statistic - 0.125) < 2 / count**0.5
    assert min(abs(found.departure - 1), abs(found.departure - 2)) < 0.01


@given(
    seed=seeds,
    size=st.integers(1, 60),
    scale=st.sampled_from([1e-300, 1e-3, 1.0, 1e300]),
    shift=st.sampled_from([0, 3]),
)
@settings(max_examples=60, deadline=None)
def test_shift_scale_and_reflection(seed, size, scale, shift):
    values = np.round(np.random.default_rng(seed).standard_cauchy(size), 2)
    expected = dip(values)
    moved = dip((values + shift) * scale)
    mirrored = dip(-values)
    # Positions are taken from the smallest value, in units of the largest: rounded by 1e-16 of their range, where two
    # values are 0.01 apart.  Four positions make a share of a step, and a step of all counts is half of the statistic.
    rounding = ROUNDING + 4 * np.finfo(float).eps * (np.ptp(values) + np.abs(values).max() + shift) / 0.01
    np.testing.assert_allclose(moved.statistic, expected.statistic, rtol=0, atol=rounding)
    np.testing.assert_allclose(mirrored.statistic, expected.statistic, rtol=0, atol=rounding)
    assert 0 <= expected.statistic <= 0.25 + ROUNDING
    distinct = np.unique(values).size
    assert expected.statistic >= (1 / (2 * size) - ROUNDING if distinct > 1 else 0)


def test_extreme_ranges():
    huge = np.finfo(float).max
    np.testing.assert_allclose(dip([-huge, -huge, huge, huge]).statistic, 0.25)
    np.testing.assert_allclose(dip([0.0, 5e-324, 1e-323, 1.5e-323]).statistic, 1 / 8)


@given(seed=seeds, size=st.integers(1, 300), kind=st.sampled_from(["noise", "convex", "concave", "steps"]))
@settings(max_examples=60, deadline=None)
def test_both_ways_to_the_convex_minorant(seed, size, kind):
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.exponential(size=size))
    y = {
        "noise": rng.normal(size=size),
        "convex": x**2,
        "concave": -(x**2),
        "steps": np.cumsum(rng.integers(0, 5, size)).astype(float),
    }[kind]
    hull = _lower_hull(x, y)
    chain = _monotone_chain(x.tolist(), y.tolist())
    # The curves agree; vertices on a straight piece may be kept by one and dropped by the other.
    scale = np.abs(y).max() + 1
    np.testing.assert_allclose(np.interp(x, x[hull], y[hull]), np.interp(x, x[chain], y[chain]), atol=1e-12 * scale)
    assert (np.interp(x, x[hull], y[hull]) <= y + 1e-12 * scale).all()


@pytest.mark.parametrize("bad", [[], [[1.0, 2.0]], [np.nan], [np.inf, 1.0], ["a"], 3.0])
def test_bad_values(bad):
    with pytest.raises(ValueError, match="values"):
        dip(bad)
