"""Minimisers of the regularised loss: optimality conditions, scikit-learn, closed forms, batches, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import ElasticNet, lars_path

from grokphase.solvable import elastic_net
from grokphase.solvable.elastic_net import stationary


def problem(inputs, labels, l2):
    """G and a of Eq. 19."""
    count = inputs.shape[-2]
    gram = inputs.swapaxes(-1, -2) @ inputs / count + l2 * np.eye(inputs.shape[-1])
    return gram, (labels[..., None, :] @ inputs)[..., 0, :] / count


def draw(rng, samples, dimension, *batch):
    inputs = rng.standard_normal((*batch, samples, dimension))
    return inputs, rng.choice([-1.0, 1.0], (*batch, samples))


def loss(gram, correlation, l1, w):
    return 0.5 * np.einsum("...i,...ij,...j", w, gram, w) - (correlation * w).sum(-1) + l1 * np.abs(w).sum(-1)


def violation(gram, correlation, l1, w):
    """Largest violation of the conditions r = λ₁ sgn(w) where w ≠ 0, |r| ≤ λ₁ where w = 0."""
    residual = correlation - np.einsum("...ij,...j->...i", gram, w)
    l1 = np.asarray(l1)[..., None]
    active = np.abs(residual - l1 * np.sign(w))
    return np.where(w != 0, active, np.maximum(np.abs(residual) - l1, 0)).max(-1)


def lasso_path(inputs, labels, l1, l2):
    """Exact homotopy (LARS): the ridge enters as √(nλ₂) times the unit matrix, appended to the inputs."""
    count, dimension = inputs.shape
    extended = np.vstack([inputs, np.sqrt(count * l2) * np.eye(dimension)]) if l2 else inputs
    answers = np.concatenate([labels, np.zeros(dimension)]) if l2 else labels
    # lars_path divides by the number of rows it sees
    alpha = l1 * count / len(answers)
    return lars_path(extended, answers, method="lasso", alpha_min=alpha)[2][:, -1]


# --- against scikit-learn ---

SHAPES = [(6, 3), (20, 8), (10, 10), (4, 9), (3, 20)]  # (samples, features), the last two with D > 2N


@pytest.mark.parametrize(("samples", "dimension"), SHAPES)
@pytest.mark.parametrize("l2", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("l1", [0.01, 0.1, 0.4])
def test_equals_the_exact_homotopy(samples, dimension, l1, l2):
    rng = np.random.default_rng(samples)
    for _ in range(5):
        inputs, labels = draw(rng, samples, dimension)
        weights = stationary(*problem(inputs, labels, l2), l1)
        # LARS adds up rounding along its path; inputs in general position have a unique minimiser
        assert_allclose(weights, lasso_path(inputs, labels, l1, l2), rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("samples", "dimension"), SHAPES)
def test_equals_coordinate_descent(samples, dimension):
    rng = np.random.default_rng(dimension)
    l1, l2 = 0.1, 0.05
    # its own criterion (the duality gap) is blind below 1e-8 in the weights: descend until nothing moves any more
    student = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=0.0, max_iter=20_000)
    for _ in range(5):
        inputs, labels = draw(rng, samples, dimension)
        weights = stationary(*problem(inputs, labels, l2), l1)
        assert_allclose(weights, student.fit(inputs, labels).coef_, rtol=0, atol=1e-10)


def test_duplicate_features_reach_the_minimal_loss():
    # the minimiser is not unique, its loss and its predictions are
    rng = np.random.default_rng(3)
    half, labels = draw(rng, 6, 4)
    inputs = np.hstack([half, half, -half])
    gram, correlation = problem(inputs, labels, 0.0)
    weights = stationary(gram, correlation, 0.1)
    theirs = lasso_path(half, labels, 0.1, 0.0)
    assert violation(gram, correlation, 0.1, weights) < 1e-14
    assert_allclose(inputs @ weights, half @ theirs, atol=1e-12)
    assert_allclose(loss(gram, correlation, 0.1, weights), loss(*problem(half, labels, 0.0), 0.1, theirs), rtol=1e-12)


# --- optimality ---


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 12),
    dimension=st.integers(1, 12),
    log_l1=st.floats(-12, 1),
    log_l2=st.one_of(st.just(-np.inf), st.floats(-16, 2)),
    spread=st.floats(0, 3),
)
def test_optimality_conditions(seed, samples, dimension, log_l1, log_l2, spread):
    # features of very different size, ridge from nothing to dominating
    rng = np.random.default_rng(seed)
    inputs, labels = draw(rng, samples, dimension)
    inputs = inputs * 10 ** (spread * rng.uniform(-1, 0, dimension))
    gram, correlation = problem(inputs, labels, 10.0**log_l2)
    l1 = 10.0**log_l1
    weights = stationary(gram, correlation, l1)
    # a violation below 1e-13 of the largest gradient is what the method calls rounding; times a few dimensions
    scale = max(np.abs(correlation).max(), l1, np.abs(gram @ weights).max())
    assert violation(gram, correlation, l1, weights) <= 1e-12 * scale


@settings(max_examples=100, deadline=None)
@given(data=st.data(), samples=st.integers(1, 6), dimension=st.integers(1, 6))
def test_ties_between_integer_inputs(data, samples, dimension):
    # small integers: equal and opposite features, samples at zero, gradients exactly at the threshold
    entries = st.lists(st.integers(-1, 1), min_size=samples * dimension, max_size=samples * dimension)
    inputs = np.array(data.draw(entries), dtype=float).reshape(samples, dimension)
    labels = np.array(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=samples, max_size=samples)))
    l1, l2 = data.draw(st.sampled_from([0.0625, 0.25, 0.5])), data.draw(st.sampled_from([0.0, 0.5]))
    gram, correlation = problem(inputs, labels, l2)
    # the conditions are sufficient: the problem is convex (LARS gives up or stops early at such ties)
    assert violation(gram, correlation, l1, stationary(gram, correlation, l1)) <= 1e-12


def test_full_flips_that_go_round_in_circles_are_ended(monkeypatch):
    rng = np.random.default_rng(0)
    gram, correlation = problem(*draw(rng, 5, 8, 200), 1e-3)
    weights = stationary(gram, correlation, 0.03)
    assert violation(gram, correlation, 0.03, weights).max() < 1e-12

    # control: without single flips most of these problems are still running after 500 rounds
    class TooLongError(Exception):
        pass

    rounds = iter(range(500))
    solve = elastic_net._given_states

    def counted(*arguments):
        if next(rounds, None) is None:
            raise TooLongError(len(arguments[0]))
        return solve(*arguments)

    monkeypatch.setattr(elastic_net, "_PATIENCE", 10**9)
    monkeypatch.setattr(elastic_net, "_given_states", counted)
    with pytest.raises(TooLongError) as running:
        stationary(gram, correlation, 0.03)
    assert running.value.args[0] > 100


def test_single_flips_alone_also_arrive(monkeypatch):
    rng = np.random.default_rng(1)
    gram, correlation = problem(*draw(rng, 20, 7, 200), 0.01)
    expected = stationary(gram, correlation, 0.1)
    monkeypatch.setattr(elastic_net, "_PATIENCE", -1)
    assert_allclose(stationary(gram, correlation, 0.1), expected, atol=1e-13)


# --- closed forms ---


def test_without_l1_it_is_one_linear_system():
    rng = np.random.default_rng(2)
    gram, correlation = problem(*draw(rng, 20, 5, 100), 0.1)
    # condition numbers below 100
    assert_allclose(stationary(gram, correlation), np.linalg.solve(gram, correlation[..., None])[..., 0], rtol=1e-12)


@pytest.mark.parametrize(("samples", "dimension"), [(3, 7), (1, 4), (7, 7)])
def test_singular_without_l1_is_the_solution_of_least_norm(samples, dimension):
    rng = np.random.default_rng(4)
    inputs, labels = draw(rng, samples, dimension)
    if samples == dimension:
        inputs[:, 0] = inputs[:, 1]
    weights = stationary(*problem(inputs, labels, 0.0))
    # the Gram matrix squares the condition number of the inputs, here below 1e3
    assert_allclose(weights, np.linalg.pinv(inputs, rcond=1e-10) @ labels, atol=1e-10)


def test_diagonal_problems_are_soft_thresholds():
    rng = np.random.default_rng(6)
    diagonal, correlation = rng.uniform(0.1, 3, 50), rng.standard_normal(50)
    weights = stationary(np.diag(diagonal), correlation, 0.3)
    expected = np.sign(correlation) * np.maximum(np.abs(correlation) - 0.3, 0) / diagonal
    assert_allclose(weights, expected, rtol=1e-14)
    assert_array_equal(weights[np.abs(correlation) < 0.3], 0.0)


def test_beyond_the_largest_correlation_all_weights_rest():
    rng = np.random.default_rng(7)
    gram, correlation = problem(*draw(rng, 5, 9), 0.0)
    largest = np.abs(correlation).max()
    assert_array_equal(stationary(gram, correlation, largest * (1 + 1e-9)), 0.0)
    assert np.count_nonzero(stationary(gram, correlation, largest * (1 - 1e-6))) == 1


def test_no_data_at_all():
    assert_array_equal(stationary(np.zeros((3, 3)), np.zeros(3)), 0.0)
    assert_array_equal(stationary(np.zeros((3, 3)), np.zeros(3), 0.1), 0.0)


# --- batches ---


def test_batches_equal_single_problems(monkeypatch):
    rng = np.random.default_rng(8)
    gram, correlation = problem(*draw(rng, 4, 6, 40), 0.0)
    gram[::2] += 0.1 * np.eye(6)  # half regular, half singular
    l1 = np.array([[0.0], [0.05], [0.3]])
    together = stationary(gram, correlation, l1)
    assert together.shape == (3, 40, 6)
    for i in range(3):
        for j in range(40):
            alone = stationary(gram[j], correlation[j], l1[i, 0])
            assert_allclose(together[i, j], alone, rtol=1e-12, atol=1e-14)
    monkeypatch.setattr(elastic_net, "_BLOCK", 36 * 7)
    assert_allclose(stationary(gram, correlation, l1), together, rtol=1e-12, atol=1e-14)


def test_leading_dimensions_broadcast():
    rng = np.random.default_rng(9)
    gram, _ = problem(*draw(rng, 10, 3, 5, 1), 0.1)
    correlation = rng.standard_normal((4, 3))
    assert stationary(gram, correlation, 0.1).shape == (5, 4, 3)
    assert stationary(gram[:0], correlation, 0.1).shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((np.eye(3), np.ones(2)), "gram"),
        ((np.ones(3), np.ones(3)), "gram"),
        ((np.full((2, 2), np.nan), np.ones(2)), "gram"),
        ((np.eye(2), [1.0, np.inf]), "correlation"),
        ((np.eye(2), np.ones(2), -0.1), "l1"),
        ((np.zeros((2, 2, 2)), np.ones((3, 2))), "broadcast"),
    ],
)
def test_bad_input_names_the_argument(arguments, named):
    with pytest.raises(ValueError, match=named):
        stationary(*arguments)
