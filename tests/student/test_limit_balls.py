"""Attention of any bond: ball covers and branch and bound, against enumeration, sampling and the exact bond-2 half."""

from functools import cache

import numpy as np
import pytest
from naive_limit import RULE, both_contexts, good_classifier, lowest_scores, score_of, solvable_attentions, trained

from grokphase.solvable.gradient_flow import GradientFlow
from grokphase.student import Attention, ThermodynamicLimit, all_inputs, paper_examples
from grokphase.student.limit_balls import BallLimit

EFFORT = 2**16


@cache
def attention_of(bond, seed=0, boundary="own"):
    """Exact attention of bond 4 with Gaussian noise and room for more: solves rule 30, contexts see all letters."""
    rng = np.random.default_rng(seed)
    tensors = 0.03 * rng.normal(size=(2, bond, bond))
    tensors[:, :4, :4] += Attention.exact(1).tensors
    tensors[:, range(4, bond), range(4, bond)] += 0.4
    if boundary == "own":
        return Attention(tensors)
    return Attention(tensors, left=1 + 0.5 * rng.normal(size=bond), right=1 + 0.5 * rng.normal(size=bond))


@pytest.mark.parametrize(("bond", "depth"), [(2, 4), (4, 3), (6, 5)])
def test_balls_hold_all_contexts_of_longer_inputs(bond, depth):
    attention = paper_examples[1] if bond == 2 else attention_of(bond)
    rows = both_contexts(attention, 12)
    for side, levels, near_first in zip(
        ThermodynamicLimit(attention, RULE).attractor(depth), rows, (False, True), strict=True
    ):
        assert side.invariant_cone
        assert side.centres.shape == (2**depth, bond)
        occupied = np.zeros(2**depth)
        for length in range(depth, 13):
            codes = np.arange(2**length)
            ball = codes >> (length - depth) if near_first else codes & (2**depth - 1)
            cosine = np.einsum("nd,nd->n", levels[length], side.centres[ball])
            chord = np.linalg.norm(levels[length] - side.centres[ball], axis=-1)
            angle = 2 * np.arcsin(np.minimum(chord / 2, 1))
            assert (cosine > 0).all()
            assert (angle <= side.radii[ball] + 1e-14).all()
            np.maximum.at(occupied, ball, angle)
        # They are not much too large either: centres are contexts, so a ball needs up to twice the radius of its
        # contexts, and the bounds lose another factor.
        assert np.median(side.radii / occupied) < 10


def test_deeper_balls_are_smaller():
    limit = ThermodynamicLimit(attention_of(6), RULE)
    radii = [max(side.radii.max() for side in limit.attractor(depth)) for depth in (2, 4, 6, 8)]
    assert radii[0] > 3 * radii[1] > 9 * radii[2] > 27 * radii[3]


def test_without_balls_there_is_nothing():
    turning = Attention([[[0.3, 1.0], [-0.8, 0.5]], [[1.0, 0.2], [0.7, -0.9]]], left=[1.0, 0.3], right=[0.4, 1.0])
    for depth in (None, 4):
        sets = ThermodynamicLimit(turning, RULE).attractor(depth)
        assert sets.invariant_cone is False
        assert sets.left.rays is None
        assert sets.left.centres is None


def test_covers_exist_where_cones_do():
    """For Gaussian bond-2 tensors the two halves agree; none of the balls is found where there is no cone."""
    rng = np.random.default_rng(1)
    found = 0
    for tensors in rng.normal(size=(60, 2, 2, 2)):
        if np.iscomplex(np.linalg.eigvals(tensors[0])).any():
            continue
        attention = Attention(tensors)
        exact = int(ThermodynamicLimit(attention, RULE).invariant_cone)
        balls = BallLimit(attention, RULE).status
        assert balls * exact >= 0
        found += balls == exact
        assert balls == exact or exact == 1  # a cone may be missed, an absent one not be found
    assert found > 25


