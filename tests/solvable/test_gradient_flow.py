"""Gradient flow without L1: weights, limits, zero-error times, conventions, batches, bad input.

Weights are compared with the matrix exponential of the affine system (which needs no limit, so singular G is no special
case) and with DOP853; zero-error times with dense grids, and, where they are built to be nearly impossible, with exact
root isolation at 60 digits.
"""

import dataclasses

import mpmath as mp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import minimize_scalar
from sign_oracles import EPS, Exact, check_first_entry, check_last_violation, grid_times

from grokphase.solvable import gradient_flow
from grokphase.solvable.ball import BallModel
from grokphase.solvable.gradient_flow import GradientFlow


@pytest.fixture(scope="module", autouse=True)
def _digits():
    with mp.workdps(60):
        yield


def draw(seed, samples, dimension, *batch):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((*batch, samples, dimension))
    return inputs, rng.choice([-1.0, 1.0], (*batch, samples)), rng.standard_normal((*batch, dimension))


def affine_flow(flow, initial, time):
    """ẇ = a − Gw by the exponential of the matrix that acts on (w, 1)."""
    dimension = flow.dimension
    generator = np.zeros((dimension + 1, dimension + 1))
    generator[:dimension, :dimension], generator[:dimension, dimension] = -flow.gram, flow.correlation
    return (expm(generator * time) @ np.append(initial, 1.0))[:dimension]


# --- weights ---


@pytest.mark.parametrize(
    ("samples", "dimension", "l2"), [(10, 3, 0.0), (6, 6, 0.1), (3, 7, 0.0), (2, 5, 0.3), (1, 1, 0.0)]
)
def test_weights_equal_the_matrix_exponential(samples, dimension, l2):
    inputs, labels, initial = draw(samples, samples, dimension)
    flow = GradientFlow(inputs, labels, l2=l2)
    times = np.array([0.0, 1e-9, 1e-3, 0.1, 1.0, 7.0, 50.0])
    expected = [affine_flow(flow, initial, t) for t in times]
    # expm squares its matrix some ten times: rounding 1e-13
    assert_allclose(flow.weights(times, initial), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("l2", [0.0, 0.2])
def test_weights_equal_runge_kutta(l2):
    inputs, labels, initial = draw(5, 4, 6)
    flow = GradientFlow(inputs, labels, l2=l2)

    def descent(_, w):  # the gradient of Eq. 19, sample by sample
        return -sum((x @ w - y) * x for x, y in zip(inputs, labels, strict=True)) / len(labels) - l2 * w

    times = np.linspace(0, 5, 11)
    path = solve_ivp(descent, (0, 5), initial, method="DOP853", rtol=1e-13, atol=1e-15, t_eval=times, max_step=0.02)
    assert_allclose(flow.weights(times, initial), path.y.T, rtol=0, atol=1e-11)  # error of its 7th-order interpolant


def test_directions_without_data_keep_their_weight():
    # 2N < D, λ₂ = 0: the printed limit, the pseudo-inverse, forgets them
    inputs, labels, initial = draw(2, 3, 8)
    flow = GradientFlow(inputs, labels, l2=0.0)
    pseudo = np.linalg.pinv(inputs)
    silent = initial - pseudo @ (inputs @ initial)
    assert_allclose(flow.stationary(initial), pseudo @ labels + silent, atol=1e-12)
    assert_allclose(flow.weights(1e4, initial), pseudo @ labels + silent, atol=1e-12)
    assert np.linalg.norm(silent) > 1
    assert_allclose(flow.stationary(), pseudo @ labels, atol=1e-12)
    ridge = GradientFlow(inputs, labels, l2=0.01)
    assert_allclose(ridge.weights(1e4, initial), ridge.stationary(), atol=1e-12)  # any ridge makes it forget


def test_the_grokking_of_a_singular_flow_depends_on_its_start():
    model = BallModel(dimension=6, class_gap=2.0)
    inputs, labels = model.sample(2, 1)
    flow = GradientFlow(inputs, labels, l2=0.0)
    starts = 0.3 * np.random.default_rng(0).standard_normal((200, 6))
    grokked = model.test_error(flow.stationary(starts)) == 0
    assert 0 < grokked.sum() < 200
    assert_array_equal(np.isfinite(flow.zero_test_time(starts, model)), grokked)


def test_a_nearly_singular_data_set_costs_no_digits():
    # The smallest eigenvalue of G is 1e-12 and the limit 1e5 away: early weights are still good to rounding
    inputs = np.array([[1.0, 1.0], [1.0, 1.0 + 2e-6]])
    flow = GradientFlow(inputs, [1, -1], l2=0.0)
    assert np.abs(flow.stationary()).max() > 1e5
    initial, times = np.array([0.3, -0.4]), np.array([0.0, 0.1, 1.0, 30.0])
    gram, correlation = mp.matrix(flow.gram.tolist()), mp.matrix(flow.correlation.tolist())
    generator = mp.zeros(3)
    generator[:2, :2], generator[:2, 2] = -gram, correlation
    exact = [(mp.expm(generator * t) @ mp.matrix([0.3, -0.4, 1]))[:2] for t in times]
    assert_allclose(flow.weights(times, initial), np.array([list(map(float, w)) for w in exact]), rtol=0, atol=1e-14)


def test_stationary_without_start_solves_the_normal_equations():
    inputs, labels, _ = draw(1, 12, 5, 20)
    flow = GradientFlow(inputs, labels, l2=0.1)
    assert_allclose(flow.stationary(), np.linalg.solve(flow.gram, flow.correlation[..., None])[..., 0], rtol=1e-12)
    assert_allclose(flow.stationary(np.ones(5)), flow.stationary(), rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 8),
    dimension=st.integers(1, 8),
    l2=st.sampled_from([0.0, 0.1]),
)
def test_the_loss_falls(seed, samples, dimension, l2):
    inputs, labels, initial = draw(seed, samples, dimension)
    flow = GradientFlow(inputs, labels, l2=l2)
    w = flow.weights(np.linspace(0, 20, 81), initial)
    loss = 0.5 * ((w @ inputs.T - labels) ** 2).mean(axis=1) + 0.5 * l2 * (w**2).sum(axis=1)
    assert (np.diff(loss) <= 1e-13 * (1 + loss[:-1])).all()


