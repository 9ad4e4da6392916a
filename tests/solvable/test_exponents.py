"""Critical exponents measured on exact trajectories: gradient flow of real training sets, exact times, exact errors."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

import grokphase as gp

GAP, L2 = 1.5, 0.05


def transition(dimension, l1=0.0):
    """A flow that ends with zero test error for good at some t_ε > 0, and w(t_ε − s) for s given in fractions of it."""
    ball = gp.BallModel(dimension=dimension, class_gap=GAP, l1=l1, l2=L2)
    rng = np.random.default_rng(dimension)
    inputs, labels = ball.sample(20, rng)
    flow = gp.GradientFlow(inputs, labels, l1=l1, l2=L2)
    initial = 3 * rng.standard_normal(dimension)
    initial[0] = -abs(initial[0])
    end = float(flow.zero_test_time(initial, ball))
    assert 0 < end < np.inf
    return ball, flow, initial, end


def depth_of(ball, weights):
    """δ = 1 − ε w₁/|w|, from 1 − h² without cancellation."""
    squares = weights**2
    norm = squares.sum(axis=-1)
    h_squared = ball.class_gap**2 * squares[..., 0] / norm
    complement = (squares[..., 1:].sum(axis=-1) - (ball.class_gap**2 - 1) * squares[..., 0]) / norm
    return complement / (1 + np.sqrt(h_squared))


def slope(before, error):
    """Slope of the straight line through log error against log (t_ε − t)."""
    return np.polyfit(np.log(before), np.log(error), 1)[0]


# Relative distances to the transition. δ = k s (1 + O(s)), E = C δ^ν (1 + O(D δ)): the slope is off by O(ν s) < 1e-4 at
# s = 1e-6, and by the rounding of t_ε and of 1 − h², 1e-16/s · ν < 1e-7.
BEFORE = np.geomspace(1e-7, 1e-6, 11)


@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize("dimension", range(2, 13))
def test_exponent_of_the_ball_model(dimension, l1):
    ball, flow, initial, end = transition(dimension, l1)
    error = ball.test_error(flow.weights(end * (1 - BEFORE), initial))
    measured = slope(BEFORE, error)
    assert_allclose(measured, (dimension + 1) / 2, atol=1e-3)
    assert measured == pytest.approx(ball.exponent, abs=1e-3)
    # control: the exponents of the neighbouring dimensions are far outside
    assert abs(measured - dimension / 2) > 0.4


def test_one_dimension_has_its_exponent_in_the_depth_and_none_in_time():
    # Without a direction across, h = ε sgn w: no flow passes through 0 < δ < 1, and E jumps from 1 to 0.
    ball = gp.BallModel(dimension=1, class_gap=GAP, l2=L2)
    inputs, labels = ball.sample(20, 1)
    flow = gp.GradientFlow(inputs, labels, l2=L2)
    end = float(flow.zero_test_time([-1.0], ball))
    assert ball.test_error(flow.weights(end * np.array([1 - 1e-9, 1 + 1e-9]), [-1.0])).tolist() == [1.0, 0.0]
    depth = np.geomspace(1e-7, 1e-6, 5)
    assert_allclose(slope(depth, ball.test_error_at(1 - depth)), ball.exponent, atol=1e-3)
    assert ball.exponent == 1.0


@pytest.mark.parametrize("dimension", [2, 3, 5, 8, 12])
def test_eq_23_amplitude_and_its_sign(dimension):
    # E ≈ C (k (t_ε − t))^ν with k = dh/dt > 0 at t_ε. Printed is (k (t − t_ε))^ν, no real number before the transition
    # unless k < 0.
    ball, flow, initial, end = transition(dimension)
    weights = flow.weights([end], initial)[0]
    velocity = flow.correlation - flow.gram @ weights  # Eq. 20; the matrix contains λ₂
    norm = np.linalg.norm(weights)
    k = GAP * (velocity[0] / norm - weights[0] * (weights @ velocity) / norm**3)
    assert k > 0
    prefactor = dimension * 2 ** ((dimension - 3) / 2) * special.gamma(dimension / 2)
    prefactor /= np.sqrt(np.pi) * special.gamma((dimension + 3) / 2)
    before = 1e-6 * end
    error = ball.test_error(flow.weights([end - before], initial))[0]
    # relative O(D k s) and rounding
    assert_allclose(error / (prefactor * (k * before) ** ball.exponent), 1, atol=1e-3)
    uniform = gp.IsotropicModel(dimension=dimension, density=lambda r: dimension * (1 - r) ** (dimension - 1))
    assert_allclose(uniform.prefactor, prefactor, rtol=1e-12)
    assert ball.test_error(flow.weights([end + before], initial))[0] == 0


def test_eq_23_near_its_limit():
    # D = 17, 1 − h = 1e-4: the exact error over the power law, relative O(D δ)
    ball = gp.BallModel(dimension=17, class_gap=1.0)
    uniform = gp.IsotropicModel(dimension=17, density=lambda r: 17 * (1 - r) ** 16)
    ratio = uniform.prefactor * 1e-4**uniform.exponent / ball.test_error_at(1 - 1e-4)
    assert_allclose(ratio, 1.00036, atol=1e-5)


@pytest.mark.parametrize(("dimension", "divergence"), [(2, 0.25), (3, 0.5), (5, 0.3), (5, -1.0), (8, 0.9), (12, 0.0)])
def test_exponent_of_isotropic_densities(dimension, divergence):
    # training data and flow of the ball model, tested on another isotropic density of the same support
    ball, flow, initial, end = transition(dimension)
    model = gp.IsotropicModel.power_law(dimension=dimension, divergence=divergence)
    error = model.test_error(depth_of(ball, flow.weights(end * (1 - BEFORE), initial)))
    measured = slope(BEFORE, error)
    assert_allclose(measured, (dimension + 1) / 2 - divergence, atol=1e-3)
    assert measured == pytest.approx(model.exponent, abs=1e-3)


def test_exponential_model():
    # E = (1 − e^{ε − b})/2 with b through ε at a finite speed: exponent 1, amplitude |db/dt|/2
    model = gp.ExponentialModel(class_gap=0.4, l1=0.05, l2=0.3)
    initial, mean = 4.0, 0.1
    end = model.zero_test_time(initial, mean)
    error = model.test_error(model.bias(end - BEFORE, initial, mean))
    assert_allclose(slope(BEFORE, error), model.exponent, atol=1e-3)
    assert_allclose(error[-1] / BEFORE[-1], (model.effective_gap - mean) / 2, rtol=1e-5)
