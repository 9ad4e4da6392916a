"""Gauge freedom, mirror, spin flip, exact attention and the published examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_attention import random_attention, random_classifier

from grokphase.rules import CellularAutomaton
from grokphase.solvable.gradient_flow import GradientFlow
from grokphase.student import Attention, all_inputs, paper_examples

seeds = st.integers(0, 2**32 - 1)
boundaries = pytest.mark.parametrize("boundary", ["open", "closed"])
EXACT = 1e-12


def transformed(classifier, basis):
    return basis @ classifier @ np.linalg.inv(basis)


def context_norms(attention, x):
    """Norms of the unnormalised contexts of every cell, from plain products."""
    norms = []
    for i in range(len(x)):
        left, right = attention.left, attention.right
        for spin in x[:i]:
            left = left @ attention.tensors[(spin + 1) // 2]
        for spin in x[:i:-1]:
            right = attention.tensors[(spin + 1) // 2] @ right
        norms.append((np.linalg.norm(left), np.linalg.norm(right)))
    return np.array(norms)


@boundaries
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_gauge_keeps_scores_times_norms(boundary, seed):
    """What is invariant is ŷ times the norms of both unnormalised contexts, to 1e-10; hence the sign of ŷ."""
    rng = np.random.default_rng([seed, 2])
    attention, classifier = random_attention(seed, 3, boundary), random_classifier(seed, 3)
    basis = (
        np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([0.3, 1.0, 2.5]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    )
    other = attention.change_basis(basis)
    x = rng.choice([-1, 1], size=6)
    ours, theirs = attention.scores(x, classifier), other.scores(x, transformed(classifier, basis))
    norms = context_norms(attention, x).prod(axis=-1)
    # change_basis keeps unit boundary vectors: their norms are the only part of the gauge it divides out.
    edges = 1.0
    if boundary == "open":
        edges = np.linalg.norm(attention.left @ np.linalg.inv(basis)) * np.linalg.norm(basis @ attention.right)
    np.testing.assert_allclose(
        theirs * context_norms(other, x).prod(axis=-1) * edges, ours * norms, rtol=0, atol=1e-10 * norms.max()
    )
    clear = np.abs(ours) > 1e-9
    np.testing.assert_array_equal(np.sign(theirs)[clear], np.sign(ours)[clear])


def test_gauge_changes_the_size_of_scores():
    """Control: the scores themselves are not invariant under a general change of basis."""
    attention, classifier = random_attention(0, 3), random_classifier(0, 3)
    basis = np.diag([0.2, 1.0, 3.0])
    x = np.array([1, -1, 1, 1])
    other = attention.change_basis(basis).scores(x, transformed(classifier, basis))
    assert np.abs(other - attention.scores(x, classifier)).max() > 0.05


@boundaries
@given(seed=seeds, bond=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_an_orthogonal_gauge_keeps_the_scores(boundary, seed, bond):
    rng = np.random.default_rng([seed, 3])
    attention, classifier = random_attention(seed, bond, boundary), random_classifier(seed, bond)
    basis = np.linalg.qr(rng.normal(size=(bond, bond)))[0]
    x = rng.choice([-1, 1], size=(5, 6))
    np.testing.assert_allclose(
        attention.change_basis(basis).scores(x, transformed(classifier, basis)),
        attention.scores(x, classifier),
        rtol=0,
        atol=1e-10,
    )


@boundaries
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_mirrored_attention(boundary, seed):
    attention, classifier = random_attention(seed, 3, boundary), random_classifier(seed, 3)
    x = np.random.default_rng(seed).choice([-1, 1], size=(4, 5))
    left, right = attention.contexts(x)
    mirrored_left, mirrored_right = attention.reflect().contexts(x[:, ::-1])
    if boundary == "closed":
        left, right = np.swapaxes(left, -1, -2), np.swapaxes(right, -1, -2)
    np.testing.assert_allclose(mirrored_left[:, ::-1], right, rtol=0, atol=EXACT)
    np.testing.assert_allclose(mirrored_right[:, ::-1], left, rtol=0, atol=EXACT)
    np.testing.assert_allclose(
        attention.reflect().scores(x[:, ::-1], np.swapaxes(classifier, -1, -2)),
        attention.scores(x, classifier)[:, ::-1],
        rtol=0,
        atol=EXACT,
    )


@boundaries
@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_spin_flipped_attention(boundary, seed):
    attention, classifier = random_attention(seed, 3, boundary), random_classifier(seed, 3)
    x = np.random.default_rng(seed).choice([-1, 1], size=(4, 5))
    np.testing.assert_allclose(
        attention.complement().scores(-x, -classifier[::-1]),
        -attention.scores(x, classifier),
        rtol=0,
        atol=EXACT,
    )


def exact_classifier(rule):
    """The rule's outputs as a classifier of the exact attention (left e_a ⊗ u, right u ⊗ e_b)."""
    states = 2**rule.reach
    table = rule.table.reshape(states, 2, states).astype(float)
    blocks = np.einsum("asb,c,d->sacdb", table, np.ones(states), np.ones(states))
    return blocks.reshape(2, states**2, states**2) / states


def test_exact_attention_of_reach_1_is_eq_68():
    printed = [
        [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]],
    ]
    np.testing.assert_array_equal(Attention.exact(1).tensors, printed)


@pytest.mark.parametrize("number", [30, 110, 90])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_exact_attention_solves_every_rule_of_its_reach(number, reach):
    """With the table as classifier the scores are the outputs themselves, open boundary included."""
    rule = CellularAutomaton(number).iterate(reach)
    attention = Attention.exact(reach)
    assert attention.bond == 4**reach
    assert attention.dimension == 2 * 16**reach
    x = all_inputs(2 * reach + 1)
    scores = attention.scores(x, exact_classifier(rule))
    np.testing.assert_allclose(scores, rule(x), rtol=0, atol=EXACT)