def test_scales_of_the_inputs_do_not_matter():
    # x → s x, w → w/s, λ₂ → s² λ₂, t → t/s²
    inputs, labels, initial = draw(9, 6, 4)
    straight = GradientFlow(inputs, labels, l2=0.1)
    for scale in (1e-8, 1e8):
        scaled = GradientFlow(scale * inputs, labels, l2=0.1 * scale**2)
        assert_allclose(
            scaled.weights(2.0 / scale**2, initial / scale) * scale, straight.weights(2.0, initial), rtol=1e-12
        )
        assert_allclose(
            scaled.zero_train_time(initial / scale) * scale**2, straight.zero_train_time(initial), rtol=1e-10
        )


# --- zero-error times against dense grids ---


def conditions(flow, initial, model):
    """The functions of time that must be positive: on the training samples, and in the ball model."""
    normals = flow.labels[:, None] * flow.inputs

    def train(times):
        return flow.weights(times, initial) @ normals.T

    def test(times):
        w = flow.weights(times, initial)
        return np.stack([model.class_gap**2 * w[:, 0] ** 2 - (w**2).sum(axis=1), w[:, 0]], axis=1)

    return train, test


@pytest.mark.parametrize(
    ("samples", "dimension", "l2"), [(3, 2, 0.0), (6, 3, 0.0), (10, 5, 0.05), (2, 5, 0.0), (4, 4, 0.0), (5, 1, 0.1)]
)
def test_zero_error_times_equal_a_dense_grid(samples, dimension, l2):
    model, rng = BallModel(dimension=dimension, class_gap=1.2), np.random.default_rng(dimension)
    finite = 0
    for seed in range(6):
        inputs, labels = model.sample(samples, seed)
        flow = GradientFlow(inputs, labels, l2=l2)
        initial = rng.standard_normal(dimension)
        train, test = conditions(flow, initial, model)
        eigenvalues = np.linalg.eigvalsh(flow.gram)
        slowest = eigenvalues[eigenvalues > 1e-10].min()
        grid = np.concatenate([[0.0], np.geomspace(1e-4, 50 / slowest, 40_000)])
        # brentq at relative 1e-14 on weights with errors of 1e-15, slopes of 1e-3 (and slower: later) or more
        ours = flow.zero_train_time(initial, "first"), flow.zero_train_time(initial)
        expected = grid_times(train, grid)
        assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)
        finite += np.isfinite(expected[1])
        ours = flow.zero_test_time(initial, model, "first"), flow.zero_test_time(initial, model)
        expected = grid_times(test, grid)
        assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)
    assert finite >= 4


