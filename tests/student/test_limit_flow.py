"""Zero-test times and exponents along exact flows, and the symmetries of the whole."""

import numpy as np
import pytest
from naive_limit import RULE, both_contexts, contexts, good_classifier, solvable_attentions, trained

from grokphase.rules import CellularAutomaton
from grokphase.solvable.gradient_flow import GradientFlow
from grokphase.student import Attention, ThermodynamicLimit, all_inputs, paper_examples

# Penalties with which every published example learns rule 30 from all inputs of length 3.
L2 = (0.01, 0.0, 0.0)


def flow_of(number):
    attention = paper_examples[number]
    return attention, trained(attention, l2=L2[number])[0], ThermodynamicLimit(attention, RULE)


def features_of_length(attention, rule, length):
    """Features times output of every cell of every input of a length, from the naive contexts."""
    left, right = both_contexts(attention, length - 1)
    outputs = rule(all_inputs(length)).astype(float)
    rows = []
    for cell in range(length):
        target = outputs[:, cell].reshape(2**cell, 2, -1)
        outer = np.einsum("ai,bj->abij", left[cell], right[length - 1 - cell])
        block = np.zeros((2, *target.shape[::2], 2, *outer.shape[2:]))
        for letter in range(2):
            block[letter, :, :, letter] = outer * target[:, letter, :, None, None]
        rows.append(block.reshape(-1, attention.dimension))
    return np.concatenate(rows)


@pytest.mark.parametrize("number", range(3))
def test_zero_test_time_is_the_supremum_over_all_inputs(number):
    """Times over all inputs of length M grow towards it, as fast as words come close to the extreme rays."""
    attention, flow, limit = flow_of(number)
    initial = np.random.default_rng(number).normal(size=(12, 8))
    ours = limit.zero_test_time(flow, initial)
    assert np.isfinite(ours).all()
    gaps = []
    for length in (4, 7, 10):
        theirs = flow.cone_time(features_of_length(attention, RULE, length), initial)
        assert (theirs <= ours * (1 + 1e-9)).all()
        gaps.append(np.max(1 - theirs / ours))
    assert gaps[0] > gaps[1] > gaps[2]  # that it is reached in the end: the next test


@pytest.mark.parametrize("number", range(3))
def test_certificates_turn_at_the_zero_test_time(number):
    _, flow, limit = flow_of(number)
    for initial in np.random.default_rng(20 + number).normal(size=(6, 8)):
        time = float(limit.zero_test_time(flow, initial))
        before, after = flow.weights([time - 1e-6, time + 1e-6], initial).reshape(2, 2, 2, 2)
        assert limit.certify(before).generalises is False
        assert limit.certify(after).generalises
        assert limit.test_error(before, 1e-300, relative_tolerance=0.5).lower > 0
        assert limit.test_error(after) == (0.0, 0.0)
        assert limit.certify(flow.weights([2 * time], initial).reshape(2, 2, 2)).generalises  # for good


def test_never():
    attention = paper_examples[0]
    flow = trained(attention, l2=0.5)[0]
    limit = ThermodynamicLimit(attention, RULE)
    assert not limit.certify(flow.stationary().reshape(2, 2, 2)).generalises
    assert limit.zero_test_time(flow, np.ones(8)) == np.inf
    found = limit.exponent(flow, np.ones(8))
    assert found.time == np.inf
    assert found.corner is None
    assert np.isnan(found.exponent)


def test_zero_from_the_beginning():
    _, flow, limit = flow_of(2)
    assert limit.zero_test_time(flow, flow.stationary()) == 0
    assert limit.exponent(flow, flow.stationary()).index == -1


def test_boundary_vectors_enter_the_time_but_not_the_exponent():
    """A start off the attractor makes more inputs: every input is learnt later (or at the same time) than the bulk."""
    base, flow, limit = flow_of(0)
    other = Attention(base.tensors, left=base.left + np.array([0.0, 0.25]), right=base.right)
    wide = ThermodynamicLimit(other, RULE)
    initial = np.random.default_rng(0).normal(size=(20, 8))
    late, early = wide.zero_test_time(flow, initial), limit.zero_test_time(flow, initial)
    assert (late >= early * (1 - 1e-12)).all()
    assert (late > early * (1 + 1e-6)).any()
    np.testing.assert_allclose(wide.exponent(flow, initial).time, early, rtol=1e-9)
    for length in range(3, 9):
        theirs = flow.cone_time(features_of_length(other, RULE, length), initial)
        assert (theirs <= late * (1 + 1e-9)).all()


