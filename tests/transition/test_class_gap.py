"""Class gap against hand-computed cases, enumeration of all supporting sets, a linear program and a support
vector machine; every result is checked by the optimality conditions themselves."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.svm import SVC

import grokphase as gp

seeds = st.integers(0, 2**32 - 1)
ROUNDING = 1e-12  # of the largest feature: 1e-16 times a condition number that stays below 1e4 here


def margin(features, labels, normal, offset):
    return (labels * (features @ normal - offset)).min()


def every_supporting_set(features, labels, through_origin):
    """Gap by trying all sets of supporting samples: the plane equally far from all of them that separates best.

    By the Kuhn-Tucker conditions w is a combination of at most D (+1) supporting samples y_i x_i, all at the margin.
    """
    best = 0.0
    dims = features.shape[1]
    for size in range(1, dims + 2):
        for chosen in combinations(range(len(labels)), size):
            x, y = features[list(chosen)], labels[list(chosen)]
            if through_origin:
                w, offset = np.linalg.lstsq(x, y.astype(float), rcond=None)[0], 0.0
            else:  # least |w| with x·w − b = y: b is free, so it is eliminated by centring
                centre, height = x.mean(axis=0), y.mean()
                w = np.linalg.lstsq(x - centre, y - height, rcond=None)[0]
                offset = centre @ w - height
            norm = np.linalg.norm(w)
            if norm > 1e-9:
                best = max(best, margin(features, labels, w / norm, offset / norm))
    return best


def separated(rng, samples, dims, distance):
    labels = np.concatenate([[1, -1], rng.choice([-1, 1], samples - 2)])
    features = rng.normal(size=(samples, dims))
    features[:, 0] += labels * distance
    return features, labels


def planes_exist(features, labels, through_origin):
    free = np.zeros(len(labels)) if through_origin else np.ones(len(labels))
    rows = -labels[:, None] * np.column_stack([features, -free])
    program = linprog(np.zeros(rows.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None))
    return program.status == 0


@pytest.mark.parametrize(
    ("features", "labels", "gap"),
    [
        ([[0.0], [3.0]], [-1, 1], 1.5),
        ([[0.0], [3.0], [10.0], [-4.0]], [-1, 1, 1, -1], 1.5),
        ([[0.0, 1.0], [5.0, 1.0], [2.0, -1.0]], [1, 1, -1], 1.0),  # a point below a segment
        ([[0.0, 0.0], [1.0, 1.0]], [1, -1], 0.5**0.5),
        ([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0, 0]], [1, 1, 1, -1], 3**-0.5 / 2),  # simplex and origin
    ],
)
def test_by_hand(features, labels, gap):
    result = gp.class_gap(features, labels)
    np.testing.assert_allclose(result.gap, gap, rtol=ROUNDING)
    assert result.separable
    assert result.duality_gap < ROUNDING


def test_simplex_through_the_origin():
    result = gp.class_gap(np.eye(4), np.ones(4), through_origin=True)  # one class is enough here
    np.testing.assert_allclose(result.gap, 0.5, rtol=ROUNDING)
    np.testing.assert_allclose(result.normal, np.full(4, 0.5), rtol=ROUNDING)
    assert result.offset == 0


@pytest.mark.parametrize("through_origin", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_enumeration_of_supporting_sets(seed, through_origin):
    rng = np.random.default_rng(seed)
    features, labels = separated(rng, 9, int(rng.integers(1, 4)), 1.2)
    expected = every_supporting_set(features, labels, through_origin)
    result = gp.class_gap(features, labels, through_origin=through_origin)
    assert result.separable == (expected > 0)
    np.testing.assert_allclose(result.gap, expected, rtol=0, atol=1e-10)  # the enumeration's least squares


@pytest.mark.parametrize("through_origin", [False, True])
def test_separability_and_optimality(through_origin):
    """300 problems: separable exactly when the linear program says so, and never a doubt about the optimum."""
    rng = np.random.default_rng(11)
    outcomes = []
    for _ in range(300):
        features, labels = separated(rng, int(rng.integers(3, 80)), int(rng.integers(1, 12)), rng.uniform(0, 4))
        features += rng.choice([0.0, 10.0]) * rng.normal(size=features.shape[1])
        result = gp.class_gap(features, labels, through_origin=through_origin)
        assert result.separable == planes_exist(features, labels, through_origin)
        scale = np.abs(features).max()
        assert 0 <= result.duality_gap < ROUNDING * scale
        if result.separable:
            np.testing.assert_allclose(np.linalg.norm(result.normal), 1, rtol=ROUNDING)
            achieved = margin(features, labels, result.normal, result.offset)
            np.testing.assert_allclose(achieved, result.gap, rtol=0, atol=ROUNDING * scale)
        else:
            assert (result.gap, result.relative_gap, result.normal, result.offset) == (0, 0, None, None)
        outcomes.append(result.separable)
    assert 50 < sum(outcomes) < 250  # both outcomes were tried


def test_no_other_plane_does_better():
    """Control: turning the plane a little lowers the margin by more than the duality gap allows."""
    rng = np.random.default_rng(12)
    features, labels = separated(rng, 40, 3, 4.0)
    result = gp.class_gap(features, labels)
    for _ in range(20):
        normal = result.normal + 1e-3 * rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        low, high = (features[labels > 0] @ normal).min(), (features[labels < 0] @ normal).max()
        assert (low - high) / 2 < result.gap - result.duality_gap - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_support_vector_machine(seed):
    features, labels = separated(np.random.default_rng(seed), 60, 4, 3.5)
    machine = SVC(kernel="linear", C=1e8, tol=1e-8).fit(features, labels)
    result = gp.class_gap(features, labels)
    assert result.separable
    np.testing.assert_allclose(1 / np.linalg.norm(machine.coef_), result.gap, rtol=1e-3)  # what its solver reaches


@given(seed=seeds, dims=st.integers(1, 6), scale=st.sampled_from([1e-150, 1.0, 1e150]))
@settings(max_examples=60, deadline=None)
def test_motions_scale_and_mirror(seed, dims, scale):
    rng = np.random.default_rng(seed)
    features, labels = separated(rng, 20, dims, 3.0)
    rotation = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    result = gp.class_gap(features, labels)
    moved = gp.class_gap((features @ rotation + rng.normal(size=dims)) * scale, labels)
    swapped = gp.class_gap(features, -labels)
    through = gp.class_gap(features, labels, through_origin=True)
    np.testing.assert_allclose(moved.gap / scale, result.gap, rtol=0, atol=10 * ROUNDING)
    np.testing.assert_allclose(moved.spread / scale, result.spread, rtol=1e-12)
    np.testing.assert_allclose(swapped.gap, result.gap, rtol=0, atol=ROUNDING)
    assert through.gap <= result.gap + ROUNDING
    # Mirror images: the best plane goes through the origin.
    both, signs = np.concatenate([labels[:, None] * features, -labels[:, None] * features]), np.repeat([1, -1], 20)
    mirrored = gp.class_gap(both, signs)
    assert mirrored.gap == pytest.approx(gp.class_gap(both, signs, through_origin=True).gap, abs=10 * ROUNDING)
    assert mirrored.gap == pytest.approx(through.gap, abs=10 * ROUNDING)


@pytest.mark.parametrize("dimension", [2, 4])
def test_ball_model(dimension):
    """Uniform balls of radius 1 around ±ε e₁: samples come within ε − 1 of the plane; the spread is √(D/(D+2))."""
    rng = np.random.default_rng(13)
    count, shift = 100_000, 1.5
    directions = rng.normal(size=(count, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    features = rng.random((count, 1)) ** (1 / dimension) * directions
    labels = rng.choice([-1, 1], count)
    features[:, 0] += shift * labels
    result = gp.class_gap(features, labels)
    # A cap of height 0.05 holds at least 5e-4 of a ball: 25 samples on average, none with probability 1e-11.
    assert shift - 1 < result.gap < shift - 1 + 0.05
    expected = dimension / (dimension + 2)
    stderr = np.sqrt((dimension / (dimension + 4) - expected**2) / count)  # of the mean of r²
    assert abs(result.spread**2 - expected) < 4 * stderr  # false alarm 6e-5, were the seed not fixed
    assert abs(result.spread**2 - 0.5) > 4 * stderr or dimension == 2  # control: D/(D+2) is not ½ for D = 4
    assert result.relative_gap == result.gap / result.spread


def test_many_samples_and_many_dimensions():
    rng = np.random.default_rng(14)
    for samples, dims in ((100_000, 8), (500, 120)):
        features, labels = rng.normal(size=(samples, dims)), rng.choice([-1, 1], samples)
        features[:, 0] = labels * (np.abs(features[:, 0]) + 0.1)
        result = gp.class_gap(features, labels)
        assert result.separable
        assert result.gap >= 0.1
        assert result.duality_gap < ROUNDING


def test_touching_and_point_like_classes():
    assert not gp.class_gap([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.5, 1.0]], [1, 1, -1, -1]).separable
    assert not gp.class_gap([[1.0], [1.0]], [1, -1]).separable
    assert not gp.class_gap([[0.0, 0.0]], [1], through_origin=True).separable
    points = gp.class_gap([[0.0], [2.0]], [-1, 1])
    assert points.spread == 0
    assert points.relative_gap == np.inf


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ([1.0, 2.0], [1, -1], "features must have at least 2 dimension"),
        ([[[1.0]]], [1], "features must have shape"),
        ([[1.0], [np.nan]], [1, -1], "features must be finite"),
        ([[1.0], [2.0]], [1, 0], "labels must hold only -1 and"),
        ([[1.0], [2.0]], [1], "labels must have shape"),
        ([[1.0], [2.0]], [1, 1], "labels must hold both"),
    ],
)
def test_bad_input(features, labels, message):
    with pytest.raises(ValueError, match=message):
        gp.class_gap(features, labels)