def test_test_error_is_zero_after_and_not_before():
    # the two public roads to the same moment
    model, rng = BallModel(dimension=4, class_gap=1.4), np.random.default_rng(3)
    inputs, labels = model.sample(6, 7, size=300)
    flow, initial = GradientFlow(inputs, labels, l2=0.02), rng.standard_normal((300, 4))
    final, first = flow.zero_test_time(initial, model), flow.zero_test_time(initial, model, "first")
    for time in (first, final):
        crossing = np.flatnonzero((time > 0) & np.isfinite(time))
        assert crossing.size > 100
        for k in crossing:
            single = GradientFlow(inputs[k], labels[k], l2=0.02)
            around = single.weights(time[k] * np.array([1 - 1e-6, 1 + 1e-6]), initial[k])
            before, after = model.test_error(around)
            assert after == 0.0 < before


# --- zero-error times built to be nearly impossible ---


def diagonal_flow(rates):
    """A data set with G = diag(rates), and the limits of its weights."""
    count = len(rates)
    inputs = np.diag(np.sqrt(count * np.asarray(rates)))
    return GradientFlow(inputs, np.ones(count), l2=0.0)


def exact_modes(flow, initial):
    """Limits, amplitudes, rates of the weights as exact numbers, from the doubles that the flow holds."""
    rates = [mp.mpf(x) for x in np.diag(flow.gram).tolist()]
    limits = [mp.mpf(a) / r for a, r in zip(flow.correlation.tolist(), rates, strict=True)]
    return limits, [mp.mpf(w) - limit for w, limit in zip(initial.tolist(), limits, strict=True)], rates


def weight_noise(flow, initial):
    """Rounding error of any unit vector times the weights."""
    rates, push = np.diag(flow.gram).tolist(), np.abs(flow.correlation).tolist()
    start = np.abs(initial).tolist()

    def noise(t):
        total = mp.mpf(0)
        for r, p, s in zip(map(mp.mpf, rates), push, start, strict=True):
            decay = mp.exp(-r * t)
            value, slope = s * decay + p * (1 - decay) / r, (p + r * s) * decay
            total += (len(start) + 3) * value + 2 * t * slope
        return EPS * total

    return noise


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dimension=st.integers(2, 5), functions=st.integers(1, 2))
def test_no_crossing_is_missed_with_nearly_degenerate_eigenvalues(data, dimension, functions):
    # eigenvalues down to 1e-13 from each other, normals such that each condition vanishes at D prescribed times
    gaps = data.draw(st.lists(st.floats(-13, 0.5), min_size=dimension - 1, max_size=dimension - 1))
    rates = data.draw(st.sampled_from([0.01, 1.0])) + np.concatenate([[0.0], np.cumsum(10.0 ** np.array(gaps))])
    assume(np.all(np.diff(rates) > 0))
    flow = diagonal_flow(rates)
    starts = st.lists(st.floats(-2, 2).map(lambda x: round(x, 6)), min_size=dimension, max_size=dimension)
    initial = np.array(data.draw(starts))
    limits, away, exact_rates = exact_modes(flow, initial)
    assume(all(abs(a) > 1e-3 for a in away))
    normals = []
    for _ in range(functions):
        apart = data.draw(st.lists(st.floats(-8, 0.5), min_size=dimension - 1, max_size=dimension - 1))
        times = np.cumsum(10.0 ** np.array(apart))
        # D − 1 of the D zeros that D + 1 exponentials may have are prescribed
        rows = mp.matrix(
            [[el + a * mp.exp(-r * t) for el, a, r in zip(limits, away, exact_rates, strict=True)] for t in times]
        )
        with mp.workdps(150):
            solved = mp.lu_solve(rows[:, 1:], -rows[:, 0])
        normal = np.array([1.0, *map(float, solved)])
        normals.append(data.draw(st.sampled_from([1, -1])) * normal / np.abs(normal).max())
    unit = weight_noise(flow, initial)

    def condition(normal):
        size = float(np.linalg.norm(normal))
        constant = mp.fsum(mp.mpf(n) * el for n, el in zip(normal, limits, strict=True))
        amplitudes = [mp.mpf(n) * a for n, a in zip(normal, away, strict=True)]
        return Exact([constant, *amplitudes], [0, *exact_rates], noise=lambda t: size * unit(t))

    exact = [condition(normal) for normal in normals]
    final, index = flow.cone_time(np.array(normals), initial, return_index=True)
    check_last_violation(exact, final, index, np.inf)
    first = flow.cone_time(np.array(normals), initial, "first")
    check_first_entry(exact, first, np.inf)


