"""Tree, scan, naive loop and dense contraction agree on features and scores; batches agree with loops.

Tolerance 1e-12 where nothing else is said: the rounding error of a context is a few d·1e-16 a cell, divided
by how much its norm shrinks there; ``well_conditioned`` keeps that loss below 1e3.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_attention import dense_scores, naive_scores, random_attention, random_classifier

from grokphase.student import Attention, all_inputs, paper_examples

seeds = st.integers(0, 2**32 - 1)
boundaries = pytest.mark.parametrize("boundary", ["open", "closed"])
EXACT = 1e-12


def well_conditioned(attention, length, least=1e-3):
    """No context loses more than 1/least of its norm in one cell: rounding stays far below ``EXACT``."""
    for tensors, edge in (
        (attention.tensors, attention.left),
        (np.swapaxes(attention.tensors, -1, -2), attention.right),
    ):
        norms = [np.linalg.norm(tensor) for tensor in tensors]
        states = [np.atleast_2d(edge) / np.linalg.norm(edge)]
        for _ in range(length - 1):
            grown = [state @ tensor / norm for state in states for tensor, norm in zip(tensors, norms, strict=True)]
            sizes = [np.linalg.norm(state) for state in grown]
            if min(sizes) < least:
                return False
            states = [state / size for state, size in zip(grown, sizes, strict=True)]
    return True


@boundaries
@pytest.mark.parametrize("bond", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_all_ways_to_the_scores_agree(boundary, bond, length):
    attention, classifier = random_attention(bond, bond, boundary), random_classifier(bond, bond)
    assert well_conditioned(attention, length)
    inputs = all_inputs(length)
    tree = attention.scores_of_all(length, classifier)
    assert tree.shape == (2**length, length)
    ways = {
        "scan": attention.scores(inputs, classifier),
        "features of the scan": attention.features(inputs) @ classifier.ravel(),
        "features of the tree": attention.features_of_all(length) @ classifier.ravel(),
        "naive": np.array([naive_scores(attention, x, classifier) for x in inputs]),
        "dense": dense_scores(attention, length, classifier).reshape(2**length, length),
    }
    for way, scores in ways.items():
        np.testing.assert_allclose(tree, scores, rtol=0, atol=EXACT, err_msg=way)


@boundaries
@given(seed=seeds, bond=st.integers(1, 4), length=st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_random_attentions_tree_scan_and_naive(boundary, seed, bond, length):
    attention, classifier = random_attention(seed, bond, boundary), random_classifier(seed, bond)
    assume(well_conditioned(attention, length))
    inputs = all_inputs(length)
    tree = attention.scores_of_all(length, classifier)
    np.testing.assert_allclose(tree, attention.scores(inputs, classifier), rtol=0, atol=EXACT)
    row = seed % 2**length
    np.testing.assert_allclose(tree[row], naive_scores(attention, inputs[row], classifier), rtol=0, atol=EXACT)


@boundaries
def test_tree_and_scan_on_all_inputs_of_length_12(boundary):
    attention, classifier = random_attention(3, 10, boundary), random_classifier(3, 10)
    inputs = all_inputs(12)
    tree = attention.scores_of_all(12, classifier)
    np.testing.assert_allclose(tree, attention.scores(inputs, classifier), rtol=0, atol=EXACT)


def test_a_wrong_neighbour_would_be_seen():
    """Control: with the context one cell off, or the classifier transposed, the scores differ by far more."""
    attention, classifier = random_attention(2, 3), random_classifier(2, 3)
    x = np.array([1, -1, -1, 1, 1])
    right_ones = naive_scores(attention, x, classifier)
    assert np.abs(attention.scores(np.roll(x, 1), classifier)[1:-1] - right_ones[:-2]).max() > 1e-2
    assert np.abs(attention.scores(x, np.swapaxes(classifier, -1, -2)) - right_ones).max() > 1e-2


def test_long_inputs_neither_overflow_nor_fade():
    attention = random_attention(0, 4)
    scaled = Attention(attention.tensors * [[[1e150]], [[1e-150]]], left=attention.left, right=attention.right)
    x = np.random.default_rng(1).choice([-1, 1], size=3000)
    left, right = scaled.contexts(x)
    np.testing.assert_allclose(np.linalg.norm(left, axis=-1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(right, axis=-1), 1, rtol=0, atol=1e-14)
    # A positive factor for each tensor changes no context; errors do not grow along the row (contraction).
    np.testing.assert_allclose(left, attention.contexts(x)[0], rtol=0, atol=EXACT)


def test_scores_by_blocks_of_sequences():
    """More sequences than one block holds: the same numbers as one by one."""
    attention, classifier = random_attention(5, 8), random_classifier(5, 8)
    x = np.random.default_rng(2).choice([-1, 1], size=(3, 300, 400))
    scores = attention.scores(x, classifier)
    assert scores.shape == x.shape
    for index in [(0, 0), (1, 17), (2, 299)]:
        np.testing.assert_allclose(scores[index], attention.scores(x[index], classifier), rtol=0, atol=EXACT)
    assert attention.scores(np.ones((0, 5)), classifier).shape == (0, 5)


def test_open_contexts_and_features_are_unit_vectors():
    attention = paper_examples[1]
    x = all_inputs(6)
    left, right = attention.contexts(x)
    assert left.shape == right.shape == (64, 6, 2)
    np.testing.assert_allclose(np.linalg.norm(left, axis=-1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(right, axis=-1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(attention.features(x), axis=-1), 1, rtol=0, atol=1e-14)


def test_features_are_indexed_by_spin_left_right():
    attention = random_attention(7, 3)
    x = np.array([-1, 1, 1, -1])
    left, right = attention.contexts(x)
    features = attention.features(x).reshape(4, 2, 3, 3)
    for cell, spin in enumerate(x):
        own = (spin + 1) // 2
        np.testing.assert_array_equal(features[cell, 1 - own], 0)
        np.testing.assert_allclose(features[cell, own], np.outer(left[cell], right[cell]), rtol=0, atol=EXACT)


def test_closed_contexts_are_the_matrices_of_eqs_60_and_61():
    attention = random_attention(8, 3, "closed")
    x = np.array([-1, 1, 1, -1])
    left, right = attention.contexts(x)
    minus, plus = attention.tensors
    assert left.shape == right.shape == (4, 3, 3)
    for ours, printed in (
        (left[0], np.eye(3)),
        (left[3], minus @ plus @ plus),
        (right[3], np.eye(3)),
        (right[0], plus @ plus @ minus),
    ):
        np.testing.assert_allclose(ours, printed / np.linalg.norm(printed), rtol=0, atol=EXACT)
    np.testing.assert_array_equal(attention.left, np.eye(3))


def test_closed_scores_rotate_with_the_input_in_sign():
    """Unnormalised, Tr(A...B...A) depends on the ring only; normalisation is a positive factor."""
    attention, classifier = random_attention(9, 3, "closed"), random_classifier(9, 3)
    x = np.random.default_rng(3).choice([-1, 1], size=9)
    scores = attention.scores(x, classifier)
    turned = attention.scores(np.roll(x, 4), classifier)
    np.testing.assert_array_equal(np.sign(turned), np.sign(np.roll(scores, 4)))


def test_order_of_all_inputs():
    inputs = all_inputs(5)
    assert inputs.shape == (32, 5)
    assert inputs.dtype == np.int8
    assert [int("".join("01"[(s + 1) // 2] for s in x), 2) for x in inputs] == list(range(32))


@boundaries
def test_a_batch_of_attentions_is_many_attentions(boundary):
    attention = random_attention(11, 2, boundary, batch=(3, 2))
    classifier = random_classifier(11, 2, batch=(3, 2))
    x = np.random.default_rng(4).choice([-1, 1], size=(4, 6))
    assert attention.batch_shape == (3, 2)
    left, right = attention.contexts(x)
    every = {
        "features": attention.features(x),
        "scores": attention.scores(x, classifier),
        "features_of_all": attention.features_of_all(4),
        "scores_of_all": attention.scores_of_all(4, classifier),
    }
    assert every["features"].shape == (3, 2, 4, 6, 8)
    assert every["scores_of_all"].shape == (3, 2, 16, 4)
    for index in np.ndindex(3, 2):
        edges = (attention.left[index], attention.right[index]) if boundary == "open" else (None, None)
        one = Attention(attention.tensors[index], *edges, boundary=boundary)
        single = {
            "features": one.features(x),
            "scores": one.scores(x, classifier[index]),
            "features_of_all": one.features_of_all(4),
            "scores_of_all": one.scores_of_all(4, classifier[index]),
        }
        for name, expected in single.items():
            np.testing.assert_allclose(every[name][index], expected, rtol=0, atol=EXACT, err_msg=name)
        np.testing.assert_allclose(left[index], one.contexts(x)[0], rtol=0, atol=EXACT)
        np.testing.assert_allclose(right[index], one.contexts(x)[1], rtol=0, atol=EXACT)


def test_many_classifiers_at_once():
    attention, classifiers = random_attention(12, 3), random_classifier(12, 3, batch=(5,))
    x = all_inputs(4)
    together = attention.scores(x, classifiers)
    assert together.shape == (5, 16, 4)
    np.testing.assert_allclose(together, attention.scores_of_all(4, classifiers), rtol=0, atol=EXACT)
    for one, classifier in zip(together, classifiers, strict=True):
        np.testing.assert_allclose(one, attention.scores(x, classifier), rtol=0, atol=EXACT)


def test_no_attentions_at_all():
    attention = Attention(np.empty((0, 2, 3, 3)))
    assert attention.features_of_all(2).shape == (0, 4, 2, 18)
    assert attention.scores([1, -1], np.ones((2, 3, 3))).shape == (0, 2)
