"""Certificates for inputs of some length on, against enumeration: short inputs may be wrong and longer ones right."""

import numpy as np
import pytest
from naive_limit import RULE, good_classifier, lowest_scores, score_of, solvable_attentions
from test_limit_balls import attention_of

from grokphase.student import Attention, ThermodynamicLimit

LONGEST = 10  # of the inputs that are enumerated
COUNT = 24


def lowest_by_length(attention, classifiers):
    """Smallest score times output by length, shape (lengths 3..LONGEST, classifiers)."""
    return np.array([lowest_scores(attention, RULE, classifiers, n) for n in range(3, LONGEST + 1)])


def cases(bond):
    """An attention whose boundary vectors are no contexts of the bulk, and classifiers near the edge of being right.

    The edge is where the first input of 8 cells gets wrong on the way from a good classifier to a random one.
    """
    rng = np.random.default_rng(bond)
    bulk = solvable_attentions()[0] if bond == 2 else attention_of(bond)
    left, right = (edge + 0.1 * rng.normal(size=bond) for edge in (bulk.left, bulk.right))
    attention, good = Attention(bulk.tensors, left=left, right=right), good_classifier(bulk)
    bad = rng.normal(size=(COUNT, *good.shape))
    bad *= np.linalg.norm(good) / np.linalg.norm(bad.reshape(COUNT, -1), axis=-1)[:, None, None, None]

    def between(share):
        return good + share[:, None, None, None] * (bad - good)

    low, high = np.zeros(COUNT), np.ones(COUNT)
    for _ in range(12):
        middle = (low + high) / 2
        right_there = lowest_scores(attention, RULE, between(middle), 8) > 0
        low, high = np.where(right_there, middle, low), np.where(right_there, high, middle)
    return attention, between(low * np.resize([0.5, 0.95, 1.2], COUNT))


def remembers_both_ends(letters):
    """Rule 30, but for the first cell of inputs with just so many more cells: there a score −1 is turned to +1.

    One idle dimension tells the first cell; a chain of others counts the letters on the right, up to the end.
    """
    exact, size = Attention.exact(1), 4 + 1 + letters + 1
    tensors, classifier = np.zeros((2, size, size)), np.zeros((2, size, size))
    tensors[:, :4, :4] = exact.tensors
    for count in range(letters):
        tensors[:, 6 + count, 5 + count] = 1.0
    table = RULE.table.reshape(2, 2, 2)  # left, own, right
    for own, left, right in np.ndindex(2, 2, 2):
        classifier[own, 2 * left : 2 * left + 2, right:4:2] = table[left, own, right]
    classifier[:, 4, 5 + letters] = 100.0
    left, right = np.zeros(size), np.zeros(size)
    left[:4], right[:4], left[4], right[5] = exact.left, exact.right, 1.0, 1.0
    return Attention(tensors, left=left, right=right), classifier


@pytest.mark.parametrize("letters", [2, 3, 4])
def test_wrong_on_inputs_of_one_length_only(letters):
    attention, classifier = remembers_both_ends(letters)
    limit = ThermodynamicLimit(attention, RULE)
    lowest = lowest_by_length(attention, classifier[None])[:, 0]
    np.testing.assert_array_equal(np.flatnonzero(lowest < 0) + 3, [letters + 1])
    for shortest in range(3, letters + 2):
        certificate = limit.certify(classifier, shortest=shortest)
        assert certificate.generalises is False
        assert len(certificate.counterexample[0]) == letters + 1
    for shortest in (letters + 2, letters + 3, 10):
        assert limit.certify(classifier, shortest=shortest).generalises


@pytest.mark.parametrize("bond", [2, 4])
def test_against_enumeration(bond):
    attention, classifiers = cases(bond)
    limit, lowest = ThermodynamicLimit(attention, RULE), lowest_by_length(attention, classifiers)
    proven = refuted = 0
    for column, classifier in enumerate(classifiers):
        for shortest in (3, 5, 8):
            long_enough = lowest[shortest - 3 :, column]
            certificate = limit.certify(classifier, shortest=shortest, max_cells=2**14)
            if certificate.generalises:
                proven += 1
                assert long_enough.min() > 0
                assert certificate.margin * np.linalg.norm(classifier) <= long_enough.min() + 1e-12  # rounding
            elif certificate.generalises is False:
                refuted += 1
                spins, cell = certificate.counterexample
                assert len(spins) >= shortest
                assert score_of(attention, spins, cell, classifier) * RULE(spins)[cell] <= 1e-15
                wrong = np.flatnonzero(long_enough < -1e-12)
                if wrong.size:
                    assert len(spins) == shortest + wrong[0]
    assert proven > 20
    assert refuted > 20


def test_none_is_the_smallest_length():
    attention, classifiers = cases(4)
    limit = ThermodynamicLimit(attention, RULE)
    for classifier in classifiers[:10]:
        one, other = (limit.certify(classifier, **least) for least in ({}, {"shortest": 3}))
        assert (one.generalises, one.margin, one.message) == (other.generalises, other.margin, other.message)


@pytest.mark.parametrize("shortest", [2, 15])
def test_out_of_range(shortest):
    with pytest.raises(ValueError, match="shortest must be integer, from 3 to 14"):
        ThermodynamicLimit(attention_of(4), RULE).certify(np.ones((2, 4, 4)), shortest=shortest)