def grazing_flow(rng, dimension):
    """A flow, its start, and the gap with which it just touches the cone of zero test error, from one side or other."""
    while True:
        rates, initial = 10.0 ** np.sort(rng.uniform(-2, 2, dimension)), rng.uniform(-2, 2, dimension)
        flow = diagonal_flow(rates)

        def share(t, flow=flow, initial=initial):
            w = flow.weights(t, initial)
            return w[..., 0] ** 2 / (w**2).sum(axis=-1)

        grid = np.concatenate([[0.0], np.logspace(-4, 4, 400)])
        values = share(grid)
        turning = np.flatnonzero(np.diff(np.sign(np.diff(values)))) + 1
        turning = turning[(values[turning] > 1e-4) & (values[turning] < 1 - 1e-9) & (grid[turning] < 10 / rates[0])]
        if turning.size:
            k = rng.choice(turning)
            sign = 1 if values[k] < values[k - 1] else -1
            bounds = grid[k - 1], grid[k + 1]
            options = {"xatol": 1e-12}
            touch = minimize_scalar(lambda t, s=sign: s * share(t), bounds=bounds, method="bounded", options=options)
            return flow, initial, float(np.sqrt(1 / share(touch.x)))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dimension=st.integers(2, 4),
    lift=st.sampled_from([0.0, 1e-15, -1e-15, 1e-13, -1e-13, 1e-10, -1e-10, 1e-7, -1e-7]),
)
def test_no_touch_of_the_test_cone_is_missed(seed, dimension, lift):
    flow, initial, touching = grazing_flow(np.random.default_rng(seed), dimension)
    gap = touching * (1 + lift)
    limits, away, exact_rates = exact_modes(flow, initial)
    unit = weight_noise(flow, initial)
    signs = [(mp.mpf(gap) - 1) * (mp.mpf(gap) + 1)] + [mp.mpf(-1)] * (dimension - 1)
    coefficients, powers = [mp.fsum(s * el**2 for s, el in zip(signs, limits, strict=True))], [mp.mpf(0)]
    for s, el, a, r in zip(signs, limits, away, exact_rates, strict=True):
        coefficients += [2 * s * el * a, s * a**2]
        powers += [r, 2 * r]

    def noise(t):
        w = [abs(el + a * mp.exp(-r * t)) for el, a, r in zip(limits, away, exact_rates, strict=True)]
        sizes = [abs(s) * x for s, x in zip(signs, w, strict=True)]
        squares = mp.fsum(size * x for size, x in zip(sizes, w, strict=True))
        return 2 * mp.fsum(sizes) * unit(t) + (dimension + 2) * EPS * squares

    cone = Exact(coefficients, powers, noise=noise)
    axis = Exact([limits[0], away[0]], [mp.mpf(0), exact_rates[0]], noise=unit)
    model = BallModel(dimension=dimension, class_gap=gap)
    final = float(flow.zero_test_time(initial, model))
    if np.isfinite(final) and final > 0:  # which condition it was is not told: the one that is closer to zero
        index = min((0, 1), key=lambda m: abs((cone, axis)[m].ratio(final)))
    else:
        index = (
            -1 if final == 0 else min((0, 1), key=lambda m: (cone, axis)[m].ratio(mp.mpf(10) ** 6 / min(exact_rates)))
        )
    check_last_violation([cone, axis], final, index, np.inf)
    check_first_entry([cone, axis], float(flow.zero_test_time(initial, model, "first")), np.inf)


