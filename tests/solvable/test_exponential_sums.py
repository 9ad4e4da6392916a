"""Zeros of sums of exponentials against exact root isolation at 60 digits, for sums built to be nearly impossible.

Oracle and judge are in ``sign_oracles``: an answer may contradict the exact functions by a few of their rounding
errors, ε(K + 2) Σ|terms| + 2εt Σ|slopes|, and no more.  A crossing or a dip deeper than that, and missed, fails.
"""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sign_oracles import EPS, Exact, check_first_entry, check_first_exit, check_last_violation

from grokphase.solvable import sign_changes
from grokphase.solvable.exponential_sums import ExponentialSums
from grokphase.solvable.sign_changes import first_entry, first_exit, last_violation


@pytest.fixture(scope="module", autouse=True)
def _digits():
    with mp.workdps(60):
        yield


def exact(sums, problem):
    rates = np.broadcast_to(sums.rates, sums.amplitudes.shape)
    return [Exact(a, r) for a, r in zip(sums.amplitudes[problem], rates[problem], strict=True)]


def check_all(sums, stop=np.inf):
    """All three questions; the third on functions turned so that they start non-negative."""
    stops = np.full(len(sums), stop)
    with np.errstate(all="raise", under="ignore"):  # nothing may be computed from a NaN or an overflow by chance
        last, index = last_violation(sums, stops)
        entry, _ = first_entry(sums, stops)
    functions = [exact(sums, q) for q in range(len(sums))]
    for q, problem in enumerate(functions):
        check_last_violation(problem, last[q], index[q], stop)
        check_first_entry(problem, entry[q], stop)
    upward = np.array([[float(mp.sign(f.ratio(0))) if abs(f.ratio(0)) > 4 else 0 for f in row] for row in functions])
    if np.all(upward):
        turned = ExponentialSums(sums.amplitudes * upward[:, :, None], sums.rates)
        time, exits = first_exit(turned, stops)
        for q in range(len(sums)):
            check_first_exit(exact(turned, q), time[q], exits[q], stop)
    return last, entry


def sums_of(rows, rates):
    """One problem from rows of coefficients."""
    return ExponentialSums(
        np.atleast_2d(np.asarray(rows, dtype=float))[None], np.asarray(rates, dtype=float)[None, None]
    )


def with_zeros(rates, zeros):
    """Coefficients of the sum that vanishes exactly at the given times and nowhere else (K rates, K − 1 times).

    Exponentials with different rates are a Chebyshev system: the sum exists, is unique, and changes sign there.
    """
    with mp.workdps(200):
        rates = [mp.mpf(float(r)) for r in rates]
        rows = mp.matrix([[mp.exp(-r * mp.mpf(float(z))) for r in rates[1:]] for z in zeros])
        right = mp.matrix([-mp.exp(-rates[0] * mp.mpf(float(z))) for z in zeros])
        solved = [mp.mpf(1), *mp.lu_solve(rows, right)]
        largest = max(abs(c) for c in solved)
        return np.array([float(c / largest) for c in solved])


# --- prescribed zeros ---


@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_prescribed_zeros_are_found(count, scale):
    rates = np.arange(count) * 1.7 / scale
    zeros = scale * np.linspace(0.3, 2.0, count - 1)
    sums = sums_of(with_zeros(rates, zeros), rates)
    for sign in (1.0, -1.0):
        turned = ExponentialSums(sign * sums.amplitudes, sums.rates)
        f = exact(turned, 0)[0]
        crossings = f.zeros(f.horizon())  # of the rounded coefficients
        assert len(crossings) == count - 1
        tolerance = [4 * f.noise(z) / abs(f.slope(z)) + 4 * EPS * z for z in crossings]
        positive_in_the_end = f(2 * f.horizon()) > 0
        last, index = last_violation(turned, np.array([np.inf]))
        entry, _ = first_entry(turned, np.array([np.inf]))
        if positive_in_the_end:
            assert abs(mp.mpf(last[0]) - crossings[-1]) <= tolerance[-1]
            assert index[0] == 0
        else:
            assert np.isinf(last[0])
        if f(0) > 0:
            assert entry[0] == 0
            leave, _ = first_exit(turned, np.array([np.inf]))
            assert abs(mp.mpf(leave[0]) - crossings[0]) <= tolerance[0]
        else:
            assert abs(mp.mpf(entry[0]) - crossings[0]) <= tolerance[0]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(2, 6), functions=st.integers(1, 2), stop=st.sampled_from([np.inf, 3.0]))