def test_exact_attention_sees_nothing_beyond_its_reach():
    """A rule of reach 2 is not solved by the exact attention of reach 1: equal features, unequal labels."""
    features = Attention.exact(1).features_of_all(5)[:, 2]
    labels = CellularAutomaton(30).iterate(2)(all_inputs(5))[:, 2]
    distinct = np.unique(features.round(9), axis=0)
    assert len(distinct) == 8
    both = [set(labels[(np.abs(features - row) < 1e-9).all(axis=1)]) for row in distinct]
    assert any(len(found) == 2 for found in both)


@pytest.mark.parametrize("reach", [1, 2])
def test_exact_attention_has_the_leading_eigenvectors_as_boundary(reach):
    exact = Attention.exact(reach)
    default = Attention(exact.tensors)
    # The other eigenvalues of A_0 are 0 with Jordan blocks: the leading one is well isolated.
    np.testing.assert_allclose(default.left, exact.left, rtol=0, atol=1e-10)
    np.testing.assert_allclose(default.right, exact.right, rtol=0, atol=1e-10)


@boundaries
@given(seed=seeds, number=st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_mirror_and_flip_of_the_rule_map_onto_the_attention(boundary, seed, number):
    """Who solves a rule solves, mirrored, the mirrored rule, and, flipped, the flipped one."""
    rule, exact = CellularAutomaton(number), Attention.exact(1)
    # Hidden behind a gauge, so that nothing rests on the exact attention's own symmetry.
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0]
    closed = boundary == "closed"
    attention = (Attention(exact.tensors, boundary="closed") if closed else exact).change_basis(basis)
    classifier = transformed(exact_classifier(rule), basis)
    x = all_inputs(6)
    # The closed contexts of Eq. 68 know the neighbours on the ring, but not with weight 1.
    margin = np.abs(attention.scores(x, classifier)).min()
    assert margin > 1e-3
    np.testing.assert_array_equal(np.sign(attention.scores(x, classifier)), rule(x, boundary))
    mirrored = attention.reflect().scores(x, np.swapaxes(classifier, -1, -2))
    np.testing.assert_array_equal(np.sign(mirrored), rule.reflect()(x, boundary))
    flipped = np.sign(attention.complement().scores(x, -classifier[::-1]))
    cells = slice(None) if closed else slice(1, -1)  # an open flipped rule would need +1 outside
    np.testing.assert_array_equal(flipped[:, cells], rule.complement()(x, boundary)[:, cells])


def test_paper_examples():
    """The tensors of Appendix C as read from the paper, and boundary vectors that are eigenvectors of A_0."""
    assert len(paper_examples) == 3
    printed_corners = [(0.782735, -0.157563), (1.6749, 0.922777), (1.37336, 1.13816)]
    for example, (first, last) in zip(paper_examples, printed_corners, strict=True):
        assert example.tensors[0, 0, 0] == first
        assert example.tensors[1, 1, 1] == last
        leading = max(np.linalg.eigvals(example.tensors[0]), key=abs)
        np.testing.assert_allclose(example.left @ example.tensors[0], leading * example.left, rtol=0, atol=1e-14)
        np.testing.assert_allclose(example.tensors[0] @ example.right, leading * example.right, rtol=0, atol=1e-14)


def test_the_examples_solve_rule_30():
    """Ridge regression (Eq. 21 with λ₂ = 0.01) on all inputs of length 3 makes no error at length 12."""
    rule = CellularAutomaton(30)
    labels = rule(all_inputs(3)).reshape(-1)
    for example in paper_examples:
        features = example.features_of_all(3).reshape(-1, example.dimension)
        gram = features.T @ features / len(features) + 0.01 * np.eye(example.dimension)
        classifier = np.linalg.solve(gram, features.T @ labels / len(features)).reshape(2, 2, 2)
        np.testing.assert_array_equal(np.sign(example.scores_of_all(12, classifier)), rule(all_inputs(12)))


def test_least_squares_without_ridge_fails_on_example_1():
    """Control: separable is not enough, the limit of λ₂ = 0 errs on a tenth of longer inputs."""
    rule, example = CellularAutomaton(30), paper_examples[0]
    features = example.features_of_all(3).reshape(-1, example.dimension)
    classifier = np.linalg.lstsq(features, rule(all_inputs(3)).reshape(-1), rcond=None)[0].reshape(2, 2, 2)
    np.testing.assert_array_equal(np.sign(example.scores_of_all(3, classifier)), rule(all_inputs(3)))
    errors = np.sign(example.scores_of_all(9, classifier)) != rule(all_inputs(9))
    assert 0.05 < errors.mean() < 0.15


def test_the_student_with_fixed_attention_is_the_perceptron():
    """Its flow is ``GradientFlow`` on the features: same scores, and a limit that generalises."""
    rule, example = CellularAutomaton(30), paper_examples[1]
    features = example.features_of_all(8).reshape(-1, example.dimension)
    flow = GradientFlow(features, rule(all_inputs(8)).reshape(-1), l2=0.1)
    weights = flow.weights(2.0, random_classifier(0, 2).ravel())
    classifier = weights.reshape(2, 2, 2)
    np.testing.assert_allclose(example.scores_of_all(8, classifier).ravel(), features @ weights, atol=EXACT)
    final = flow.stationary().reshape(2, 2, 2)
    np.testing.assert_array_equal(np.sign(example.scores_of_all(12, final)), rule(all_inputs(12)))