def test_the_sign_of_a_condition_that_vanishes_in_the_limit():
    # x ⊥ w_∞ exactly: in the end the slowest mode decides, however small it has become
    flow = GradientFlow(np.diag([1.0, 2.0]) * np.sqrt(2), [1, 1], l2=0.0)
    limit = flow.stationary()
    normal = np.array([[limit[1], -limit[0]]])
    for sign in (1.0, -1.0):
        initial = limit + sign * np.array([1.0, 0.5])
        assert flow.cone_time(normal, initial) == (0.0 if sign > 0 else np.inf)
        # the fast mode has the other sign and wins at first
        initial = limit + sign * np.array([1.0, 9.0])
        swap = np.log(9.0 * limit[0] / limit[1]) / 3.0  # rates 1 and 4
        assert_allclose(flow.cone_time(normal, initial), swap if sign > 0 else np.inf, rtol=1e-13)
        assert_allclose(flow.cone_time(normal, initial, "first"), swap if sign > 0 else 0.0, rtol=1e-13)


def test_degenerate_eigenvalues_by_symmetry():
    # three equal features: two equal eigenvalues 0 + λ₂, whose eigenvectors are arbitrary
    inputs, ball = np.ones((2, 3)) * np.array([[1.0], [-1.0]]), BallModel(dimension=3, class_gap=2.0)
    flow = GradientFlow(inputs, [1, -1], l2=0.1)
    initial = np.array([-0.3, 0.2, 0.5])
    slow, fast = 0.1, 3.1
    mean = initial.mean()
    end = 1 / 3.1

    def w(t):
        return end + (mean - end) * np.exp(-fast * t) + (initial - mean) * np.exp(-slow * t)

    times = np.array([0.0, 0.5, 20.0])
    assert_allclose(flow.weights(times, initial), np.array([w(t) for t in times]), atol=1e-15)

    def functions(ts):
        return np.array([[4 * w(t)[0] ** 2 - (w(t) ** 2).sum(), w(t)[0]] for t in ts])

    expected = grid_times(functions, np.linspace(0, 200, 20_001))
    ours = flow.zero_test_time(initial, ball, "first"), flow.zero_test_time(initial, ball)
    assert_allclose(ours, expected, atol=1e-11)
    # w₁ − w₂ never changes sign: (w(0)₁ − w(0)₂) e^{−λ₂t}
    assert flow.cone_time([[1.0, -1.0, 0.0]], initial) == np.inf
    assert flow.cone_time([[-1.0, 1.0, 0.0]], initial) == 0.0


# --- conventions ---


def test_the_printed_condition_lacks_the_sign_of_w1():
    # Eq. 25 as printed, |w⊥|² ≤ (ε² − 1)w₁², holds from the start for −e₁, where the test error is 1
    model = BallModel(dimension=2, class_gap=2.0)
    flow, initial = GradientFlow([[1.0, 0.0], [-1.0, 0.0]], [1, -1], l2=0.0), np.array([-1.0, 0.0])
    assert model.class_gap**2 * initial[0] ** 2 >= (initial**2).sum()
    assert model.test_error(initial) == 1.0
    assert_allclose(flow.zero_test_time(initial, model), np.log(2), rtol=1e-14)  # w₁ = 1 − 2e^{−t}


def test_already_zero_is_zero_and_never_is_infinite():
    model = BallModel(dimension=2, class_gap=2.0)
    flow = GradientFlow([[1.0, 0.0], [-1.0, 0.0]], [1, -1], l2=0.5)
    for which in ("first", "final"):
        assert flow.zero_train_time([0.5, 0.0], which) == 0.0
        assert flow.zero_test_time([0.5, 0.0], model, which) == 0.0
    contradiction = GradientFlow([[1.0, 0.0], [1.0, 0.0]], [1, -1], l2=0.5)
    for which in ("first", "final"):
        assert contradiction.zero_train_time([0.5, 0.3], which) == np.inf
        assert contradiction.zero_test_time([-0.5, 0.3], model, which) == np.inf
    empty = GradientFlow([[0.0, 0.0]], [1], l2=0.0)  # a sample at zero is always on the plane
    assert empty.zero_train_time([1.0, 1.0]) == np.inf
    # without data and ridge nothing moves
    assert_array_equal(empty.weights([0.0, 9.0], [1.0, 2.0]), [[1.0, 2.0]] * 2)
    assert empty.zero_test_time([1.0, 0.5], model) == 0.0