def test_nearly_degenerate_rates_and_nearly_double_zeros(data, count, functions, stop):
    # gaps down to 1e-13 of the rate, zeros down to 1e-9 from each other
    gaps = data.draw(st.lists(st.floats(-13, 1), min_size=count, max_size=count))
    start = data.draw(st.sampled_from([0.0, 1e-3, 1.0]))
    rates = start + np.cumsum(10.0 ** np.array(gaps))
    assume(np.all(np.diff(rates) > 0))
    rows = []
    for _ in range(functions):
        apart = data.draw(st.lists(st.floats(-9, 0.5), min_size=count - 1, max_size=count - 1))
        rows.append(data.draw(st.sampled_from([1, -1])) * with_zeros(rates, np.cumsum(10.0 ** np.array(apart))))
    check_all(sums_of(rows, rates), stop)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    places=st.lists(st.floats(0.05, 4.0), min_size=1, max_size=3),
    lift=st.sampled_from([0.0, 1e-14, -1e-14, 1e-12, -1e-12, 1e-9, -1e-9, 1e-4]),
)
def test_near_tangents(data, places, lift):
    # Π (x − x_i)² ± δ with x = e^{−rt}: double zeros, split or lifted by δ
    polynomial = np.poly1d([1.0])
    for place in places:
        polynomial *= np.poly1d([1.0, -np.exp(-place)]) ** 2
    coefficients = np.array(polynomial.coeffs[::-1])
    coefficients[0] += lift
    rate = data.draw(st.sampled_from([1e-3, 1.0, 40.0]))
    check_all(sums_of(coefficients, rate * np.arange(coefficients.size)))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(2, 6), functions=st.integers(1, 3), stop=st.sampled_from([np.inf, 0.7]))
def test_terms_of_all_sizes(data, count, functions, stop):
    sizes = st.floats(-6, 6)
    draw = [data.draw(st.lists(sizes, min_size=count, max_size=count)) for _ in range(functions + 1)]
    signs = [data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=count, max_size=count)) for _ in range(functions)]
    rates = np.sort(10.0 ** np.array(draw[0]) * data.draw(st.sampled_from([[0] + [1] * 9, [1] * 10]))[:count])
    assume(np.all(np.diff(rates) > 0))
    rows = [np.array(s) * 10.0 ** np.array(d) for s, d in zip(signs, draw[1:], strict=True)]
    check_all(sums_of(rows, rates), stop)


def test_a_dip_just_above_rounding_is_seen():
    # (x − ½)² − δ: two zeros 2√δ apart in x; δ is some hundred roundings, and a lifted twin must not be touched
    rates = np.array([0.0, 1.0, 2.0])
    for depth in (1e-13, 1e-11, 1e-7):
        dipping, clear = np.array([0.25 - depth, -1.0, 1.0]), np.array([0.25 + depth, -1.0, 1.0])
        last, _ = last_violation(sums_of(dipping, rates), np.array([np.inf]))
        expected = -np.log(0.5 - np.sqrt(depth))
        # value error 1e-15 over the slope 2√δ x
        assert_allclose(last[0], expected, atol=2e-15 / np.sqrt(depth) + 1e-15)
        last, index = last_violation(sums_of(clear, rates), np.array([np.inf]))
        assert (last[0], index[0]) == (0.0, -1)


def test_a_short_window_is_seen():
    # −((x − ½)² − δ): positive only in between
    rates, depth = np.array([0.0, 1.0, 2.0]), 1e-11
    entry, index = first_entry(sums_of([-0.25 + depth, 1.0, -1.0], rates), np.array([np.inf]))
    assert_allclose(entry[0], -np.log(0.5 + np.sqrt(depth)), atol=2e-15 / np.sqrt(depth))
    assert index[0] == 0
    entry, index = first_entry(sums_of([-0.25 - depth, 1.0, -1.0], rates), np.array([np.inf]))
    assert (entry[0], index[0]) == (np.inf, -1)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_all_but_cancelling_pairs(gap):
    # e^{−t} − e^{−(1+δ)t} − δ c e^{−2t} ≈ δ (t − c e^{−t}) e^{−t}: the zero does not depend on δ, to first order
    rates = np.array([1.0, 1.0 + gap, 2.0])
    pair = rates[1] - 1.0  # what is left of δ in double precision
    sums = sums_of([1.0, -1.0, -pair], rates)
    check_all(sums)
    last, _ = last_violation(sums, np.array([np.inf]))
    omega = 0.5671432904097838  # t e^t = 1
    # twice the rounding error, 5ε · 2, over the slope 1.6 δ; for the smallest δ nothing is left
    if gap > 1e-14:
        assert abs(last[0] - omega) < 0.3 * gap + 3e-15 / gap


