"""Zero-error times against a loop over records, and what is known of the delay between two."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from grokphase.transition.zero_times import delay, zero_times

INF = np.inf


def by_loop(time, error, tolerance, which):
    """(low, high) of one member, record by record."""
    records = [(t, e) for t, e in zip(time, error, strict=True) if not np.isnan(e)]
    if not records:
        return -INF, INF
    zero = [e <= tolerance for _, e in records]
    for place in range(len(records)):
        if zero[place] if which == "first" else all(zero[place:]):
            return (records[place - 1][0] if place else -INF), records[place][0]
    return records[-1][0], INF


errors = st.lists(st.sampled_from([0.0, 0.01, 0.2, np.nan]), min_size=1, max_size=8)


@given(errors, st.sampled_from([0.0, 0.01]), st.sampled_from(["first", "final"]))
def test_agrees_with_a_loop_over_records(error, tolerance, which):
    time = np.arange(len(error)) ** 2 - 3.0
    found = zero_times(time, np.array([error]), tolerance, which)
    low, high = by_loop(time, error, tolerance, which)
    assert (found.low[0], found.high[0]) == (low, high)
    assert found.reached[0] == (high < INF)
    assert found.value[0] == (high if high < INF else low)


def test_first_and_final_differ_where_the_error_returns():
    error = np.array([[0.5, 0.0, 0.3, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0, 0.1]])
    time = np.arange(5.0)
    assert_array_equal(zero_times(time, error, 0.0, "first").value, [1, 1])
    final = zero_times(time, error, 0.0, "final")
    assert_array_equal(final.value, [3, 4])
    assert_array_equal(final.censored, [False, True])


def test_resolution_is_the_gap_in_the_record():
    error = np.array([[0.5, np.nan, np.nan, 0.0], [0.5, 0.5, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert_array_equal(zero_times(np.array([0.0, 1.0, 2.0, 4.0]), error, 0.0, "first").resolution, [4, 2, INF])


@given(st.lists(st.tuples(errors, errors), min_size=1, max_size=4))
def test_the_true_delay_is_within_its_bounds(pairs):
    """The truth is any pair of times within the bounds of the two, for a longer record as well."""
    rng = np.random.default_rng(0)
    length = max(len(part) for pair in pairs for part in pair)
    train, test = (
        np.array([pair[k] + [np.nan] * (length - len(pair[k])) for pair in pairs], dtype=float) for k in (0, 1)
    )
    time = np.arange(length, dtype=float)
    zeros = [zero_times(time, error, 0.0, "first") for error in (test, train)]
    found = delay(*zeros)
    assert not np.isnan([found.low, found.high, found.value]).any()
    assert_array_equal(found.reached, zeros[0].reached & zeros[1].reached)
    for member in range(len(pairs)):
        low, high = (np.array([zero.low[member], zero.high[member]]) for zero in zeros)
        recorded = [zero.value[member] if zero.reached[member] else None for zero in zeros]
        # Delays are between records where both are reached; then the bounds hold for the moments themselves as well.
        truth = [rng.uniform(max(ends[0], -10), min(ends[1], length + 10)) for ends in (low, high)]
        if recorded[0] is not None and recorded[1] is not None:
            assert found.value[member] == recorded[0] - recorded[1]
            assert found.low[member] - 1e-9 <= truth[0] - truth[1] <= found.high[member] + 1e-9
        elif recorded[0] is None and recorded[1] is not None:
            assert found.low[member] == zeros[0].low[member] - recorded[1]
            assert found.high[member] == INF
        elif recorded[0] is not None:
            assert found.low[member] == -INF
            assert found.high[member] == recorded[0] - zeros[1].low[member]
        else:
            assert (found.low[member], found.high[member]) == (-INF, INF)


@pytest.mark.parametrize("which", ["first", "final"])
def test_a_member_without_any_record_is_unknown(which):
    found = zero_times(np.arange(3.0), np.full((1, 3), np.nan), 0.0, which)
    assert (found.low[0], found.high[0], found.reached[0]) == (-INF, INF, False)


def test_a_tolerance_means_what_its_digits_say():
    """1 − 0.95 exceeds 0.05 by 4e-17, and by 1e-8 in single precision."""
    accuracy = np.array([[0.9, 0.95]])
    assert (1 - accuracy[0, 1]) > 0.05
    for error in (1 - accuracy, 1 - accuracy.astype(np.float32).astype(float)):
        assert_array_equal(zero_times(np.arange(2.0), error, 0.05, "first").value, [1])
        assert_array_equal(zero_times(np.arange(2.0), error, 0.0499, "first").reached, [False])