def test_weights_that_start_at_zero_have_the_infimum():
    # sgn(0) is no label, but every later time is right
    model = BallModel(dimension=2, class_gap=2.0)
    flow = GradientFlow([[1.0, 0.0], [-1.0, 0.0]], [1, -1], l2=0.0)
    for which in ("first", "final"):
        assert flow.zero_train_time([0.0, 0.0], which) == 0.0
        assert flow.zero_test_time([0.0, 0.0], model, which) == 0.0


def test_no_gap_is_never_enough():
    # ε = 1: w must lie on the axis, which e^{−Gt} does not reach; ε < 1: the classes overlap
    flow = GradientFlow([[1.0, 0.0], [-1.0, 0.0]], [1, -1], l2=0.5)
    for gap in (0.0, 0.9, 1.0):
        assert flow.zero_test_time([1.0, 0.1], BallModel(dimension=2, class_gap=gap)) == np.inf
    assert flow.zero_test_time([1.0, 0.0], BallModel(dimension=2, class_gap=1.0)) == 0.0
    line = GradientFlow([[1.0], [-1.0]], [1, -1], l2=0.5)
    assert_allclose(line.zero_test_time([-1.0], BallModel(dimension=1, class_gap=1.0)), np.log(2.5) / 1.5, rtol=1e-14)


def test_the_index_names_the_normal_that_is_crossed_last():
    flow = GradientFlow(np.eye(2) * np.sqrt(2), [1, 1], l2=0.0)  # w = (1 − (1 − √2 w(0)) e^{−t})/√2
    initial = np.array([[-1.0, -3.0], [-3.0, -1.0], [1.0, 1.0]])
    time, index = flow.cone_time(np.eye(2), initial, return_index=True)
    late = np.log(1 + 3 * np.sqrt(2))
    assert_allclose(time, [late, late, 0.0], rtol=1e-14)
    assert_array_equal(index, [1, 0, -1])
    time, index = flow.cone_time(-np.eye(2), initial, return_index=True)
    assert np.isinf(time).all()
    time, index = flow.cone_time(-np.eye(2), initial, "first", return_index=True)
    assert_array_equal(time, [0.0, 0.0, np.inf])
    assert_array_equal(index, [-1, -1, -1])


# --- shapes and batches ---


def test_shapes_of_results():
    model = BallModel(dimension=3, class_gap=1.5)
    inputs, labels, initial = draw(0, 4, 3)
    flow = GradientFlow(inputs, labels)
    assert flow.weights(1.0, initial).shape == (3,)
    assert flow.weights([1.0], initial).shape == (1, 3)
    assert flow.weights(np.ones((2, 5)), initial).shape == (2, 5, 3)
    assert flow.stationary().shape == flow.stationary(initial).shape == (3,)
    for time in (flow.zero_train_time(initial), flow.zero_test_time(initial, model)):
        assert np.ndim(time) == 0
        assert isinstance(float(time), float)
    many = np.ones((7, 1, 3))
    assert flow.weights([1.0, 2.0], many).shape == (7, 1, 2, 3)
    assert flow.zero_train_time(many).shape == (7, 1)
    assert flow.zero_test_time(np.ones((0, 3)), model).shape == (0,)
    sets = GradientFlow(*draw(0, 4, 3, 5, 1)[:2])
    assert sets.weights([1.0, 2.0], np.ones((6, 3))).shape == (5, 6, 2, 3)
    assert sets.stationary().shape == (5, 1, 3)
    assert sets.stationary(np.ones((6, 3))).shape == (5, 6, 3)
    assert sets.zero_test_time(np.ones((6, 3)), model).shape == (5, 6)
    assert sets.cone_time(np.ones((6, 2, 3)), np.ones(3)).shape == (5, 6)