def test_batches_of_attentions():
    attentions = solvable_attentions()[1:]
    batch = Attention(np.array([a.tensors for a in attentions]))
    features = batch.features_of_all(3).reshape(len(attentions), 24, 8)
    flows = GradientFlow(features, RULE(all_inputs(3)).reshape(24), l2=1e-5)
    initial = np.random.default_rng(0).normal(size=(4, len(attentions), 8))
    together = ThermodynamicLimit(batch, RULE).zero_test_time(flows, initial)
    assert together.shape == (4, len(attentions))
    for k, attention in enumerate(attentions):
        one = ThermodynamicLimit(attention, RULE).zero_test_time(trained(attention, l2=1e-5)[0], initial[:, k])
        np.testing.assert_allclose(together[:, k], one, rtol=1e-9)


# --- exponents


def measured_exponent(limit, flow, initial, time, corner):
    """Slope of ln E against ln(t_ε − t) from 1e-8 up, free of the log-periodic parts of both sides.

    The window is a whole number of the shorter period, which removes that side's modulation; the mean over starts
    spread over the longer one removes the other's.
    """
    short, long = sorted([corner.left_log_period, corner.right_log_period])
    window = short * max(1, round(6.5 / short))
    slopes = []
    for shift in np.arange(8) / 8 * long:
        near = 1e-8 * np.exp([shift, shift + window])
        errors = []
        for distance in near:
            weights = flow.weights(time - distance, initial).reshape(2, 2, 2)
            bounds = limit.test_error(weights, 0.0, relative_tolerance=1e-3)
            errors.append((bounds.lower + bounds.upper) / 2)
        slopes.append(np.log(errors[1] / errors[0]) / window)
    return float(np.mean(slopes))


def steepest_runs(limit, flow, count):
    """For every corner that is last in some run: the run that crosses it fastest, other corners far away.

    At t_ε − t = 1e-8 scores are then far above their rounding error of 1e-14.
    """
    initial = np.random.default_rng(0).normal(size=(count, 8))
    found = limit.exponent(flow, initial)
    normals = np.array([corner.normal for corner in found.corners])
    runs = {}
    for index in np.unique(found.index[found.index >= 0]):
        rows = np.flatnonzero(found.index == index)[:60]
        best = 0.0
        for row in rows:
            time = float(found.time[row])
            now, before = flow.weights([time, time * (1 - 1e-6)], initial[row])
            norm = np.linalg.norm(now)
            slope = (now - before) @ normals[index] / (time * 1e-6 * norm)
            room = np.sort(normals @ now)[1] / norm
            if slope * room > best:
                best, runs[index] = slope * room, (initial[row], time)
    return found.corners, runs


@pytest.mark.parametrize("number", range(3))
def test_measured_exponents_of_all_reachable_corners(number):
    """The contract: within 1 percent of theory for each corner that is last in one of 20 000 random runs."""
    _, flow, limit = flow_of(number)
    corners, runs = steepest_runs(limit, flow, 20_000)
    assert len(runs) >= 8
    for index, (initial, time) in runs.items():
        corner = corners[index]
        measured = measured_exponent(limit, flow, initial, time, corner)
        assert measured == pytest.approx(corner.exponent, rel=0.01), corner


def test_a_wrong_period_measures_a_wrong_exponent():
    """Control: over 1.37 periods of one corner the log-periodic modulation alone is off by more than 1 percent."""
    _, flow, limit = flow_of(2)
    corners, runs = steepest_runs(limit, flow, 2000)
    index = next(i for i in runs if corners[i].left_log_period == pytest.approx(corners[i].right_log_period))
    initial, time = runs[index]
    errors = []
    for distance in (1e-7, 1e-7 * np.exp(1.37 * corners[index].log_period)):
        bounds = limit.test_error(flow.weights(time - distance, initial).reshape(2, 2, 2), 0.0, relative_tolerance=1e-3)
        errors.append(bounds.lower)
    slope = np.log(errors[1] / errors[0]) / (1.37 * corners[index].log_period)
    assert abs(slope / corners[index].exponent - 1) > 0.01


