"""Bulk and finite-length error against enumeration and sampling."""

import numpy as np
import pytest
from naive_limit import RULE, both_contexts, contexts, error_by_cell, good_classifier, solvable_attentions

from grokphase.rules import CellularAutomaton
from grokphase.student import Attention, ThermodynamicLimit, all_inputs

NO_CONE = Attention([[[0.3, 1.0], [-0.8, 0.5]], [[1.0, 0.2], [0.7, -0.9]]], left=[1.0, 0.3], right=[0.4, 1.0])


def classifiers(attention, count, seed):
    """Between trained and random: errors from a per mille to a half."""
    rng = np.random.default_rng(seed)
    good = good_classifier(attention)
    scale = 10.0 ** rng.uniform(-1.5, 1.5, size=count)[:, None, None, None]
    return good + scale * np.abs(good).mean() * rng.normal(size=(count, 2, 2, 2))


def undecided_by_cell(attention, rays, classifier, length):
    """Share of the inputs of a length whose words leave the sign at a cell open, for each cell.

    A word's contexts lie between the images of the attractor's two rays, and a score is extremal there.
    """
    sides = []
    for which, ray in enumerate(rays):
        tensors = attention.tensors if which == 0 else np.swapaxes(attention.tensors, -1, -2)
        sides.append([contexts(tensors, one, length - 1) for one in ray])
    shares = []
    for cell in range(length):
        signs = []
        for left in sides[0]:
            for right in sides[1]:
                after = right[length - 1 - cell]
                scores = np.stack([left[cell] @ classifier[x] @ after.T for x in range(2)])
                signs.append(np.sign(scores))
        shares.append(float((np.abs(np.sum(signs, axis=0)) < 4).mean()))
    return np.array(shares)


def cone_rays(limit):
    """Two rays of each attractor from the public answer: the outermost of all branches."""
    rays = []
    for side in limit.attractor():
        vectors = side.rays.reshape(-1, 2)
        middle = vectors.sum(axis=0)
        angle = np.arctan2(middle[0] * vectors[:, 1] - middle[1] * vectors[:, 0], vectors @ middle)
        rays.append(vectors[[angle.argmin(), angle.argmax()]])
    return rays


@pytest.mark.parametrize("number", range(5))
def test_bounds_hold_the_exact_error_up_to_its_boundary_term(number):
    """Cell i of an input of length 16 differs from the bulk by at most what its two words leave undecided.

    At the two end cells the missing neighbour is −1, so nothing is said there.
    """
    attention = solvable_attentions()[number]
    limit = ThermodynamicLimit(attention, RULE)
    rays = cone_rays(limit)
    for classifier in classifiers(attention, 4, seed=number):
        bounds = limit.test_error(classifier)
        assert bounds.upper - bounds.lower <= 1e-9
        exact = error_by_cell(attention, RULE, classifier, 16)
        assert limit.test_error(classifier, length=16).lower == pytest.approx(exact.mean(), abs=1e-15)
        term = undecided_by_cell(attention, rays, classifier, 16)
        assert (exact <= bounds.upper + term + 1e-12)[1:-1].all()
        assert (exact >= bounds.lower - term - 1e-12)[1:-1].all()
        # Deep inside the term is small, so this says something.
        assert term[5:11].max() < 0.06


def test_another_rule_is_outside_the_bounds():
    """Control for the boundary term: the error for rule 110 does not pass as that for rule 30."""
    attention = solvable_attentions()[2]
    limit = ThermodynamicLimit(attention, RULE)
    (classifier,) = classifiers(attention, 1, seed=2)
    bounds = limit.test_error(classifier)
    term = undecided_by_cell(attention, cone_rays(limit), classifier, 16)
    other = error_by_cell(attention, CellularAutomaton(110), classifier, 16)
    assert (np.abs(other - bounds.lower) > term + 1e-3)[5:11].any()