def near_boundary(limit, good, count, seed):
    """Bisected to the change of verdict of the certificate, then moved off it by 1e-6 to 0.1."""
    rng = np.random.default_rng(seed)
    classifiers = []
    for _ in range(count):
        bad = rng.normal(size=good.shape)
        bad *= np.linalg.norm(good) / np.linalg.norm(bad)
        low, high = 0.0, 1.0
        for _ in range(14):
            middle = (low + high) / 2
            right = limit.certify(good + middle * (bad - good), max_cells=EFFORT).generalises
            low, high = (middle, high) if right else (low, middle)
        share = low + 10 ** rng.uniform(-5, -1) * rng.choice([-1, 1])
        classifiers.append(good + np.clip(share, 0, 1) * (bad - good))
    return np.array(classifiers)


@pytest.mark.parametrize(("bond", "boundary"), [(4, "own"), (6, "own"), (5, "given")])
def test_certificates_against_enumeration(bond, boundary):
    attention = attention_of(bond, boundary=boundary)
    limit = ThermodynamicLimit(attention, RULE)
    good = trained(attention, length=4, l2=1e-4)[1]
    certificate = limit.certify(good)
    assert certificate.generalises
    # Bounds are worked out to a tenth of the smallest score among finite inputs.
    assert 0.85 * lowest_scores(attention, RULE, good[None], 10)[0] < certificate.margin * np.linalg.norm(good)
    classifiers = near_boundary(limit, good, 14, seed=bond)
    lowest = np.minimum.reduce([lowest_scores(attention, RULE, classifiers, length) for length in (3, 4, 5, 6, 10)])
    verdicts = {True: 0, False: 0, None: 0}
    for classifier, low in zip(classifiers, lowest, strict=True):
        certificate = limit.certify(classifier)
        verdicts[certificate.generalises] += 1
        if certificate.generalises:
            margin = low / np.linalg.norm(classifier)
            assert 0 < certificate.margin <= margin * (1 + 1e-12)
        elif certificate.generalises is False:
            spins, cell = certificate.counterexample
            assert score_of(attention, spins, cell, classifier) * RULE(spins)[cell] <= 0
        else:
            assert "raise max_cells" in certificate.message
    assert verdicts[True] >= 3
    assert verdicts[False] >= 3
    assert verdicts[None] <= 1


def test_certificates_of_both_halves_agree():
    rng = np.random.default_rng(5)
    for attention in solvable_attentions()[:5]:
        exact, balls = ThermodynamicLimit(attention, RULE), BallLimit(attention, RULE)
        good = good_classifier(attention)
        for classifier in [good, *(good + np.linalg.norm(good) * 0.03 * rng.normal(size=(6, 2, 2, 2)))]:
            one, other = exact.certify(classifier), balls.certify(classifier, EFFORT)
            assert other.generalises == one.generalises
            if one.generalises:
                assert 0.85 * one.margin < other.margin <= one.margin * (1 + 1e-9)


def test_too_little_effort_says_so():
    """The coarsest balls of the first published example are too wide for its margin of 0.016."""
    attention = paper_examples[0]
    certificate = BallLimit(attention, RULE).certify(good_classifier(attention), 1)
    assert certificate.generalises is None
    assert certificate.margin < 0
    assert "letters" in certificate.message
    assert "raise max_cells above 1" in certificate.message


@pytest.mark.parametrize("bond", [3, 5])
def test_without_a_cone(bond):
    """Gaussian tensors of zero mean hardly ever have one: every classifier is refuted and the error is a half."""
    rng = np.random.default_rng(bond)
    refuted = 0
    for _ in range(8):
        attention = Attention(rng.normal(size=(2, bond, bond)), left=rng.normal(size=bond), right=rng.normal(size=bond))
        limit = ThermodynamicLimit(attention, RULE)
        if limit.invariant_cone != -1:
            continue
        classifier = trained(attention, length=5, l2=1e-4)[1]
        certificate = limit.certify(classifier)
        assert certificate.generalises is False
        spins, cell = certificate.counterexample
        assert score_of(attention, spins, cell, classifier) * RULE(spins)[cell] <= 0
        assert limit.zero_test_time(trained(attention)[0], np.ones(attention.dimension)) == np.inf
        assert limit.test_error(classifier) == (0.5, 0.5)
        refuted += 1
    assert refuted >= 4


