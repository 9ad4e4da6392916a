"""What an attention refuses, and the names it gives."""

import numpy as np
import pytest

from grokphase.student import Attention, all_inputs

GOOD = np.random.default_rng(0).normal(size=(2, 3, 3))
ONES = np.ones(3)
ROTATION = np.array([[[0.0, -1.0], [1.0, 0.0]], np.eye(2)])
SHIFT = np.array([[0.0, 1.0], [0.0, 0.0]])


def with_nan(array):
    array = array.copy()
    array.flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        (np.ones((2, 3)), {}, "tensors must have at least 3"),
        (np.ones((3, 3, 3)), {}, r"tensors must have shape \(..., 2, bond, bond\), got \(3, 3, 3\)"),
        (np.ones((2, 3, 4)), {}, "tensors must have shape"),
        (np.ones((2, 0, 0)), {}, "tensors must have shape"),
        (with_nan(GOOD), {}, "tensors must be finite"),
        (np.inf * np.ones((2, 2, 2)), {}, "tensors must be finite"),
        (GOOD * 1j, {}, "tensors must be real"),
        ("tensors", {}, "tensors must be real"),
        (ROTATION, {}, "complex pair"),
        (ROTATION, {"left": np.ones(2)}, "complex pair"),
        (np.stack([ROTATION, ROTATION[::-1]]), {}, "got none for 1 of 2 attentions"),
        (np.array([np.eye(2), np.ones((2, 2))]), {}, "degenerate"),
        (np.array([[[1.0, 1.0], [0.0, 1.0]], np.eye(2)]), {"right": np.ones(2)}, "degenerate"),
        (np.array([SHIFT, np.eye(2)]), {}, r"tensors\[0\] must not be nilpotent"),
        (
            np.array([np.eye(2), SHIFT]),
            {"left": np.ones(2), "right": np.ones(2)},
            r"tensors\[1\] must not be nilpotent",
        ),
        (np.array([np.eye(2), 0 * SHIFT]), {"boundary": "closed"}, r"tensors\[1\] must not be nilpotent"),
        (
            np.array([[SHIFT + np.eye(2)] * 2, [SHIFT] * 2]),
            {"boundary": "closed"},
            r"attention \(1,\) of the batch",
        ),
        (GOOD, {"left": np.ones(2), "right": ONES}, r"left must have shape \(3,\), got \(2,\)"),
        (GOOD, {"left": ONES, "right": np.ones((2, 3))}, "right must have shape"),
        (GOOD, {"left": ONES, "right": 1.0}, "right must have at least 1"),
        (GOOD, {"left": with_nan(ONES), "right": ONES}, "left must be finite"),
        (GOOD, {"left": ONES, "right": np.zeros(3)}, "right must not be a zero vector"),
        (GOOD, {"boundary": "periodic"}, "boundary must be one of 'open', 'closed'; got 'periodic'"),
        (GOOD, {"left": ONES, "boundary": "closed"}, "must be None for a closed boundary"),
    ],
)
def test_bad_attentions(tensors, options, message):
    with pytest.raises(ValueError, match=message):
        Attention(tensors, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.scores([1, 0], GOOD), "x must hold only"),
        (lambda a: a.contexts([1, np.nan]), "x must be finite"),
        (lambda a: a.features([]), "x must have at least one cell"),
        (lambda a: a.features(1), "x must have at least 1"),
        (lambda a: a.scores([1, -1], np.ones((2, 2, 2))), r"classifier must have shape \(..., 2, 3, 3\)"),
        (lambda a: a.scores([1, -1], np.ones(18)), "classifier must have at least 3"),
        (lambda a: a.scores([1, -1], with_nan(GOOD)), "classifier must be finite"),
        (lambda a: a.scores_of_all(3, np.ones((3, 3, 3))), "classifier must have shape"),
        (lambda a: a.scores_of_all(0, GOOD), "length must be integer, from 1 to 24"),
        (lambda a: a.features_of_all(25), "length must be integer, from 1 to 24"),
        (lambda a: a.features_of_all(2.5), "length"),
        (lambda a: a.change_basis(np.eye(2)), "matrix must have shape"),
        (lambda a: a.change_basis(np.ones((3, 3))), "matrix must be invertible"),
    ],
)
def test_bad_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call(Attention(GOOD, left=ONES, right=ONES))


def test_a_classifier_batch_must_fit_the_attentions():
    batch = Attention(np.stack([GOOD, GOOD, GOOD]), left=ONES, right=ONES)
    with pytest.raises(ValueError, match=r"classifier must broadcast with the batch \(3,\)"):
        batch.scores([1, -1], np.ones((2, 2, 3, 3)))


def test_contexts_that_vanish_on_some_inputs_only():
    """A_0 A_1 = 0 with neither nilpotent: the word -- is fine, -+ is not."""
    attention = Attention([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])], left=[1, 1], right=[1, 1])
    assert attention.contexts([-1, -1])[0].shape == (2, 2)
    for call in (
        lambda: attention.contexts([-1, 1, 1]),
        lambda: attention.features([-1, 1, 1]),
        lambda: attention.scores_of_all(3, np.ones((2, 2, 2))),
        lambda: attention.features_of_all(3),
    ):
        with pytest.raises(ValueError, match="tensors must not make contexts vanish"):
            call()


def test_only_directions_of_boundary_vectors_matter():
    x = [1, -1, -1, 1]
    one = Attention(GOOD, left=ONES, right=ONES)
    other = Attention(GOOD, left=1e-250 * ONES, right=1e250 * ONES)
    np.testing.assert_allclose(one.scores(x, GOOD), other.scores(x, GOOD), rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        one.scores(x, GOOD), -Attention(GOOD, left=-ONES, right=ONES).scores(x, GOOD), atol=1e-14
    )


def test_an_attention_keeps_its_own_numbers():
    tensors = GOOD.copy()
    attention = Attention(tensors, left=ONES, right=ONES)
    tensors[:] = 0
    np.testing.assert_array_equal(attention.tensors, GOOD)
    with pytest.raises(ValueError, match="read-only"):
        attention.tensors[0, 0, 0] = 1
    with pytest.raises(AttributeError):
        attention.boundary = "closed"


@pytest.mark.parametrize("reach", [0, 6, 1.5])
def test_reach_of_the_exact_attention(reach):
    with pytest.raises(ValueError, match="reach must be integer, from 1 to 5"):
        Attention.exact(reach)


@pytest.mark.parametrize("length", [0, 25, 1.5])
def test_length_of_all_inputs(length):
    with pytest.raises(ValueError, match="length must be integer, from 1 to 24"):
        all_inputs(length)