def test_dimensions_are_those_of_the_context_measure():
    """By enumeration of 14 letters: the contexts closest to an extreme ray are those behind its word.

    So p more letters take 2^p times fewer contexts, e^{log-period} times closer.
    """
    letters = 14
    codes = np.arange(2**letters)
    for attention in paper_examples:
        rows = contexts(attention.tensors, attention.left, letters)[letters]
        for corner in ThermodynamicLimit(attention, RULE).exponents():
            ray = corner_ray(attention, corner)
            distance = np.arctan2(np.abs(rows[:, 0] * ray[1] - rows[:, 1] * ray[0]), rows @ ray)
            edges = []
            for repeats in range(1, 9):
                word = np.array([*corner.left_word * repeats, *corner.left_near]) > 0
                number = int("".join(str(int(spin)) for spin in word), 2)
                behind = codes % 2**word.size == number
                edges.append(distance[behind].max())
                assert (distance <= edges[-1]).sum() == behind.sum() == 2 ** (letters - word.size)
                if edges[-1] < 1e-6:  # where rounding of the contexts is not yet seen
                    break
            # One step is d → m d/(1 + c d) with m = e^{−period} exactly: c is of the order of the
            # inverse width of the branch: 1.03 degrees for the narrowest.
            measured = np.log(edges[-2] / edges[-1])
            assert measured == pytest.approx(corner.left_log_period, abs=100 * edges[-2] + 1e-14 / edges[-1])
            expected = len(corner.left_word) * np.log(2) / corner.left_log_period
            assert corner.left_dimension == pytest.approx(expected, rel=1e-12)


def corner_ray(attention, corner):
    """The left context of a corner, from its words."""
    x = [*corner.left_word * 60, *corner.left_near, 1]
    return attention.contexts(x)[0][-1]


def test_corners_are_words():
    """The context behind the corner's words, repeated, is the corner's feature."""
    for attention in solvable_attentions():
        limit = ThermodynamicLimit(attention, RULE)
        for corner in limit.exponents():
            x = [*corner.left_word * 60, *corner.left_near, corner.neighbourhood[1]]
            cell = len(x) - 1
            x = [*x, *corner.right_near, *corner.right_word * 60]
            assert (x[cell - 1], x[cell], x[cell + 1]) == corner.neighbourhood
            assert RULE(x)[cell] == corner.target
            np.testing.assert_allclose(attention.features(x)[cell] * corner.target, corner.normal, atol=1e-8)


def test_singular_tensors_jump():
    """Two matrices of rank one: contexts are the nearest letter's row, as in exact attention. E jumps by 1/8."""
    rows = np.array([[1.0, 0.2], [0.3, 1.0]])
    columns = np.array([[1.0, 0.6], [0.5, 1.0]])
    attention = Attention(columns[:, :, None] * rows[:, None, :])
    rule = CellularAutomaton(30)
    flow, good = trained(attention, rule, l2=1e-4)
    limit = ThermodynamicLimit(attention, rule)
    assert limit.certify(good).generalises
    assert {corner.exponent for corner in limit.exponents()} == {0.0}
    assert {corner.weight for corner in limit.exponents()} == {0.125}
    initial = np.random.default_rng(1).normal(size=8)
    time = float(limit.zero_test_time(flow, initial))
    assert limit.exponent(flow, initial).exponent == 0
    assert limit.test_error(flow.weights(time - 1e-6, initial).reshape(2, 2, 2)) == (0.125, 0.125)
    assert limit.test_error(flow.weights(time + 1e-6, initial).reshape(2, 2, 2)) == (0.0, 0.0)


def test_one_singular_tensor():
    """Contexts behind a −1 are one: corners with a −1 in the words of both sides are atoms, E jumps there."""
    tensors = np.array([np.outer([1.0, 0.6], [1.0, 0.2]), [[0.5, 0.3], [0.1, 1.0]]])
    attention = Attention(tensors)
    limit = ThermodynamicLimit(attention, RULE)
    corners = limit.exponents()
    seen = set()
    for corner in corners:
        for word, near, dimension in (
            (corner.left_word, corner.left_near, corner.left_dimension),
            (corner.right_word, corner.right_near, corner.right_dimension),
        ):
            atom = -1 in word + near
            seen.add(atom)
            assert (dimension == 0) == atom
        assert (corner.weight > 0) == (corner.exponent == 0)
    assert seen == {True, False}
    # The atom's measure, by enumeration: the letters from the −1 on.
    rows = contexts(tensors, attention.left, 12)[12]
    jump = next(corner for corner in corners if corner.weight > 0)
    here = np.abs(rows - corner_ray(attention, jump)).max(axis=-1) < 1e-9
    assert here.mean() == 0.5 ** len(jump.left_near)


def test_all_contexts_the_same():
    """Rank one with a common row: the attention sees nothing, so the student can only know the cell itself."""
    attention = Attention([np.outer([1.0, 0.6], [1.0, 0.2]), np.outer([0.4, 1.0], [1.0, 0.2])], right=[1.0, 0.3])
    copy = ThermodynamicLimit(attention, CellularAutomaton(204))
    sign = np.array([-np.ones((2, 2)), np.ones((2, 2))])
    assert copy.test_error(sign) == (0.0, 0.0)
    assert copy.certify(sign).generalises
    assert ThermodynamicLimit(attention, RULE).test_error(sign) == (0.5, 0.5)