def test_without_a_cone_half_of_the_cells_are_wrong():
    """Every +1 turns the contexts round: the sign is that of the number of +1. 400 strings, false alarms 7e-6."""
    base = attention_of(4)
    attention = Attention(base.tensors * np.array([1, -1])[:, None, None], left=base.left, right=base.right)
    limit = ThermodynamicLimit(attention, RULE)
    rng = np.random.default_rng(0)
    classifier = trained(base, length=4, l2=1e-4)[1]
    assert limit.test_error(classifier) == (0.5, 0.5)
    x = rng.choice([-1, 1], size=(400, 200))
    wrong = (np.sign(attention.scores(x, classifier)) != RULE(x))[:, 50:150].mean(axis=1)
    assert abs(wrong.mean() - 0.5) < 4.5 * wrong.std(ddof=1) / 20


@pytest.mark.parametrize("bond", [4, 6])
def test_bulk_error_against_sampling(bond):
    """Within 4.5 standard errors of 200 long strings: false alarms 4e-5 in all."""
    attention = attention_of(bond)
    limit = ThermodynamicLimit(attention, RULE)
    rng = np.random.default_rng(bond)
    x = rng.choice([-1, 1], size=(200, 500))
    good = trained(attention, length=4, l2=1e-4)[1]
    bad = rng.normal(size=good.shape) * np.linalg.norm(good) / np.sqrt(good.size)
    for share in (0.3, 0.6, 1.0):
        classifier = good + share * (bad - good)
        bounds = limit.test_error(classifier, 1e-4)
        assert bounds.upper - bounds.lower <= 1e-4
        wrong = (np.sign(attention.scores(x, classifier)) != RULE(x))[:, 20:-20].mean(axis=1)
        stderr = wrong.std(ddof=1) / np.sqrt(200)
        assert bounds.lower - 4.5 * stderr <= wrong.mean() <= bounds.upper + 4.5 * stderr
    assert limit.test_error(good) == (0.0, 0.0)
    assert limit.test_error(0 * good) == (1.0, 1.0)


def test_bulk_errors_of_both_halves_agree():
    rng = np.random.default_rng(3)
    for attention in solvable_attentions()[:5]:
        exact, balls = ThermodynamicLimit(attention, RULE), BallLimit(attention, RULE)
        for classifier in rng.normal(size=(3, 2, 2, 2)):
            one, other = exact.test_error(classifier), balls.bulk_error(classifier, (1e-4, 0.0), EFFORT)
            assert other[1] - other[0] <= 1e-4
            assert other[0] <= one.upper
            assert one.lower <= other[1]


def test_boundary_vectors_that_lead_to_both_signs():
    """Balls cannot tell how often; their bounds must hold the error all the same."""
    base = paper_examples[0]
    attention = Attention(base.tensors, left=[0.0, 1.0], right=base.right)
    exact, balls = ThermodynamicLimit(attention, RULE), BallLimit(attention, RULE)
    classifier = good_classifier(base)
    if exact.invariant_cone == 1:
        attention = Attention(base.tensors, left=[-0.7, 1.0], right=base.right)
        exact, balls = ThermodynamicLimit(attention, RULE), BallLimit(attention, RULE)
    assert exact.invariant_cone == -1
    lower, upper = balls.bulk_error(classifier, (1e-4, 0.0), EFFORT)
    bounds = exact.test_error(classifier)
    assert lower <= bounds.lower <= bounds.upper <= upper


@pytest.mark.parametrize("number", range(3))
def test_times_and_exponents_of_both_halves_agree(number):
    attention = paper_examples[number]
    flow = trained(attention, l2=(0.01, 0.0, 0.0)[number])[0]
    exact, balls = ThermodynamicLimit(attention, RULE), BallLimit(attention, RULE)
    initial = np.random.default_rng(number).normal(size=(4, 8))
    # The search stops when a certificate holds at times 1 + 1e-9.
    np.testing.assert_allclose(balls.zero_test_time(flow, initial), exact.zero_test_time(flow, initial), rtol=2e-9)
    ours, theirs = balls.exponent(flow, initial), exact.exponent(flow, initial)
    np.testing.assert_allclose(ours.exponent, theirs.exponent, rtol=1e-9)
    for run in range(4):
        one, other = ours.corners[ours.index[run]], theirs.corners[theirs.index[run]]
        assert one.neighbourhood == other.neighbourhood
        assert (one.left_word, one.right_word) == (other.left_word, other.right_word)