def sampled_error(attention, rule, classifier, pairs, rng, *, share=0.5):
    """Monte Carlo of the bulk: independent contexts of 40 random letters on each side of a random neighbourhood."""
    letters = rng.random(size=(2, 40, pairs)) < share
    rows = []
    for which in range(2):
        tensors = attention.tensors if which == 0 else np.swapaxes(attention.tensors, -1, -2)
        row = np.broadcast_to((attention.left, attention.right)[which], (pairs, 2))
        for letter in letters[which]:
            row = np.where(letter[:, None], row @ tensors[1], row @ tensors[0])
            row = row / np.linalg.norm(row, axis=-1, keepdims=True)
        rows.append(row)
    own = rng.random(size=pairs) < share
    score = np.einsum("ni,nij,nj->n", rows[0], np.where(own[:, None, None], classifier[1], classifier[0]), rows[1])
    number = 4 * letters[0][-1] + 2 * own + letters[1][-1]
    wrong = score * rule.table[number] <= 0
    return wrong.mean(), wrong.std() / np.sqrt(pairs)


def test_against_sampling():
    """Each within 4.5 standard errors: false alarms with probability 1e-4 for all 12 together."""
    rng = np.random.default_rng(5)
    for number, attention in enumerate(solvable_attentions()[:6]):
        for classifier in classifiers(attention, 2, seed=40 + number):
            bounds = ThermodynamicLimit(attention, RULE).test_error(classifier)
            mean, stderr = sampled_error(attention, RULE, classifier, 40_000, rng)
            assert bounds.lower - 4.5 * stderr - 1e-9 < mean < bounds.upper + 4.5 * stderr + 1e-9


def test_sampling_with_biased_letters_disagrees():
    """Control: inputs with 54 percent +1 are not uniform."""
    rng = np.random.default_rng(6)
    attention = solvable_attentions()[0]
    (classifier,) = classifiers(attention, 1, seed=1)
    bounds = ThermodynamicLimit(attention, RULE).test_error(classifier)
    mean, stderr = sampled_error(attention, RULE, classifier, 400_000, rng, share=0.54)
    assert abs(mean - bounds.lower) > 4.5 * stderr


def test_tolerances():
    attention = solvable_attentions()[0]
    limit = ThermodynamicLimit(attention, RULE)
    (classifier,) = classifiers(attention, 1, seed=0)
    fine = limit.test_error(classifier, 1e-12)
    for tolerance in (1e-2, 1e-4, 1e-7):
        coarse = limit.test_error(classifier, tolerance)
        assert coarse.upper - coarse.lower <= tolerance
        assert coarse.lower <= fine.lower <= fine.upper <= coarse.upper
    relative = limit.test_error(classifier, 0.0, relative_tolerance=0.01)
    assert relative.upper - relative.lower <= 0.01 * relative.lower
    assert relative.lower <= fine.lower <= fine.upper <= relative.upper


def test_little_effort_gives_wide_but_true_bounds():
    """Contexts that fill an interval: undecided cells double at every step, so the effort ends first."""
    attention = Attention([[[1.0, 0.0], [0.5, 0.6]], [[0.7, 0.5], [0.0, 1.0]]], left=[1.0, 0.0], right=[1.0, 0.3])
    limit = ThermodynamicLimit(attention, RULE)
    classifier = np.array([[[1.0, -0.7], [-1.2, 1.0]], [[-0.3, 1.0], [1.0, -1.0]]])
    few, many = limit.test_error(classifier, max_cells=100), limit.test_error(classifier, max_cells=20_000)
    assert few.upper - few.lower > many.upper - many.lower > 1e-9
    assert few.lower <= many.lower <= many.upper <= few.upper
    mean, stderr = sampled_error(attention, RULE, classifier, 100_000, np.random.default_rng(1))
    assert many.lower - 4.5 * stderr < mean < many.upper + 4.5 * stderr


def test_errors_of_certified_classifiers_vanish():
    for attention in solvable_attentions():
        limit = ThermodynamicLimit(attention, RULE)
        good = good_classifier(attention)
        assert limit.test_error(good) == (0.0, 0.0)
        assert limit.test_error(-good) == (1.0, 1.0)
        assert limit.test_error(good, length=9) == (0.0, 0.0)


def test_without_a_cone_signs_are_fair_coins():
    limit = ThermodynamicLimit(NO_CONE, RULE)
    assert limit.invariant_cone == -1
    rng = np.random.default_rng(3)
    classifier = rng.normal(size=(2, 2, 2))
    assert limit.test_error(classifier) == (0.5, 0.5)
    mean, stderr = sampled_error(NO_CONE, RULE, classifier, 200_000, rng)
    assert abs(mean - 0.5) < 4.5 * stderr
    classifier[1] = 0  # no sign at all
    assert limit.test_error(classifier) == (0.75, 0.75)