# --- symmetries


@pytest.mark.parametrize("number", range(5))
def test_mirrored_rule_and_attention(number):
    attention = solvable_attentions()[number]
    limit, mirrored = ThermodynamicLimit(attention, RULE), ThermodynamicLimit(attention.reflect(), RULE.reflect())
    rng = np.random.default_rng(number)
    good = good_classifier(attention)
    for scale in (0.0, 1.0, 10.0):
        classifier = good + scale * rng.normal(size=(2, 2, 2))
        flipped = np.swapaxes(classifier, -1, -2)
        one, other = limit.certify(classifier), mirrored.certify(flipped)
        assert one.generalises == other.generalises
        if one.generalises:
            assert other.margin == pytest.approx(one.margin, rel=1e-9)
        np.testing.assert_allclose(mirrored.test_error(flipped), limit.test_error(classifier), atol=2e-9)
    ours = {(c.left_near, c.left_word, c.neighbourhood, c.right_near, c.right_word, c.target): c.exponent
            for c in limit.exponents()}  # fmt: skip
    theirs = {(c.right_near[::-1], c.right_word[::-1], c.neighbourhood[::-1], c.left_near[::-1], c.left_word[::-1],
               c.target): c.exponent for c in mirrored.exponents()}  # fmt: skip
    assert {key: pytest.approx(value) for key, value in ours.items()} == theirs


@pytest.mark.parametrize("number", range(5))
def test_spin_flipped_rule_and_attention(number):
    """In the bulk; at an end the cells outside are −1, which has no mirror image."""
    attention = solvable_attentions()[number]
    limit = ThermodynamicLimit(attention, RULE)
    flipped = ThermodynamicLimit(attention.complement(), RULE.complement())
    rng = np.random.default_rng(number)
    for scale in (0.1, 1.0, 10.0):
        classifier = good_classifier(attention) + scale * rng.normal(size=(2, 2, 2))
        ours, theirs = limit.test_error(classifier), flipped.test_error(-classifier[::-1])
        np.testing.assert_allclose(theirs, ours, atol=2e-9)
    flow, _ = trained(attention, l2=1e-5)
    initial = rng.normal(size=(5, 8))
    mirrored = GradientFlow(flow.inputs.reshape(24, 2, 4)[:, ::-1].reshape(24, 8), -flow.labels, l2=1e-5)
    start = -initial.reshape(5, 2, 4)[:, ::-1].reshape(5, 8)
    one, other = limit.exponent(flow, initial), flipped.exponent(mirrored, start)
    np.testing.assert_allclose(other.time, one.time, rtol=1e-9)
    np.testing.assert_allclose(other.exponent, one.exponent, rtol=1e-9)


def test_gauge():
    """A → XAX⁻¹ with an X of positive determinant changes no verdict, error, time or exponent."""
    attention, _, limit = flow_of(1)
    basis = np.array([[1.2, 0.4], [-0.3, 0.9]])
    other = ThermodynamicLimit(attention.change_basis(basis), RULE)
    rng = np.random.default_rng(0)
    for _ in range(5):
        classifier = rng.normal(size=(2, 2, 2))
        moved = basis @ classifier @ np.linalg.inv(basis)
        np.testing.assert_allclose(other.test_error(moved), limit.test_error(classifier), atol=2e-9)
    ours, theirs = limit.exponents(), other.exponents()
    assert sorted(c.exponent for c in theirs) == pytest.approx(sorted(c.exponent for c in ours), rel=1e-9)


def test_bad_input():
    attention, flow, limit = flow_of(0)
    with pytest.raises(ValueError, match="initial must have shape"):
        limit.zero_test_time(flow, np.zeros(7))
    with pytest.raises(ValueError, match="initial"):
        limit.exponent(flow, np.full(8, np.nan))
    with pytest.raises(ValueError, match="single run"):
        _ = limit.exponent(flow, np.ones((3, 8))).corner
    turning = Attention([[[0.3, 1.0], [-0.8, 0.5]], [[1.0, 0.2], [0.7, -0.9]]], left=[1.0, 0.3], right=[0.4, 1.0])
    without = ThermodynamicLimit(turning, RULE)
    assert without.zero_test_time(flow, np.ones(8)) == np.inf
    with pytest.raises(ValueError, match="invariant cone"):
        without.exponents()
    with pytest.raises(ValueError, match="invariant cone"):
        without.exponent(flow, np.ones(8))
    batch = ThermodynamicLimit(Attention(np.array([attention.tensors] * 2)), RULE)
    with pytest.raises(ValueError, match="exponents needs a single attention"):
        batch.exponents()
