"""Certificates against enumeration: never True with a counterexample, never False without one."""

import numpy as np
import pytest
from naive_limit import RULE, good_classifier, lowest_scores, score_of, solvable_attentions, trained

from grokphase.rules import CellularAutomaton
from grokphase.student import Attention, ThermodynamicLimit

ROUNDING = 1e-12  # of scores of unit features and classifiers, times the conditions at hand


def near_the_boundary(limit, good, count, seed):
    """Classifiers on segments from a good one to random ones, bisected to the change of verdict and moved off it.

    Distances are spread evenly in the logarithm, from 1e-14 to 0.1, on both sides.
    """
    rng = np.random.default_rng(seed)
    bad = rng.normal(size=(count, *good.shape))
    bad *= np.linalg.norm(good) / np.linalg.norm(bad.reshape(count, -1), axis=-1)[:, None, None, None]

    def between(share):
        return good + share[:, None, None, None] * (bad - good)

    low, high = np.zeros(count), np.ones(count)
    for _ in range(48):
        middle = (low + high) / 2
        right = limit.certify_many(between(middle)).generalises
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    offset = 10.0 ** rng.uniform(-14, -1, size=count) * rng.choice([-1, 1], size=count)
    return between(np.clip(low + offset, 0, 1))


def is_counterexample(attention, rule, classifier, found):
    spins, cell = found
    score = score_of(attention, spins, cell, classifier)
    return len(spins) >= 2 * rule.reach + 1 and score * rule(spins)[cell] <= 1e-15


def check_against_enumeration(limits_and_goods, count, length):
    """The contract, for ``count`` classifiers of each attention; returns how many verdicts of each kind there were."""
    totals = {True: 0, False: 0, None: 0}
    for number, (limit, good) in enumerate(limits_and_goods):
        classifiers = near_the_boundary(limit, good, count, seed=number)
        found = limit.certify_many(classifiers)
        lowest = lowest_scores(limit.attention, limit.rule, classifiers, length)
        norm = np.linalg.norm(classifiers.reshape(count, -1), axis=-1)
        assert (lowest[found.generalises] > 0).all()
        # The margin of a True is a lower bound for every input.
        assert (found.margin <= lowest / norm + ROUNDING)[found.generalises].all()
        for index in np.flatnonzero(found.fails):
            certificate = found[index]
            assert certificate.generalises is False
            assert is_counterexample(limit.attention, limit.rule, classifiers[index], certificate.counterexample)
        # Undecided is only what is within rounding of the boundary.
        assert (np.abs(found.margin) < 1e-11)[found.undecided].all()
        totals[True] += int(found.generalises.sum())
        totals[False] += int(found.fails.sum())
        totals[None] += int(found.undecided.sum())
    return totals


def limits_and_goods():
    return [(ThermodynamicLimit(a, RULE), good_classifier(a)) for a in solvable_attentions()]


def test_near_the_boundary():
    totals = check_against_enumeration(limits_and_goods(), count=60, length=9)
    assert totals[True] > 150
    assert totals[False] > 150
    assert totals[None] < 0.1 * sum(totals.values())


@pytest.mark.slow
def test_ten_thousand_near_the_boundary():
    totals = check_against_enumeration(limits_and_goods(), count=1112, length=14)
    assert sum(totals.values()) > 10_000
    assert totals[None] < 0.1 * sum(totals.values())


def test_with_boundary_vectors_off_the_attractor():
    """Transients count: the verdict must hold for the short inputs as well, whose contexts are not in the cones."""
    rng = np.random.default_rng(0)
    pairs = []
    for attention in solvable_attentions():
        left, right = attention.left + 0.3 * rng.normal(size=2), attention.right + 0.3 * rng.normal(size=2)
        other = Attention(attention.tensors, left=left, right=right)
        good = trained(other, length=4, l2=1e-5)[1]
        limit = ThermodynamicLimit(other, RULE)
        if limit.certify(good).generalises:
            pairs.append((limit, good))
    assert len(pairs) >= 3
    for number, (limit, good) in enumerate(pairs):
        classifiers = near_the_boundary(limit, good, 100, seed=number)
        found = limit.certify_many(classifiers)
        lowest = np.minimum.reduce([lowest_scores(limit.attention, RULE, classifiers, n) for n in range(3, 10)])
        assert found.generalises.sum() > 20
        assert (lowest[found.generalises] > 0).all()
        for index in np.flatnonzero(found.fails):
            assert is_counterexample(limit.attention, RULE, classifiers[index], found[index].counterexample)
        assert (np.abs(found.margin) < 1e-11)[found.undecided].all()