def test_time_and_exponent_above_bond_two():
    """Certificates turn there; the measured slope over whole log-periods is the exponent of the words found.

    The third published example with a third direction: its eigenvalues are 20 times smaller than the others, so that
    the power law is pure where it is measured.
    """
    rng = np.random.default_rng(4)
    tensors = 0.003 * rng.normal(size=(2, 3, 3))
    tensors[:, :2, :2] += paper_examples[2].tensors
    attention = Attention(tensors)
    flow = trained(attention, length=4, l2=1e-5)[0]
    limit = ThermodynamicLimit(attention, RULE)
    for initial in rng.normal(size=(3, 18)):
        found = limit.exponent(flow, initial)
        time, corner = float(found.time), found.corner
        assert limit.zero_test_time(flow, initial) == pytest.approx(time, rel=1e-8)
        before, after = flow.weights([time * (1 - 1e-6), time * (1 + 1e-6)], initial).reshape(2, 2, 3, 3)
        assert limit.certify(before).generalises is False
        assert limit.certify(after).generalises
        short, long = sorted([corner.left_log_period, corner.right_log_period])
        slopes = []
        for shift in np.arange(6) / 6 * long:
            errors = []
            for distance in 1e-7 * np.exp([shift, shift + short]):
                weights = flow.weights(time - distance, initial).reshape(2, 3, 3)
                errors.append(np.mean(limit.test_error(weights, 0.0, relative_tolerance=0.003)))
            slopes.append(np.log(errors[1] / errors[0]) / short)
        assert np.mean(slopes) == pytest.approx(corner.exponent, rel=0.02)


@pytest.mark.parametrize("reach", [1, 2])
def test_exact_attention_jumps(reach):
    """One context a branch: 2^{2K+1} corners, all atoms, and E falls by 2^{-2K-1} at each."""
    attention, rule = Attention.exact(reach), RULE.iterate(reach)
    limit = ThermodynamicLimit(attention, rule)
    length = 2 * reach + 1
    features = attention.features_of_all(length).reshape(-1, attention.dimension)
    flow = GradientFlow(features, rule(all_inputs(length)).reshape(-1), l2=0.01)
    assert limit.certify(flow.stationary().reshape(attention.tensors.shape)).generalises
    corners = limit.exponents()
    assert len(corners) == 2**length
    assert {corner.weight for corner in corners} == {0.5**length}
    table = {corner.neighbourhood: corner.target for corner in corners}
    for spins, output in zip(all_inputs(length), rule.table, strict=True):
        assert table[tuple(spins)] == output
    initial = np.random.default_rng(0).normal(size=(5, attention.dimension))
    times = limit.zero_test_time(flow, initial)
    found = limit.exponent(flow, initial)
    np.testing.assert_allclose(found.time, times, rtol=1e-9)
    assert (found.exponent == 0).all()
    # The training set holds every neighbourhood: both errors vanish together.
    np.testing.assert_allclose(times, flow.zero_train_time(initial), rtol=1e-9)
    for start, time in zip(initial[:2], times, strict=False):
        before = flow.weights(time - 1e-6, start).reshape(attention.tensors.shape)
        assert limit.test_error(before) == (0.5**length, 0.5**length)


def test_bad_input():
    limit = ThermodynamicLimit(attention_of(4), RULE)
    with pytest.raises(ValueError, match="use exponent"):
        limit.exponents()
    with pytest.raises(ValueError, match="depth"):
        limit.attractor(0)
    with pytest.raises(ValueError, match="initial must have shape"):
        limit.zero_test_time(trained(paper_examples[0])[0], np.ones(8))