def test_many_modes_against_a_dense_scan():
    # 100 modes, as of a quadratic form in 13 dimensions; a grid of 2e5 times sees every violation wider than a step
    rng = np.random.default_rng(5)
    rates = np.concatenate([[0.0], rng.gamma(0.5, 2.0, 99)])
    matrix = rng.standard_normal((40, 1, 100))
    matrix[:, :, 0] = 0.05
    sums = ExponentialSums(matrix, rates[None, None])
    stop = np.full(40, 30.0)
    last, _ = last_violation(sums, stop)
    entry, _ = first_entry(sums, stop)
    grid = np.linspace(0, 30.0, 200_001)
    values = np.concatenate(
        [matrix[:, 0] @ np.exp(-rates[:, None] * part) for part in np.array_split(grid, 20)], axis=1
    )
    step, rounding = grid[1], 1e-12
    seen = 0
    for f, t_last, t_entry in zip(values, last, entry, strict=True):
        assert not (f[grid > t_last] < -rounding).any()
        assert not (f[grid < t_entry] > rounding).any()
        for t, side in ((t_last, -1), (t_entry, 1)):  # the function has that sign within a step on the other side
            if 0 < t < 30.0:
                near = np.abs(grid - t) <= 1.01 * step
                assert (side * f[near] > -rounding).any()
                assert (side * f[near] < rounding).any()
                seen += 1
    assert seen > 10


# --- conventions ---


def test_constants_and_vanishing_functions():
    rates = np.array([0.0, 1.0])
    infinite = np.array([np.inf])
    assert last_violation(sums_of([1.0, 0.0], rates), infinite)[0] == 0
    assert last_violation(sums_of([-1.0, 0.0], rates), infinite)[0] == np.inf
    assert last_violation(sums_of([0.0, 0.0], rates), infinite)[0] == np.inf
    assert last_violation(sums_of([0.0, 1.0], rates), infinite)[0] == 0  # decays, never vanishes
    assert last_violation(sums_of([0.0, -1.0], rates), infinite)[0] == np.inf
    assert first_entry(sums_of([0.0, 0.0], rates), infinite)[0] == np.inf
    assert first_entry(sums_of([1.0, -1.0], rates), infinite)[0] == 0  # zero at the start, positive after
    assert first_exit(sums_of([1.0, -1.0], rates), infinite)[0] == np.inf
    assert first_exit(sums_of([-1.0, 1.0], rates), infinite)[0] == 0


def test_a_function_that_vanishes_identically_counts_as_positive_if_closed():
    rates = np.array([0.0, 1.0])
    amplitudes = np.array([[[0.0, 0.0], [1.0, -2.0]]])
    closed = ExponentialSums(amplitudes, rates[None, None], closed=np.array([True, False]))
    assert_allclose(last_violation(closed, np.array([np.inf]))[0], np.log(2), rtol=1e-15)
    opened = ExponentialSums(amplitudes, rates[None, None])
    assert np.isinf(last_violation(opened, np.array([np.inf]))[0])


def test_sums_that_decay_to_nothing_keep_their_last_zero():
    # e^{−2000t}(e^{−t} − 3e^{−2t}): at the zero, ln 3, both terms are below the smallest double
    last, _ = last_violation(sums_of([1.0, -3.0], [2001.0, 2002.0]), np.array([np.inf]))
    assert_allclose(last[0], np.log(3), rtol=1e-15)


def test_the_index_names_the_function():
    rates = np.array([0.0, 1.0])
    sums = sums_of([[1.0, -2.0], [1.0, -3.0], [1.0, 5.0]], rates)  # zeros ln 2, ln 3, none
    time, index = last_violation(sums, np.array([np.inf]))
    assert_allclose(time, np.log(3), rtol=1e-15)
    assert index[0] == 1
    time, index = first_entry(sums, np.array([np.inf]))
    assert_allclose(time, np.log(3), rtol=1e-15)
    assert index[0] == 1
    time, exits = first_exit(sums_of([[-1.0, 2.0], [-1.0, 3.0], [-2.0, 4.0]], rates), np.array([np.inf]))
    assert_allclose(time, np.log(2), rtol=1e-15)
    assert_array_equal(exits, [[True, False, True]])


def test_problems_do_not_see_each_other():
    rng = np.random.default_rng(8)
    sums = ExponentialSums(rng.standard_normal((50, 3, 6)), rng.gamma(1.0, 1.0, (50, 1, 6)))
    stop = np.where(np.arange(50) % 3, np.inf, 2.0)
    for question in (last_violation, first_entry):
        together = question(sums, stop)
        alone = [question(sums.take(np.array([q])), stop[q : q + 1]) for q in range(50)]
        for k in range(2):
            assert_array_equal(together[k], np.concatenate([pair[k] for pair in alone]))


def test_the_judge_rejects_a_missed_crossing(monkeypatch):
    # Control: without the guard on curvature the walk steps over the dip of a near tangent, and the check must say so
    def leap(value, slope, curvature):
        return np.full(np.broadcast_shapes(value.shape, slope.shape), np.inf)

    rates = np.arange(3.0)
    sums = sums_of([0.25 - 1e-6, -1.0, 1.0], rates)
    check_all(sums)
    monkeypatch.setattr(sign_changes, "_first_zero", leap)
    time, index = last_violation(sums, np.array([np.inf]))
    with pytest.raises(AssertionError, match="roundings after"):
        check_last_violation(exact(sums, 0), time[0], index[0], np.inf)