def test_transients_can_decide():
    """A classifier right in the bulk and wrong at an end: certify says so, the bulk error is zero."""
    attention = solvable_attentions()[0]
    good = good_classifier(attention)
    other = Attention(attention.tensors, left=[0.0, -1.0], right=attention.right)
    limit = ThermodynamicLimit(other, RULE)
    certificate = limit.certify(good)
    assert certificate.generalises is False
    assert is_counterexample(other, RULE, good, certificate.counterexample)


@pytest.mark.parametrize("own_start", [True, False])
def test_attention_without_a_cone_never_generalises(own_start):
    rng = np.random.default_rng(11)
    refuted = 0
    for _ in range(60):
        tensors = rng.normal(size=(2, 2, 2))
        start = {} if own_start else {"left": rng.normal(size=2), "right": rng.normal(size=2)}
        if own_start and np.iscomplex(np.linalg.eigvals(tensors[0])).any():
            continue
        attention = Attention(tensors, **start)
        limit = ThermodynamicLimit(attention, RULE)
        if limit.invariant_cone != -1:
            continue
        for classifier in (trained(attention, l2=1e-3)[1], rng.normal(size=(2, 2, 2))):
            certificate = limit.certify(classifier)
            assert certificate.generalises is False
            assert is_counterexample(attention, RULE, classifier, certificate.counterexample)
            refuted += 1
    assert refuted > 40


def test_counterexamples_are_shortest():
    """Against all inputs of every smaller length."""
    rng = np.random.default_rng(3)
    longer = 0
    for attention in solvable_attentions()[:4]:
        limit = ThermodynamicLimit(attention, RULE)
        for classifier in good_classifier(attention) + rng.normal(size=(12, 2, 2, 2)):
            certificate = limit.certify(classifier)
            if certificate.generalises:
                continue
            length = len(certificate.counterexample[0])
            for shorter in range(3, length):
                assert lowest_scores(attention, RULE, classifier[None], shorter)[0] > 0
            longer += length > 3
    assert longer > 0


def test_deep_counterexamples_are_found():
    """A corner wrong by 1e-9 needs a long word: enumeration to length 9 sees nothing, the certificate does."""
    attention = solvable_attentions()[0]
    limit = ThermodynamicLimit(attention, RULE)
    good = good_classifier(attention)
    # A corner whose ray is approached slowly: (λ₂/λ₁) = 0.66 for the word −1 on both sides.
    corner = max(limit.exponents(), key=lambda c: c.exponent)
    shift = good.ravel() @ corner.normal
    classifier = (good.ravel() - (shift + 1e-9) * corner.normal).reshape(2, 2, 2)
    found = limit.certify(classifier)
    assert found.generalises in (False, None)  # other corners may be wrong as well
    assert found.generalises is False
    assert is_counterexample(attention, RULE, classifier, found.counterexample)


def test_margin_is_the_distance_to_the_hyperplane():
    """Moving the classifier against the worst feature by less than the margin keeps it right, by more does not."""
    attention = solvable_attentions()[0]
    limit = ThermodynamicLimit(attention, RULE)
    good = good_classifier(attention).ravel()
    margin = limit.certify(good.reshape(2, 2, 2)).margin * np.linalg.norm(good)
    worst = min(limit.exponents(), key=lambda corner: corner.normal @ good).normal
    assert worst @ good == pytest.approx(margin, rel=1e-9)
    assert limit.certify((good - 0.999 * margin * worst).reshape(2, 2, 2)).generalises
    assert limit.certify((good - 1.001 * margin * worst).reshape(2, 2, 2)).generalises is False


