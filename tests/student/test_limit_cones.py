"""Invariant cones of bond-2 attention against plain enumeration of contexts."""

import numpy as np
import pytest
from naive_limit import contexts, solvable_attentions

from grokphase.student import paper_examples
from grokphase.student.limit_cones import images, planar_cones, unpointed_words

DEPTH = 11


def random_sides(count, seed, own_start):
    """Gaussian tensors with a random start, or with the leading eigenvector of the first matrix."""
    rng = np.random.default_rng(seed)
    tensors = rng.normal(size=(count, 2, 2, 2))
    if not own_start:
        start = rng.normal(size=(count, 2))
        return tensors, start / np.linalg.norm(start, axis=-1, keepdims=True)
    values, vectors = np.linalg.eig(np.swapaxes(tensors[:, 0], -1, -2))
    real = np.isreal(values).all(axis=-1)
    leading = np.abs(values[real]).argmax(axis=-1)
    start = np.take_along_axis(vectors[real].real, leading[:, None, None], axis=-1)[..., 0]
    return tensors[real], start


def coordinates(vectors, rays):
    """Coefficients in the basis of two rays: both ≥ 0 inside the cone."""
    return vectors @ np.linalg.inv(rays)


def arc(vectors):
    """Length of the shortest arc of directions that holds all vectors, by sorting angles."""
    angles = np.sort(np.arctan2(vectors[:, 1], vectors[:, 0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    return 2 * np.pi - gaps.max()


@pytest.mark.parametrize("own_start", [True, False])
def test_cones_hold_all_contexts_and_their_rays_are_reached(own_start):
    tensors, start = random_sides(400, 3, own_start)
    _, reachable = planar_cones(tensors, start)
    proven = np.flatnonzero(reachable.status == 1)
    assert proven.size > 15
    narrower = []
    for k in proven:
        everything = np.concatenate(contexts(tensors[k], start[k], DEPTH))
        inside = coordinates(everything, reachable.rays[k])
        assert inside.min() > -1e-10  # rounding of the contexts, times the inverse of the rays
        narrower.append(arc(everything) / reachable.width[k])
    # Contexts come closer to the extreme rays with every letter, like (λ₂/λ₁)^n: after 11 letters most of the cones
    # are filled, and contexts never need more than the cone.
    assert max(narrower) < 1 + 1e-9
    assert np.median(narrower) > 0.999


def test_extreme_rays_are_limits_of_contexts():
    """Where contraction is strong: enumeration to 11 letters reaches the rays within (λ₂/λ₁)^10."""
    for attention in paper_examples[1:]:
        cone, _ = planar_cones(attention.tensors, attention.left)
        everything = np.concatenate(contexts(attention.tensors, attention.left, DEPTH))
        assert arc(everything) == pytest.approx(cone.width, abs=2 * 0.26**10)


def test_no_cone_means_contexts_that_no_half_plane_holds():
    tensors, start = random_sides(300, 4, True)
    _, reachable = planar_cones(tensors, start)
    without = np.flatnonzero(reachable.status == -1)
    assert without.size > 100
    for k in without:
        words = unpointed_words(tensors[k], start[k])
        assert words is not None
        vectors = []
        for word in words:
            row = start[k]
            for letter in word:
                row = row @ tensors[k, letter]
                row = row / np.linalg.norm(row)
            vectors.append(row)
        # Every line has a vector on either side (or on it): the largest gap between directions is at most π.
        assert 2 * np.pi - arc(np.array(vectors)) <= np.pi + 1e-9


def test_pointed_contexts_have_no_such_words():
    for attention in solvable_attentions():
        assert unpointed_words(attention.tensors, attention.left) is None


def test_both_sides_of_an_attention_agree():
    """If all left contexts lie in a pointed invariant cone, its dual is one for the right ones (up to the start)."""
    tensors, start = random_sides(2000, 5, True)
    left, _ = planar_cones(tensors, start)
    right, _ = planar_cones(np.swapaxes(tensors, -1, -2), start)
    assert (left.status != 0).all()
    np.testing.assert_array_equal(left.status, right.status)


def test_branches_hold_the_contexts_behind_their_letters():
    for attention in solvable_attentions():
        _, cone = planar_cones(attention.tensors, attention.left)
        rays, slack = images(attention.tensors, cone.rays, cone.slack, 2)
        assert slack.max() < 1e-11
        rows = contexts(attention.tensors, attention.left, 9)[9]
        for branch in range(4):
            inside = coordinates(rows[branch::4], rays[branch])
            assert inside.min() > -1e-9
            assert coordinates(rows[(branch + 1) % 4 :: 4], rays[branch]).min() < 0  # a neighbour's contexts are not


def test_a_slightly_narrower_cone_fails():
    """Control: with rays turned inwards by 1e-4 some context of a long word is outside."""
    attention = paper_examples[2]
    cone, _ = planar_cones(attention.tensors, attention.left)
    low, high = cone.rays
    rays = np.array([low + 1e-4 * high, high + 1e-4 * low])
    everything = np.concatenate(contexts(attention.tensors, attention.left, DEPTH))
    assert coordinates(everything, rays).min() < -1e-5


def test_status_is_open_on_the_boundary():
    """A shear by less than rounding: whether its leading eigenvalue is isolated cannot be told, nothing is claimed."""
    shear = np.array([[[1.0, 1e-15], [0.0, 1.0]], [[1.0, 0.0], [0.3, 0.5]]])
    cone, _ = planar_cones(shear, np.array([1.0, 0.0]))
    assert cone.status == 0