def test_commuting_matrices_without_a_cone_are_left_open():
    """Two rotations about the same axis: contexts do not forget, and no theorem applies."""

    def rotation(angle):
        return [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]

    attention = Attention([rotation(0.7), rotation(-1.1)], left=[1.0, 0.0], right=[1.0, 0.0])
    assert ThermodynamicLimit(attention, RULE).test_error(np.ones((2, 2, 2))) == (0.0, 1.0)


def test_boundary_vectors_that_lead_to_both_signs():
    """The start lies outside the attractor's cone and its negative: a part of the inputs turns every context round."""
    base = solvable_attentions()[0]
    rng = np.random.default_rng(8)
    classifier = good_classifier(base)
    mixed, errors = 0, []
    for angle in np.linspace(0, np.pi, 9):
        attention = Attention(base.tensors, left=[np.cos(angle), np.sin(angle)], right=base.right)
        limit = ThermodynamicLimit(attention, RULE)
        bounds = limit.test_error(classifier)
        mean, stderr = sampled_error(attention, RULE, classifier, 50_000, rng)
        assert bounds.lower - 4.5 * stderr <= mean <= bounds.upper + 4.5 * stderr
        assert bounds.upper - bounds.lower < 1e-2
        mixed += limit.invariant_cone == -1
        errors.append(bounds.lower)
    assert mixed > 0
    assert np.ptp(errors) > 0.05  # the boundary decides, however long the input


@pytest.mark.parametrize("reach", [1, 2])
def test_finite_lengths(reach):
    """All inputs of a length, from the rule and the attention themselves."""
    rng = np.random.default_rng(reach)
    rule = RULE.iterate(reach)
    for bond in (2, 5):
        tensors = rng.normal(size=(2, bond, bond))
        attention = Attention(tensors, left=rng.normal(size=bond), right=rng.normal(size=bond))
        classifier = rng.normal(size=(2, bond, bond))
        limit = ThermodynamicLimit(attention, rule)
        for length in (1, 2, 5, 9):
            wrong = np.sign(attention.scores_of_all(length, classifier)) != rule(all_inputs(length))
            found = limit.test_error(classifier, length=length)
            assert found.lower == found.upper == pytest.approx(wrong.mean(), abs=1e-15)


def test_exactly_vanishing_scores_are_wrong_at_finite_length():
    attention = solvable_attentions()[0]
    assert ThermodynamicLimit(attention, RULE).test_error(np.zeros((2, 2, 2)), length=5).lower == 1.0


def test_reach_two_rule_against_sampling_of_long_strings():
    """A 2-local rule on a 1000-cell string: within 4.5 standard errors of block means (64 blocks of 50 000 cells)."""
    rule = RULE.iterate(2)
    attention = solvable_attentions()[1]
    classifier = np.random.default_rng(0).normal(size=(2, 2, 2))
    bounds = ThermodynamicLimit(attention, rule).test_error(classifier)
    x = np.random.default_rng(1).choice([-1, 1], size=(64, 2000))
    wrong = (np.sign(attention.scores(x, classifier)) != rule(x))[:, 30:-30].mean(axis=1)
    assert abs(wrong.mean() - bounds.lower) < 4.5 * wrong.std(ddof=1) / 8


def test_left_and_right_contexts_of_the_twin():
    """The naive enumeration used above, against the attention's own contexts."""
    attention = solvable_attentions()[3]
    left, right = both_contexts(attention, 4)
    inputs = all_inputs(5)
    ours = attention.contexts(inputs)
    np.testing.assert_allclose(ours[0][:, 4], left[4].repeat(2, axis=0), atol=1e-13)
    np.testing.assert_allclose(ours[1][:, 0], np.tile(right[4], (2, 1)), atol=1e-13)


def test_bad_input():
    limit = ThermodynamicLimit(solvable_attentions()[0], RULE)
    good = np.ones((2, 2, 2))
    with pytest.raises(ValueError, match="tolerance"):
        limit.test_error(good, -1.0)
    with pytest.raises(ValueError, match="relative_tolerance"):
        limit.test_error(good, relative_tolerance=np.nan)
    with pytest.raises(ValueError, match="length"):
        limit.test_error(good, length=25)
    with pytest.raises(ValueError, match="max_cells"):
        limit.test_error(good, max_cells=0)
    with pytest.raises(ValueError, match="single one"):
        limit.test_error(np.ones((3, 2, 2, 2)))