@pytest.mark.parametrize("l1", [0.0, 0.1])
def test_batches_equal_single_flows(l1, monkeypatch):
    model = BallModel(dimension=4, class_gap=1.3)
    inputs, labels = model.sample(4, 2, size=(3, 1))
    initial, times = np.random.default_rng(1).standard_normal((40, 4)), np.array([0.0, 0.7, 3.0])
    options = {"l1": l1, "l2": 0.05}

    def everything(flow, initial):
        return (
            flow.weights(times, initial),
            flow.stationary(initial),
            *(flow.zero_train_time(initial, which) for which in ("first", "final")),
            *(flow.zero_test_time(initial, model, which) for which in ("first", "final")),
        )

    together = everything(GradientFlow(inputs, labels, **options), initial)
    for i in range(3):
        for j in range(0, 40, 8):
            alone = everything(GradientFlow(inputs[i, 0], labels[i, 0], **options), initial[j])
            for many, single in zip(together, alone, strict=True):
                assert_allclose(many[i, j], single, rtol=1e-13, atol=1e-15)
    # nor do the size of the blocks and the number of threads matter
    for flows, shared, workers in ((5, 32, 1), (17, 2, 3), (1000, 10_000, 2)):
        monkeypatch.setattr(gradient_flow, "_BLOCK_FLOWS", flows)
        monkeypatch.setattr(gradient_flow, "_SHARED_FROM", shared)
        monkeypatch.setattr(gradient_flow, "_workers", lambda workers=workers: workers)
        for many, again in zip(together, everything(GradientFlow(inputs, labels, **options), initial), strict=True):
            assert_allclose(again, many, rtol=1e-13, atol=1e-15)


def test_labels_broadcast_over_data_sets():
    inputs, labels, initial = draw(4, 5, 3, 6)
    shared = GradientFlow(inputs, labels[0], l2=0.1)
    for k in range(6):
        expected = GradientFlow(inputs[k], labels[0], l2=0.1).weights(1.0, initial[k])
        assert_allclose(shared.weights(1.0, initial)[k], expected, rtol=1e-13)


# --- frozen, and bad input ---


def test_a_flow_does_not_change():
    inputs, labels, initial = draw(0, 4, 3)
    flow = GradientFlow(inputs, labels, l2=0.1)
    before = flow.weights(1.0, initial)
    inputs[:], labels[:] = 0.0, -labels  # the flow holds copies
    with pytest.raises(dataclasses.FrozenInstanceError):
        flow.l2 = 0.3
    for array in (flow.inputs, flow.labels, flow.gram, flow.correlation):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    flow.stationary()[:] = 9.0  # results belong to the caller
    flow.stationary(initial)[:] = 9.0
    assert_array_equal(flow.weights(1.0, initial), before)
    assert np.abs(flow.stationary()).max() < 9.0


GOOD = {"inputs": [[1.0, 0.0], [-1.0, 0.5]], "labels": [1, -1]}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": [1.0, 2.0]}, "inputs"),
        ({"inputs": [[np.nan, 0.0], [0.0, 1.0]]}, "inputs"),
        ({"inputs": np.zeros((2, 0))}, "inputs"),
        ({"labels": [1, 0]}, "labels"),
        ({"labels": [1, -1, 1]}, "labels"),
        ({"l1": -0.1}, "l1"),
        ({"l2": np.inf}, "l2"),
        ({"l2": [0.1, 0.2]}, "l2"),
    ],
)
def test_bad_data_names_the_argument(change, named):
    with pytest.raises(ValueError, match=named):
        GradientFlow(**{**GOOD, **change})


def test_bad_questions_name_the_argument():
    flow, ball = GradientFlow(**GOOD), BallModel(dimension=2, class_gap=2.0)
    with pytest.raises(ValueError, match="time"):
        flow.weights([-1.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="time"):
        flow.weights(np.inf, [0.0, 0.0])
    for question in (flow.zero_train_time, lambda w: flow.weights(1.0, w), flow.stationary):
        with pytest.raises(ValueError, match="initial"):
            question([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="which"):
        flow.zero_train_time([0.0, 0.0], "last")
    with pytest.raises(ValueError, match="which"):
        flow.zero_test_time([0.0, 0.0], ball, "last")
    with pytest.raises(ValueError, match="model must have dimension 2"):
        flow.zero_test_time([0.0, 0.0], BallModel(dimension=3, class_gap=2.0))
    with pytest.raises(ValueError, match="class_gap must be a single number"):
        flow.zero_test_time([0.0, 0.0], BallModel(dimension=2, class_gap=np.array([1.5, 2.0])))
    with pytest.raises(ValueError, match="normals"):
        flow.cone_time(np.zeros((0, 2)), [0.0, 0.0])
    with pytest.raises(ValueError, match="broadcast"):
        GradientFlow(*draw(0, 4, 3, 5)[:2]).zero_train_time(np.ones((4, 3)))