@pytest.mark.parametrize("reach", [2, 3])
def test_rules_of_larger_reach(reach):
    """A rule that looks at the nearest cells only, written with a larger reach, must get the same verdicts."""
    wide = CellularAutomaton(np.repeat(np.tile(RULE.table, 2 ** (reach - 1)), 2 ** (reach - 1)))
    assert wide.reach == reach
    attention = solvable_attentions()[2]
    narrow, limit = ThermodynamicLimit(attention, RULE), ThermodynamicLimit(attention, wide)
    good = good_classifier(attention)
    classifiers = near_the_boundary(narrow, good, 40, seed=reach)
    ours, theirs = limit.certify_many(classifiers), narrow.certify_many(classifiers)
    np.testing.assert_array_equal(ours.generalises, theirs.generalises)
    assert 5 < ours.generalises.sum() < 35
    # Bounds, less their own rounding errors, which are larger for longer branches.
    np.testing.assert_allclose(ours.margin[ours.generalises], theirs.margin[theirs.generalises], atol=1e-12)


def test_one_by_one_and_batched_agree():
    """A batch of attentions with several classifiers each, against single limits."""
    rng = np.random.default_rng(2)
    attentions = solvable_attentions()
    batch = Attention(np.array([a.tensors for a in attentions]))
    goods = np.array([good_classifier(a) for a in attentions])
    classifiers = goods + 0.1 * rng.normal(size=(5, *goods.shape))
    limit = ThermodynamicLimit(batch, RULE)
    found = limit.certify_many(classifiers)
    assert found.generalises.shape == (5, len(attentions))
    for k, attention in enumerate(attentions):
        one = ThermodynamicLimit(attention, RULE)
        for n in range(5):
            certificate = one.certify(classifiers[n, k])
            assert certificate.generalises == bool(found.generalises[n, k])
            assert found[n, k].generalises == certificate.generalises
            if certificate.generalises:
                assert found.margin[n, k] == pytest.approx(certificate.margin, rel=1e-12)


def test_zero_scores_are_wrong():
    limit = ThermodynamicLimit(solvable_attentions()[0], RULE)
    certificate = limit.certify(np.zeros((2, 2, 2)))
    assert certificate.generalises is False
    assert certificate.margin == 0
    assert bool(limit.certify_many(np.zeros((1, 2, 2, 2))).fails[0])


def test_undecided_says_why():
    """A corner score of exactly zero, reached only in the limit, is neither right nor wrong in floating point."""
    attention = solvable_attentions()[0]
    limit = ThermodynamicLimit(attention, RULE)
    good = good_classifier(attention).ravel()
    worst = min(limit.exponents(), key=lambda corner: corner.normal @ good).normal
    certificate = limit.certify((good - (worst @ good) * worst).reshape(2, 2, 2))
    assert certificate.generalises is None
    assert "rounding error" in certificate.message


def test_bad_input():
    attention = solvable_attentions()[0]
    limit = ThermodynamicLimit(attention, RULE)
    with pytest.raises(ValueError, match="classifier must have shape"):
        limit.certify(np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="classifier must be finite"):
        limit.certify(np.full((2, 2, 2), np.nan))
    with pytest.raises(ValueError, match="single one"):
        limit.certify(np.zeros((4, 2, 2, 2)))
    with pytest.raises(ValueError, match="max_cells"):
        limit.certify(np.ones((2, 2, 2)), max_cells=0)
    with pytest.raises(ValueError, match="open boundary"):
        ThermodynamicLimit(Attention(attention.tensors, boundary="closed"), RULE)
    batch = ThermodynamicLimit(Attention(np.array([attention.tensors] * 3)), RULE)
    with pytest.raises(ValueError, match="certify needs a single attention"):
        batch.certify(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="broadcast"):
        batch.certify_many(np.ones((4, 2, 2, 2)))
    with pytest.raises(ValueError, match="bond 3"):
        ThermodynamicLimit(Attention(np.ones((4, 2, 3, 3)) + np.eye(3)), RULE)
