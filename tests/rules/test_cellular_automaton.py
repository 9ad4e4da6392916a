"""Local rules against a naive loop, published tables and sequences, and the symmetries of rules."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokphase.rules import CellularAutomaton

numbers = st.integers(0, 255)
seeds = st.integers(0, 2**32 - 1)
boundaries = pytest.mark.parametrize("boundary", ["open", "closed"])


def random_spins(seed, *shape):
    return np.random.default_rng(seed).choice([-1, 1], size=shape)


def naive(table, reach, x, boundary):
    """One output cell after the other, the neighbourhood looked up by its spins."""
    lookup = dict(zip(product([-1, 1], repeat=2 * reach + 1), table, strict=True))
    length = len(x)

    def cell(i):
        if boundary == "closed":
            return x[i % length]
        return x[i] if 0 <= i < length else -1

    return [lookup[tuple(cell(i + k) for k in range(-reach, reach + 1))] for i in range(length)]


def test_rule_30_is_the_table_of_eq_52():
    assert CellularAutomaton(30).table.tolist() == [-1, 1, 1, 1, 1, -1, -1, -1]


def test_rule_30_centre_column():
    # OEIS A051023, the first 32 terms: the colour of the middle cell from a single black one.
    known = [1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0]
    start = -np.ones(81, dtype=int)
    start[40] = 1
    rows = CellularAutomaton(30).evolve(start, 31)
    assert ((rows[:, 40] + 1) // 2).tolist() == known


@pytest.mark.parametrize(
    ("number", "formula"),
    [
        (90, lambda left, own, right: left * right * -1),
        (204, lambda left, own, right: own),
        (170, lambda left, own, right: right),
        (240, lambda left, own, right: left),
        (232, lambda left, own, right: np.sign(left + own + right)),
        (150, lambda left, own, right: left * own * right),
    ],
)
def test_rules_with_a_formula(number, formula):
    x = random_spins(5, 20, 17)
    y = CellularAutomaton(number)(x, "closed")
    np.testing.assert_array_equal(y, formula(np.roll(x, 1, -1), x, np.roll(x, -1, -1)))


@boundaries
@given(seed=seeds, number=numbers, length=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_elementary_rules_against_the_naive_loop(boundary, seed, number, length):
    rule, x = CellularAutomaton(number), random_spins(seed, length)
    assert rule(x, boundary).tolist() == naive(rule.table, 1, x, boundary)


@boundaries
@pytest.mark.parametrize("reach", [0, 2, 3])
@pytest.mark.parametrize("length", [1, 4, 9])
def test_tables_of_any_reach_against_the_naive_loop(boundary, reach, length):
    table = random_spins(reach, 2 ** (2 * reach + 1))
    rule, x = CellularAutomaton(table), random_spins(length, length)
    assert rule.reach == reach
    assert rule(x, boundary).tolist() == naive(table, reach, x, boundary)


def test_leading_axes_are_inputs():
    rule, x = CellularAutomaton(110), random_spins(0, 2, 3, 7)
    y = rule(x)
    assert y.shape == x.shape
    assert y.dtype == np.int8
    np.testing.assert_array_equal(y[1, 2], rule(x[1, 2]))


@given(numbers)
@settings(deadline=None)
def test_number_and_table_name_the_same_rule(number):
    rule = CellularAutomaton(number)
    assert rule.number == number
    assert CellularAutomaton(rule.table, reach=1) == rule
    assert hash(CellularAutomaton(rule.table)) == hash(rule)
    assert eval(repr(rule)) == rule


def test_number_of_a_rule_of_larger_reach():
    rule = CellularAutomaton(random_spins(1, 32))
    assert CellularAutomaton(rule.number, reach=2) == rule
    assert eval(repr(rule)) == rule
    assert CellularAutomaton(2**128 - 1, reach=3).table.tolist() == [1] * 128
    assert "reach 3" in repr(CellularAutomaton(5, reach=3))


def test_rules_of_different_reach_differ():
    assert CellularAutomaton(204) != CellularAutomaton(204, reach=2)
    assert CellularAutomaton(30) != 30


@given(seed=seeds, number=numbers, times=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_iterated_rule_is_the_rule_applied_in_a_row_on_a_ring(seed, number, times):
    rule, x = CellularAutomaton(number), random_spins(seed, 11)
    iterated = rule.iterate(times)
    assert iterated.reach == times
    np.testing.assert_array_equal(iterated(x, "closed"), rule.evolve(x, times, "closed")[-1])


def test_iterated_rule_of_a_rule_of_larger_reach():
    rule, x = CellularAutomaton(random_spins(3, 32)), random_spins(4, 50, 13)
    np.testing.assert_array_equal(rule.iterate(2)(x, "closed"), rule(rule(x, "closed"), "closed"))


@given(seed=seeds, number=numbers)
@settings(max_examples=30, deadline=None)
def test_open_iterated_rule_lets_the_outside_evolve(seed, number):
    """The K-local open rule is the elementary one on an input padded by K cells −1, cropped."""
    rule, x = CellularAutomaton(number), random_spins(seed, 6)
    padded = np.concatenate([-np.ones(3, dtype=int), x, -np.ones(3, dtype=int)])
    # The padding's own ends are wrong after each step by one cell more, and never reach the input.
    np.testing.assert_array_equal(rule.iterate(3)(x), rule.evolve(padded, 3)[-1, 3:-3])


def test_open_iterated_rule_differs_from_iterating_the_open_rule():
    rule = CellularAutomaton(30)
    x = [1, -1, -1, -1, -1]
    # The left neighbour outside becomes +1 after one step; only the K-local rule's second step sees it.
    assert rule.iterate(2)(x)[0] == -1
    assert rule.evolve(x, 2)[-1][0] == 1
    interior = slice(2, -2)
    np.testing.assert_array_equal(rule.iterate(2)(x)[interior], rule.evolve(x, 2)[-1][interior])


@boundaries
@given(seed=seeds, number=numbers)
@settings(max_examples=30, deadline=None)
def test_reflected_rule(boundary, seed, number):
    rule, x = CellularAutomaton(number).iterate(2), random_spins(seed, 8)
    np.testing.assert_array_equal(rule.reflect()(x[::-1], boundary), rule(x, boundary)[::-1])


@given(seed=seeds, number=numbers)
@settings(max_examples=30, deadline=None)
def test_complemented_rule_on_a_ring(seed, number):
    rule, x = CellularAutomaton(number).iterate(2), random_spins(seed, 8)
    np.testing.assert_array_equal(rule.complement()(-x, "closed"), -rule(x, "closed"))


def test_complement_of_an_open_rule_holds_away_from_the_ends_only():
    rule, x = CellularAutomaton(30), -np.ones(6, dtype=int)
    flipped, expected = rule.complement()(-x), -rule(x)
    np.testing.assert_array_equal(flipped[1:-1], expected[1:-1])
    assert flipped[0] != expected[0]


def test_the_88_classes():
    classes = CellularAutomaton.elementary_classes()
    assert len(classes) == 88
    assert sorted(number for members in classes for number in members) == list(range(256))
    assert (30, 86, 135, 149) in classes  # Wolfram (1983): the equivalents of rule 30
    assert (110, 124, 137, 193) in classes
    assert {len(members) for members in classes} == {1, 2, 4}


def test_table_cannot_be_changed():
    rule = CellularAutomaton(30)
    with pytest.raises(ValueError, match="read-only"):
        rule.table[0] = 1
    with pytest.raises(AttributeError):
        rule.reach = 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((256,), "rule must be a number from 0 to 255, got 256"),
        ((-1,), "rule must be a number from 0 to 255, got -1"),
        ((30.5,), "rule must be an integer"),
        ((True,), "rule must be an integer"),
        (("30",), "rule must be an integer"),
        ((float("nan"),), "rule must be an integer"),
        ((2**128, 3), "below 2\\*\\*128"),
        ((30, -1), "reach"),
        ((30, 11), "reach"),
        ((30, 1.5), "reach"),
        (([1, -1, 1],), "got shape \\(3,\\)"),
        (([1, -1, 1, -1],), "got shape \\(4,\\)"),
        (([1],), "got shape \\(1,\\)"),
        (([],), "got shape \\(0,\\)"),
        ((np.ones((2, 4)),), "got shape \\(2, 4\\)"),
        (([1, 0, 1, 1, 1, 1, 1, 1],), "rule must hold only -1 and \\+1"),
        (([1, np.nan, 1, 1, 1, 1, 1, 1],), "rule must be finite"),
        ((np.ones(8), 2), "reach must be 1 for a table of 8 spins, got 2"),
    ],
)
def test_bad_rules_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CellularAutomaton(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rule: rule([1, 0, -1]), "x must hold only"),
        (lambda rule: rule([1, np.nan]), "x must be finite"),
        (lambda rule: rule([]), "x must have at least one cell"),
        (lambda rule: rule(1), "x must have at least 1 dimension"),
        (lambda rule: rule([1, -1], boundary="periodic"), "boundary must be one of"),
        (lambda rule: rule.evolve([1, -1], -1), "steps"),
        (lambda rule: rule.iterate(0), "times"),
        (lambda rule: rule.iterate(11), "times must keep the reach at most 10"),
    ],
)
def test_bad_calls_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(CellularAutomaton(30))
