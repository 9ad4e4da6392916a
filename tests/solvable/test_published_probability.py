"""The paper's formulas for the grokking probability: every line of ERRATA, printed and corrected."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from grokphase.solvable.ball import BallModel
from grokphase.solvable.ball_probability import stationary_weights
from grokphase.solvable.published import probability as published
from grokphase.solvable.published.probability import ball_probability


def ball(dimension, class_gap, l1=0.0, l2=0.0):
    return BallModel(dimension=dimension, class_gap=class_gap, l1=l1, l2=l2)


def monte_carlo(model, num, trials=20_000):
    return model.grokking_probability(num, "monte-carlo", trials=trials, rng=1)


# D, N, λ₂, ε, Eq. 30 as printed, accuracy of the corrected forms (ERRATA, table of quality)
SETTINGS = [
    (2, 10, 0.1, 1.01, 0.2563, 0.04),
    (4, 10, 0.1, 1.01, 0.0091, 0.12),
    (6, 20, 0.1, 1.01, 0.0011, 0.06),
    (5, 10, 3.0, 1.01, 0.2005, 0.04),
    (10, 50, 0.1, 1.01, 0.0001, 0.03),
]


@pytest.mark.parametrize(("dimension", "num", "l2", "gap", "printed", "accuracy"), SETTINGS)
def test_eq_30_printed_misses_where_the_corrected_holds(dimension, num, l2, gap, printed, accuracy):
    # the relative error of the large-N law plus 5 standard errors; the printed form is far outside
    model = ball(dimension, gap, 0.0, l2)
    estimate, stderr = monte_carlo(model, num)
    allowed = accuracy * estimate + 5 * stderr
    assert abs(ball_probability(model, num, 30) - estimate) < allowed
    assert abs(ball_probability(model, num, 86) - estimate) < allowed
    assert_allclose(ball_probability(model, num, 30, corrected=False), printed, atol=6e-5)
    assert abs(ball_probability(model, num, 30, corrected=False) - estimate) > allowed
    assert abs(ball_probability(model, num, 86, corrected=False) - estimate) > allowed


def test_eq_86_corrected_is_the_first_order_law_without_l1():
    num = np.array([1, 10, 1000])
    for model in (ball(2, 1.0), ball(7, 1.1, 0.0, 0.3), ball(30, 1.5, 0.0, 2.0)):
        assert_allclose(ball_probability(model, num, 86), model.grokking_probability(num), rtol=1e-10, atol=1e-300)


def test_eq_86_as_printed_multiplies_where_it_should_divide():
    model = ball(5, 1.01, 0.0, 0.1)
    estimate, stderr = monte_carlo(model, 50)
    assert_allclose(ball_probability(model, 50, 86, corrected=False), 1.5e-10, rtol=0.01)
    assert_allclose(ball_probability(model, 50, 86), 0.703, atol=5e-4)
    assert abs(ball_probability(model, 50, 86) - estimate) < 0.02 * estimate + 5 * stderr


def test_eq_82_spread_of_the_weights_across():
    # sd of w_j, D=5, N=400, λ₂=.1, ε=1.05: the standard error of an sd from 4·2000 weights is 0.8 %
    model, num = ball(5, 1.05, 0.0, 0.1), 400
    inputs, labels = model.sample(num, 0, size=2000)
    weights = stationary_weights(inputs, labels[0], np.array(0.0), np.array(0.1))
    measured = weights[:, 1:].std()
    corrected, printed = (spread_across(model, num, choice) for choice in (False, True))
    assert_allclose([corrected, printed], [0.01742, 0.01873], rtol=5e-4)
    assert abs(corrected / measured - 1) < 0.03
    assert abs(printed / measured - 1) > 0.05


def spread_across(model, num, printed):
    """Standard deviation of w_j to first order, Eq. 85: λ₁/L over the threshold of a model with some λ₁."""
    some = BallModel(dimension=model.dimension, class_gap=model.class_gap, l1=0.01, l2=model.l2)
    cone = published._first_order(some, np.array(float(num)), printed)
    return 0.01 / (model.l2 + 1 / (model.dimension + 2)) / cone.threshold


def test_eq_32_must_reduce_to_eq_30():
    plain, tiny = ball(3, 1.07, 0.0, 0.5), ball(3, 1.07, 1e-9, 0.5)
    limit = ball_probability(plain, 7, 30, corrected=False)
    assert_allclose(limit, 0.5636, atol=5e-5)
    assert_allclose(ball_probability(tiny, 7, 32), limit, rtol=1e-6)
    assert_allclose(ball_probability(tiny, 7, 32, corrected=False), 0.4063, atol=5e-4)


def test_eq_32_needs_the_excesses():
    # λ₂ = 50 is the formula's own regime. MC .6962; corrected .6854; chi-square, a lower estimate, .5756
    model = ball(3, 1.002, 0.04, 50.0)
    estimate, stderr = monte_carlo(model, 20)
    excess = ball_probability(model, 20, 32)
    chi2 = ball_probability(model, 20, 32, bound="chi2")
    printed = ball_probability(model, 20, 32, corrected=False)
    assert_allclose([excess, chi2], [0.6854, 0.5756], atol=5e-5)
    assert abs(excess - estimate) < 0.02 * estimate + 5 * stderr
    assert chi2 < estimate - 5 * stderr
    assert abs(printed - estimate) > 0.4 * estimate


def test_eq_32_as_printed_equals_sampling_of_its_law():
    # truncated, unshifted normal variables; |z| < 5, and the law of excesses as a control
    model, num, trials = ball(4, 1.05, 0.06, 5.0), 15, 400_000
    rng = np.random.default_rng(0)
    precision = 2 * num * 6
    ridge = 5.0 + 1 / 6
    limit = precision * (1.05**2 - 1) / (1 + (1.05 / ridge) ** 2) ** 2
    mean = rng.standard_normal(trials) / np.sqrt(precision)
    across = rng.standard_normal((trials, 3))
    total = np.where(np.abs(across) > 0.06 * np.sqrt(precision), across**2, 0).sum(axis=1)
    positive = mean + 1.05 - 0.06
    sampled = ((positive > 0) & (total <= limit * positive**2)).mean()
    stderr = np.sqrt(sampled * (1 - sampled) / trials)
    assert abs(ball_probability(model, num, 32, corrected=False) - sampled) < 5 * stderr
    assert abs(ball_probability(model, num, 32) - sampled) > 5 * stderr


def test_eq_33_is_eq_32_without_its_sum():
    model = ball(10, 1.0, 0.05, 0.1)  # at ε = 1 nothing else survives: .0055, while MC is .9367
    assert_allclose(ball_probability(model, 10, 33), 0.0055, atol=5e-5)
    for corrected in (False, True):
        assert_allclose(ball_probability(model, 10, 32, corrected), ball_probability(model, 10, 33), rtol=1e-9)
        assert_allclose(ball_probability(model, 10, 33, corrected), model.grokking_probability(10, "lower-bound"))
    estimate, _ = monte_carlo(model, 10)
    assert estimate > 0.9


def test_eq_89_probability_of_a_waking_weight_lacks_its_root():
    # D=5, N=200, λ₁=.01, λ₂=1: fraction of the 4·4000 weights across that do not rest: ±.004; the law itself is
    # off by a few percent, having no λ₁ in its coefficients
    model, num = ball(5, 1.05, 0.01, 1.0), 200
    inputs, labels = model.sample(num, 0, size=4000)
    weights = stationary_weights(inputs, labels[0], np.array(0.01), np.array(1.0))
    measured = (weights[:, 1:] != 0).mean()
    waking = {}
    for printed in (False, True):
        cut = published._first_order(model, np.array(float(num)), printed).cut
        waking[printed] = float(published.special.erfc(cut / np.sqrt(2)))
    assert abs(waking[False] - measured) < 0.02 + 5 * 0.004
    assert waking[True] < 0.6 * measured


@pytest.mark.parametrize(
    ("dimension", "num", "l1", "l2", "gap"), [(5, 200, 0.005, 1.0, 1.002), (3, 50, 0.02, 0.5, 1.005)]
)
def test_eq_89_printed_misses_where_the_corrected_holds(dimension, num, l1, l2, gap):
    # 5 %: λ₁ is not in the coefficients here (ERRATA row 88)
    model = ball(dimension, gap, l1, l2)
    estimate, stderr = monte_carlo(model, num)
    assert abs(ball_probability(model, num, 89) - estimate) < 0.05 * estimate + 5 * stderr
    assert abs(ball_probability(model, num, 89, corrected=False) - estimate) > 0.05 * estimate + 5 * stderr
    assert ball_probability(model, num, 89, bound="chi2") < ball_probability(model, num, 89)


def test_eq_89_reduces_to_eq_86():
    # at λ₁ = 1e-9 one coordinate moves by 1e-9 of its spread × 10³
    num = np.array([10, 50])
    exact = ball_probability(ball(5, 1.03, 0.0, 0.1), num, 86)
    assert_allclose(ball_probability(ball(5, 1.03, 1e-9, 0.1), num, 89), exact, rtol=1e-5)


def test_eq_88_is_better_with_l1_in_the_coefficients():
    # D=5, N=10, λ₁=.1, λ₂=1, all weights across at rest: MC .8311, with λ₁ .8296, Eq. 90 corrected .8791
    model = ball(5, 1.01, 0.1, 1.0)
    inputs, labels = model.sample(10, 0, size=20_000)
    weights = stationary_weights(inputs, labels[0], np.array(0.1), np.array(1.0))
    measured = ((weights[:, 1:] == 0).all(axis=1) & (weights[:, 0] > 0)).mean()
    stderr = np.sqrt(measured * (1 - measured) / 20_000)
    assert_allclose(ball_probability(model, 10, 90), 0.8791, atol=5e-5)
    assert abs(measured - 0.8311) < 5 * stderr
    touching = ball(5, 1.0, 0.1, 1.0)  # at ε = 1 the first-order law is this chance; ε hardly moves it
    assert abs(touching.grokking_probability(10) - measured) < 5 * stderr + 0.005
    assert abs(ball_probability(model, 10, 90) - measured) > 10 * stderr


def test_eq_90_needs_both_roots_to_reduce_to_eq_33():
    # λ₂ → ∞ with λ₂ ≫ ε²: Eq. 87 turns Eq. 90 into Eq. 33; corrections are of order ε²/λ₂
    model = ball(4, 1.1, 0.05, 1e6)
    assert_allclose(ball_probability(model, 12, 90), ball_probability(model, 12, 33), rtol=1e-4)
    assert abs(ball_probability(model, 12, 90, corrected=False) / ball_probability(model, 12, 33) - 1) > 0.1
    assert_allclose(
        ball_probability(ball(10, 1.0, 0.05, 0.1), 10, 89), ball_probability(ball(10, 1.0, 0.05, 0.1), 10, 90)
    )


def test_fig_8_was_drawn_with_the_wrong_coefficient():
    # D=20, ε=1.2, N=10, λ₂=.1: plotted ~.92 is Eq. 86 divided but with α₃ as printed; truth 1.0000
    model = ball(20, 1.2, 0.0, 0.1)
    wrong = published._first_order(model, np.array(10.0), printed=True)
    ridge = 0.1 + 1 / 22
    right = published._first_order(model, np.array(10.0), printed=False)
    alpha3 = 1 / ridge - 1.2 / (ridge * (ridge + 1.44))
    alpha4 = -1.2 / (ridge * (ridge + 1.44))
    variance = (alpha3**2 + alpha4**2 / 24) / (2 * 10 * 22)
    divided = published.cone_probability(right.margin, wrong.slope / variance, wrong.threshold, 19)
    assert_allclose(divided, 0.9159, atol=5e-5)
    assert ball_probability(model, 10, 86) > 0.9999
    assert monte_carlo(model, 10, 2000)[0] > 0.998


def test_everything_broadcasts():
    gaps, l1 = np.array([1.0, 1.1])[:, None], np.array([0.01, 0.1, 0.3])
    model = BallModel(dimension=4, class_gap=gaps, l1=l1, l2=0.5)
    for equation in (32, 33, 89, 90):
        for corrected in (False, True):
            table = ball_probability(model, [3, 10, 40], equation, corrected)
            assert table.shape == (2, 3)
            assert ((table >= 0) & (table <= 1 + 1e-12)).all()
            alone = ball_probability(ball(4, 1.1, 0.1, 0.5), 10, equation, corrected)
            assert_allclose(table[1, 1], alone, rtol=1e-10)
    model = BallModel(dimension=4, class_gap=gaps, l2=np.array([0.0, 1.0, 5.0]))
    for equation in (30, 86):
        assert ball_probability(model, 10, equation).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"equation": 31}, "equation"),
        ({"equation": 30}, "l1"),
        ({"equation": 86}, "l1"),
        ({"equation": 33, "bound": "chi2"}, "bound"),
        ({"equation": 32, "bound": "exact"}, "bound"),
        ({"equation": 32, "samples_per_class": 0}, "samples_per_class"),
        ({"equation": 32, "model": BallModel(dimension=3, class_gap=0.9)}, "class_gap"),
        ({"equation": 32, "model": 3}, "model"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        ball_probability(**{"model": ball(3, 1.2, 0.1), "samples_per_class": 5, **arguments})
