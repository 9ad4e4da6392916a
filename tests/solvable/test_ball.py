"""Ball model: exact test error, sampling, input checks."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from grokphase.solvable.ball import BallModel

DIMENSIONS = [1, 2, 3, 5, 17, 128, 400, 10_000]


def exact_cap(h: float, dimension: int) -> mp.mpf:
    """Eq. 22 with 60 digits from the float h itself, through ½ I_{1−h²}((D+1)/2, ½)."""
    with mp.workdps(60):
        h, half = mp.mpf(h), mp.mpf(dimension + 1) / 2
        if h < 0:
            return 1 - exact_cap(-h, dimension)
        x = 1 - h * h
        # Euler's transformation: a series of positive terms, ₂F₁(1, a + ½; a + 1; x), for x away from 1
        if x < 0.995:
            series = mp.hyp2f1(1, half + mp.mpf(1) / 2, half + 1, x)
            return x**half * mp.sqrt(1 - x) * series / (2 * half * mp.beta(half, mp.mpf(1) / 2))
        slope = mp.gamma(half + mp.mpf(1) / 2) / (mp.sqrt(mp.pi) * mp.gamma(half))
        return mp.mpf(1) / 2 - slope * h * mp.hyp2f1(mp.mpf(1) / 2, 1 - half, mp.mpf(3) / 2, h * h)


def printed_cap(h: float, dimension: int) -> float:
    """Eq. 22 as printed, in double precision."""
    from scipy.special import gammaln, hyp2f1

    ratio = np.exp(gammaln(dimension / 2) - gammaln((dimension + 1) / 2))
    with np.errstate(all="ignore"):
        series = hyp2f1(0.5, (1 - dimension) / 2, 1.5, h * h)
        return 0.5 - dimension * ratio / (2 * np.sqrt(np.pi)) * h * series


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_error_at_equals_mpmath(dimension):
    # 1e-11: rounding of betainc grows with D (measured 3e-13 at D = 10⁴); the project's goal is 1e-10
    model = BallModel(dimension=dimension, class_gap=1.0)
    h = np.array([-1.0, -1 + 1e-14, -0.99, -0.5, -1e-9, 0.0, 1e-12, 1e-5, 0.01, 0.1, 0.2, 0.3, 0.7, 0.7072, 0.9])
    h = np.concatenate([h, 1 - 10.0 ** -np.arange(2, 16)])
    exact = np.array([float(exact_cap(x, dimension)) for x in h])
    normal = exact > 1e-290
    assert normal.sum() >= 10
    assert_allclose(model.test_error_at(h)[normal], exact[normal], rtol=1e-11)
    assert (model.test_error_at(h)[~normal] < 1e-289).all()


def test_printed_cap_volume_loses_all_digits():
    exact = float(exact_cap(0.9, 128))
    assert_allclose(exact, 1.1732e-48, rtol=1e-4)
    assert_allclose(BallModel(dimension=128, class_gap=1.0).test_error_at(0.9), exact, rtol=1e-12)
    assert not abs(printed_cap(0.9, 128) / exact - 1) < 1e6
    assert_allclose(printed_cap(0.3, 5), float(exact_cap(0.3, 5)), rtol=1e-12)  # the formula itself is right


def test_error_beyond_the_ball():
    model = BallModel(dimension=4, class_gap=1.0)
    assert_allclose(model.test_error_at([1.0, 2.0, np.inf]), 0.0, atol=0)
    assert_allclose(model.test_error_at([-1.0, -2.0, -np.inf]), 1.0, atol=0)


@given(h=st.floats(-1.5, 1.5), dimension=st.integers(1, 500))
def test_error_at_is_a_falling_probability_odd_around_one_half(h, dimension):
    model = BallModel(dimension=dimension, class_gap=1.0)
    error = model.test_error_at(h)
    assert 0 <= error <= 1
    assert_allclose(error + model.test_error_at(-h), 1.0, atol=2e-16)
    assert model.test_error_at(h + 0.01) <= error


@pytest.mark.parametrize("dimension", [1, 2, 3, 8, 30])
def test_error_near_the_transition_follows_eq_23(dimension):
    # E ≈ D 2^{(D−3)/2} Γ(D/2) / (√π Γ((D+3)/2)) (1−h)^ν; next term: relative size (1−h) D/4
    model = BallModel(dimension=dimension, class_gap=1.0)
    delta = np.array([1e-6, 1e-8])
    prefactor = float(
        dimension
        * mp.mpf(2) ** ((dimension - 3) / 2)
        * mp.gamma(dimension / 2)
        / (mp.sqrt(mp.pi) * mp.gamma((dimension + 3) / 2))
    )
    h = 1 - delta
    assert_allclose(model.test_error_at(h), prefactor * (1 - h) ** model.exponent, rtol=1e-5)
    assert model.exponent == (dimension + 1) / 2


@pytest.mark.parametrize(("dimension", "gap"), [(1, 0.4), (2, 0.3), (3, 1.3), (6, 2.0), (12, 0.8)])
def test_error_of_weights_equals_counting(dimension, gap):
    # 10 random directions, 2·10⁵ points: |z| < 5 for all has false-alarm rate 6e-6 per case
    rng = np.random.default_rng(dimension)
    model = BallModel(dimension=dimension, class_gap=gap)
    inputs, labels = model.sample(10**5, rng)
    weights = rng.standard_normal((10, dimension)) + 1.5 * (np.arange(dimension) == 0)
    counted = (weights @ inputs.T * labels < 0).mean(axis=1)
    error = model.test_error(weights)
    stderr = np.sqrt(error * (1 - error) / labels.size)
    assert (np.abs(counted - error) <= 5 * stderr).all()
    if dimension > 2 or gap > 1:  # control: the gap 3 % wider must show in at least one direction
        wide = BallModel(dimension=dimension, class_gap=gap * 1.03).test_error(weights)
        assert (np.abs(counted - wide) > 5 * stderr).any()


def test_error_of_weights_near_the_transition():
    # exact rational direction just inside: the rounding of |w⊥|² − (ε²−1)w₁² is a few 1e-16, 1−h² here 2e-7
    gap, slope = 1.25, 0.75 + 1e-7  # ε² − 1 = 0.75²
    model = BallModel(dimension=2, class_gap=gap)
    with mp.workdps(50):
        h = mp.mpf(gap) / mp.sqrt(1 + mp.mpf(slope) ** 2)
        exact = mp.betainc(1.5, 0.5, 0, 1 - h * h, regularized=True) / 2
    assert_allclose(model.test_error([1.0, slope]), float(exact), rtol=1e-8)
    assert model.test_error([1.0, 0.75]) == 0.0
    assert model.test_error([1.0, 0.7499]) == 0.0


@given(scale=st.sampled_from([1e-300, 1e-160, 1.0, 1e160, 1e300]), dimension=st.integers(1, 9))
def test_error_depends_only_on_direction(scale, dimension):
    model = BallModel(dimension=dimension, class_gap=1.1)
    weights = np.random.default_rng(dimension).standard_normal((5, dimension))
    assert_allclose(model.test_error(scale * weights), model.test_error(weights), rtol=1e-9, atol=1e-15)


def test_error_of_resting_weights_is_one():
    model = BallModel(dimension=3, class_gap=1.5)
    assert_allclose(model.test_error([[0.0, 0, 0], [0.0, 1, 0], [-1e-300, 0, 0]]), [1.0, 0.5, 1.0])


def test_error_broadcasts_over_gaps():
    weights = np.random.default_rng(0).standard_normal((4, 1, 3))
    gaps = np.array([0.5, 1.0, 2.0])
    errors = BallModel(dimension=3, class_gap=gaps).test_error(weights)
    assert errors.shape == (4, 3)
    for column, gap in enumerate(gaps):
        assert_allclose(errors[:, column], BallModel(dimension=3, class_gap=gap).test_error(weights[:, 0]))


# --- sampling ---


@pytest.mark.parametrize("dimension", [1, 2, 3, 10, 128])
def test_sample_is_uniform_in_the_ball(dimension):
    # r² has mean D/(D+2) and variance 4D/((D+4)(D+2)²); two z-scores below 5: false alarms 1e-6 per dimension
    num = 50_000
    model = BallModel(dimension=dimension, class_gap=1.2)
    inputs, labels = model.sample(num, 1)
    centred = inputs - 1.2 * labels[:, None] * np.eye(dimension)[0]
    squared = (centred**2).sum(axis=1)
    mean, variance = dimension / (dimension + 2), 4 * dimension / ((dimension + 4) * (dimension + 2) ** 2)
    assert squared.max() <= 1 + 1e-12
    assert abs(squared.mean() - mean) < 5 * np.sqrt(variance / (2 * num))
    assert abs(centred[:, 0].mean()) < 5 * np.sqrt(1 / (dimension + 2) / (2 * num))
    # Control: the paper's radius √U has mean r² = ½, which only D = 2 shares
    printed = np.random.default_rng(1).random(2 * num)
    agrees = abs(printed.mean() - mean) < 5 * np.sqrt(variance / (2 * num))
    assert agrees == (dimension == 2)
    assert labels.tolist() == [1.0] * num + [-1.0] * num


def test_sample_second_moments_are_those_of_table_2():
    # z-scores of ⟨x_i²⟩ and ⟨x_1² x_1²⟩ against Table 2, below 5 for all (false alarms 6e-6)
    dimension, num = 4, 100_000
    inputs, labels = BallModel(dimension=dimension, class_gap=0.0).sample(num, 2)
    for values, mean in (
        *((inputs[:, i] ** 2, 1 / (dimension + 2)) for i in range(dimension)),
        (inputs[:, 0] ** 4, 3 / (8 + 6 * dimension + dimension**2)),
        ((inputs[:, 0] * inputs[:, 1]) ** 2, 1 / (8 + 6 * dimension + dimension**2)),
    ):
        assert abs(values.mean() - mean) < 5 * values.std() / np.sqrt(labels.size)


def test_sample_inner_leaves_a_shell():
    # radius^D is uniform on (inner^D, 1): KS test, false-alarm rate 1e-5; without `inner` it must fail
    from scipy import stats

    inputs, _ = BallModel(dimension=3, class_gap=0.0).sample(5000, 3, inner=0.8)
    radius = np.linalg.norm(inputs, axis=1)
    assert radius.min() >= 0.8 - 1e-12
    assert stats.kstest((radius**3 - 0.8**3) / (1 - 0.8**3), "uniform").pvalue > 1e-5
    assert stats.kstest(radius**3, "uniform").pvalue < 1e-5


def test_sample_shift_moves_the_first_two_axes():
    inputs, labels = BallModel(dimension=128, class_gap=1.2).sample(200, 4, shift=10.0, inner=0.8)
    centred = labels[:, None] * inputs - 1.2 * np.eye(128)[0]
    # direction ≈ (10 e₁ + 10 e₂ + g)/√(200 + 128): 0.55 each, ±0.06 per sample
    assert_allclose(centred[:, :2].mean(axis=0), 10 / np.sqrt(328), atol=0.03)
    assert_allclose(centred[:, 2:].mean(), 0.0, atol=0.003)
    assert np.linalg.norm(centred, axis=1).min() >= 0.8


def test_sample_batches_and_gap_arrays():
    model = BallModel(dimension=2, class_gap=np.array([1.0, 3.0]))
    inputs, labels = model.sample(5, 5, size=(4, 2))
    assert inputs.shape == (4, 2, 10, 2)
    assert labels.shape == (4, 2, 10)
    assert (np.abs(inputs[:, 1, :, 0]) >= 2).all()
    assert model.sample(5, 5)[0].shape == (2, 10, 2)
    same = BallModel(dimension=2, class_gap=1.0)
    assert_allclose(same.sample(3, 7)[0], same.sample(3, np.random.default_rng(7))[0])


# --- boundary ---


def test_fig_8_settings_are_valid_and_models_are_values():
    model = BallModel(dimension=10, class_gap=1.01, l2=0.1)
    assert model == BallModel(dimension=10, class_gap=1.01, l1=0.0, l2=0.1)
    assert hash(model) == hash(BallModel(dimension=10, class_gap=1.01, l2=0.1))
    assert model != BallModel(dimension=10, class_gap=1.02, l2=0.1)
    assert model.exponent == 5.5
    with pytest.raises(AttributeError):
        model.class_gap = 2.0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"dimension": 0}, "dimension"),
        ({"dimension": 2.5}, "dimension"),
        ({"class_gap": -1.0}, "class_gap"),
        ({"class_gap": np.nan}, "class_gap"),
        ({"class_gap": 1e200}, "class_gap"),
        ({"l1": -0.1}, "l1"),
        ({"l2": "a"}, "l2"),
        ({"l1": [0.1, 0.2], "l2": [0.1, 0.2, 0.3]}, "l1 and l2"),
    ],
)
def test_bad_parameters_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        BallModel(**{"dimension": 3, "class_gap": 1.0, **arguments})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m: m.test_error([1.0, 2.0]), r"weights must have shape \(\.\.\., 3\)"),
        (lambda m: m.test_error([1.0, 2.0, np.inf]), "weights"),
        (lambda m: m.test_error(1.0), "weights"),
        (lambda m: m.test_error_at(np.nan), "h"),
        (lambda m: m.sample(0, 1), "samples_per_class"),
        (lambda m: m.sample(2, -1), "rng"),
        (lambda m: m.sample(2, 1, inner=1.0), "inner"),
        (lambda m: m.sample(2, 1, inner=-0.1), "inner"),
        (lambda m: m.sample(2, 1, shift=np.inf), "shift"),
        (lambda m: m.sample(2, 1, size=-1), "size"),
        (lambda m: m.grokking_probability(0), "samples_per_class"),
        (lambda m: m.grokking_probability(3, "exact"), "method"),
        (lambda m: m.grokking_probability(3, trials=5), "trials and rng"),
        (lambda m: m.grokking_probability(3, "monte-carlo"), "rng"),
        (lambda m: m.grokking_probability(3, "monte-carlo", trials=0, rng=1), "trials"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call(BallModel(dimension=3, class_gap=1.2, l1=0.1))


def test_grokking_time_needs_no_l1():
    with pytest.raises(ValueError, match="l1"):
        BallModel(dimension=3, class_gap=1.2, l1=0.1).grokking_time()
