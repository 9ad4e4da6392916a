"""Grokking probability of the ball model: law of excesses, first-order theory, lower bound, Monte Carlo."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, special

from grokphase.solvable import ball_probability as laws
from grokphase.solvable.ball import BallModel


def ball(dimension, class_gap, l1=0.0, l2=0.0):
    return BallModel(dimension=dimension, class_gap=class_gap, l1=l1, l2=l2)


# --- law of the sum of squared excesses ---


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.1, 1.0, 3.0, 6.0, 40.0])
def test_one_squared_excess_is_an_error_function(threshold):
    value = np.array([0.0, 1e-300, 1e-12, 1e-6, 1e-3, 0.1, 1.0, 5.0, 20.0, 1e3])
    exact = special.erf((threshold + np.sqrt(value)) / np.sqrt(2))
    assert_allclose(laws.squared_excess_cdf(value, np.array(threshold), 1), exact, rtol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 7, 40, 300])
def test_contour_without_threshold_is_chi_square(count):
    # any threshold above 0 takes the contour; 1e-16 moves the law by less than rounding
    value = count * np.array([1e-4, 0.01, 0.1, 0.5, 0.99, 1.0, 1.01, 2.0, 5.0])
    exact = special.gammainc(count / 2, value / 2)
    keep = exact > 1e-250
    cdf = laws.squared_excess_cdf(value, np.array(1e-16), count)
    assert_allclose(cdf[keep], exact[keep], rtol=1e-12)
    assert_allclose(laws.squared_excess_cdf(value, np.array(0.0), count), exact, rtol=1e-15)


@pytest.mark.parametrize(
    ("threshold", "value"), [(0.3, 1e-4), (0.3, 0.7), (1.2, 0.01), (1.2, 3.0), (2.5, 0.5), (2.5, 30.0)]
)
def test_two_squared_excesses_by_quadrature(threshold, value):
    # condition on the first coordinate; quad's own error bound is the tolerance
    def given_first(g):
        left = value - max(abs(g) - threshold, 0) ** 2
        return special.erf((threshold + np.sqrt(max(left, 0))) / np.sqrt(2)) * np.exp(-g * g / 2)

    end = threshold + np.sqrt(value)
    integral = integrate.quad(given_first, 0, end, points=[threshold], epsabs=1e-13, epsrel=1e-12)[0]
    exact = 2 * integral / np.sqrt(2 * np.pi)
    assert_allclose(laws.squared_excess_cdf(np.array(value), np.array(threshold), 2), exact, rtol=1e-10)


def test_deep_lower_tail_of_many_excesses():
    # Pr(S ≤ x) = Σ_k C(n,k) p₀^{n−k} Pr(k excesses, S_k ≤ x); for tiny x the k excesses have density (2φ(s))^k,
    # so the k-th term is C(n,k) p₀^{n−k} (2φ(s))^k (πx)^{k/2} / (2^k Γ(k/2+1)) up to a factor 1 − O(s√x)
    count, threshold, value = 60, 0.3, 1e-14
    k = np.arange(count + 1)
    rest, density = special.erf(threshold / np.sqrt(2)), 2 * np.exp(-(threshold**2) / 2) / np.sqrt(2 * np.pi)
    terms = special.binom(count, k) * rest ** (count - k) * (density * np.sqrt(np.pi * value) / 2) ** k
    exact = (terms / special.gamma(k / 2 + 1)).sum()
    assert exact < 1e-37
    # relative 60 · s√x ≈ 2e-6 from the neglected factor; the atom alone is off by 2e-5
    cdf = laws.squared_excess_cdf(np.array(value), np.array(threshold), count)
    assert_allclose(cdf, exact, rtol=2e-6)
    assert not np.isclose(cdf, terms[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("count", "threshold"), [(4, 0.5), (19, 1.5), (100, 2.5)])
def test_law_of_excesses_equals_sampling(count, threshold):
    # 9 levels, |z| < 5: false-alarm rate 5e-6. Control: a chi-square law of the excesses' own mean must fail
    rng = np.random.default_rng(count)
    excess = np.maximum(np.abs(rng.standard_normal((100_000, count))) - threshold, 0)
    total = (excess**2).sum(axis=1)
    levels = np.quantile(total, np.linspace(0.1, 0.9, 9)) * 1.01 + 1e-9
    counted = (total[:, None] <= levels).mean(axis=0)
    cdf = laws.squared_excess_cdf(levels, np.array(threshold), count)
    stderr = np.sqrt(cdf * (1 - cdf) / total.size)
    assert (np.abs(counted - cdf) < 5 * stderr).all()
    wrong = special.gammainc(count / 2, levels / 2 * count / total.mean())
    assert (np.abs(counted - wrong) > 5 * stderr).any()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 200),
    threshold=st.floats(0, 10),
    values=st.lists(st.floats(0, 1e4), min_size=2, max_size=6).map(sorted),
)
def test_law_of_excesses_is_a_distribution_function(count, threshold, values):
    # 2e-12: rounding of the contour sum may break monotony at its own accuracy
    cdf = laws.squared_excess_cdf(np.array(values), np.array(threshold), count)
    assert (np.diff(cdf) >= -2e-12).all()
    assert (cdf >= special.erf(threshold / np.sqrt(2)) ** count * (1 - 1e-12)).all()
    assert (cdf <= 1).all()
    higher = laws.squared_excess_cdf(np.array(values), np.array(threshold + 0.5), count)
    assert (higher >= cdf - 2e-12).all()


# --- first order ---


def first_order_by_mpmath(dimension, num, l2, gap):
    """App. B with λ₁ = 0, coefficients of Eq. 82 corrected, by adaptive quadrature with 30 digits."""
    with mp.workdps(30):
        d, n, eps = mp.mpf(dimension), mp.mpf(num), mp.mpf(gap)
        ridge = mp.mpf(l2) + 1 / (d + 2)
        q = ridge + eps**2
        alpha1, alpha2 = 1 / q - 2 * eps**2 / q**2, -eps / q**2
        alpha3, alpha4 = 1 / q, -eps / (ridge * q)
        sigma = mp.sqrt(alpha1**2 / (2 * n * (d + 2)) + alpha2**2 * (d + 1) / (n * (d + 2) ** 2 * (d + 4)))
        variance = alpha3**2 / (2 * n * (d + 2)) + alpha4**2 / (2 * n * (8 + 6 * d + d**2))
        mean = eps / q

        def given_w1(g):
            limit = (eps**2 - 1) * (mean + sigma * g) ** 2 / variance
            return mp.npdf(g) * mp.gammainc((d - 1) / 2, 0, limit / 2, regularized=True)

        start = max(-mean / sigma, mp.mpf(-13))
        return mp.quad(given_w1, mp.linspace(start, 13 + mp.sqrt(d), 40))


@pytest.mark.parametrize(
    ("dimension", "num", "l2", "gap"),
    [(2, 1, 0, 1.01), (2, 10, 0.1, 1.01), (10, 10, 0.1, 1.01), (50, 10, 0.1, 1.05), (100, 1, 0.1, 1.0001)],
)
def test_first_order_equals_mpmath(dimension, num, l2, gap):
    # down to 3e-155; 1e-12 from the rounding of gammainc for large shape parameters
    exact = float(first_order_by_mpmath(dimension, num, l2, gap))
    assert_allclose(ball(dimension, gap, 0.0, l2).grokking_probability(num), exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("dimension", "num", "l1", "l2", "gap"),
    [(3, 10, 0.02, 0.1, 1.002), (10, 10, 0.05, 0.1, 1.0), (10, 10, 0.02, 0.1, 1.01), (6, 1, 0.3, 0.0, 1.01),
     (4, 5, 1.1, 0.2, 1.2), (4, 5, 1.3, 0.2, 1.2)],
)  # fmt: skip
def test_first_order_with_l1_equals_sampling_its_law(dimension, num, l1, l2, gap):
    # App. B with the λ₁ of ERRATA row 88, coefficients as in the paper; |z| < 5, false-alarm rate 6e-7 each
    rng = np.random.default_rng(dimension)
    trials = 200_000
    ridge, free = l2 + 1 / (dimension + 2), max(gap - l1, 0.0)
    q = ridge + gap**2
    alpha1, alpha2 = 1 / q - 2 * gap * free / q**2, -free / q**2
    alpha3, alpha4 = (1 - gap * free / q) / ridge, -free / (ridge * q)
    one = 1 / (2 * num * (dimension + 2))
    w1 = (gap - l1) / q + alpha1 * np.sqrt(one) * rng.standard_normal(trials)
    w1 += (
        alpha2 * np.sqrt((dimension + 1) / (num * (dimension + 2) ** 2 * (dimension + 4))) * rng.standard_normal(trials)
    )
    across = alpha3 * np.sqrt(one) * rng.standard_normal((trials, dimension - 1))
    across += alpha4 * np.sqrt(one / (dimension + 4)) * rng.standard_normal((trials, dimension - 1))
    across = np.maximum(np.abs(across) - l1 / ridge, 0)
    sampled = ((w1 > 0) & ((across**2).sum(axis=1) <= (gap**2 - 1) * w1**2)).mean()
    theory = ball(dimension, gap, l1, l2).grokking_probability(num)
    stderr = np.sqrt(theory * (1 - theory) / trials)
    assert abs(sampled - theory) < 5 * stderr
    control = ball(dimension, gap, l1, l2).grokking_probability(2 * num)  # twice the data is another law
    assert abs(sampled - control) > 5 * stderr


def test_first_order_is_continuous_as_l1_vanishes():
    # at l1 = 1e-9 the law moves by about 1e-9 √(2N(D+2)) ≈ 2e-8 relative
    for dimension in (2, 10, 40):
        without = ball(dimension, 1.05, 0.0, 0.1).grokking_probability(10)
        assert_allclose(ball(dimension, 1.05, 1e-9, 0.1).grokking_probability(10), without, rtol=2e-6)


# D, N, λ₂, ε, first-order probability: ERRATA, table of quality, column "Eq 86 corrected"
QUALITY = [
    (2, 10, 0.1, 1.01, 0.5921),
    (4, 10, 0.1, 1.01, 0.1709),
    (6, 20, 0.1, 1.01, 0.1766),
    (10, 10, 0.1, 1.01, 0.0035),
    (5, 10, 0.0, 1.01, 0.0212),
    (5, 10, 3.0, 1.01, 0.4149),
    (10, 50, 0.1, 1.01, 0.4423),
    (20, 30, 0.1, 1.01, 0.0271),
    (20, 50, 0.1, 1.01, 0.2777),
    (20, 10, 0.1, 1.05, 0.3245),
    (20, 10, 0.1, 1.1, 0.9723),
]


@pytest.mark.parametrize(("dimension", "num", "l2", "gap", "expected"), QUALITY)
def test_first_order_reproduces_the_table_of_quality(dimension, num, l2, gap, expected):
    assert_allclose(ball(dimension, gap, 0.0, l2).grokking_probability(num), expected, atol=1.01e-4)


@pytest.mark.parametrize(
    ("dimension", "num", "l1", "l2", "gap", "accuracy"),
    [
        (2, 10, 0.0, 0.1, 1.01, 0.03),
        (4, 10, 0.0, 0.1, 1.01, 0.10),
        (6, 20, 0.0, 0.1, 1.01, 0.06),
        (5, 10, 0.0, 3.0, 1.01, 0.04),
        (10, 50, 0.0, 0.1, 1.01, 0.02),
        (3, 20, 0.04, 50.0, 1.002, 0.02),
        (10, 10, 0.05, 0.1, 1.0, 0.02),
        (5, 200, 0.01, 1.0, 1.0, 0.05),
        (5, 10, 0.1, 1.0, 1.0, 0.02),
        (3, 10, 1.2, 0.1, 1.2, 0.03),
        (3, 10, 1.25, 0.1, 1.2, 0.03),
    ],
)
def test_first_order_against_monte_carlo_where_it_holds(dimension, num, l1, l2, gap, accuracy):
    # `accuracy`: relative error of the large-N law (ERRATA, table of quality); 5 standard errors come on top
    model = ball(dimension, gap, l1, l2)
    estimate, stderr = model.grokking_probability(num, "monte-carlo", trials=20_000, rng=dimension)
    theory = model.grokking_probability(num)
    assert abs(theory - estimate) < accuracy * estimate + 5 * stderr


def test_first_order_fails_where_the_documentation_says():
    # D = 20, N = 10, ε = 1.05 at small λ₂: 40 % low; λ₂ = 0: 47 % high (ERRATA)
    for model, low, high in ((ball(20, 1.05, 0.0, 0.1), 0.55, 0.70), (ball(5, 1.01), 1.2, 1.8)):
        estimate, stderr = model.grokking_probability(10, "monte-carlo", trials=20_000, rng=1)
        ratio = model.grokking_probability(10) / estimate
        assert low < ratio < high
        assert abs(ratio - 1) * estimate > 5 * stderr


def test_probability_at_and_below_touching_balls():
    gaps = np.array([0.0, 0.5, 0.999, 1.0])
    assert_allclose(ball(4, gaps).grokking_probability(10), 0.0, atol=0)
    assert_allclose(ball(4, gaps[:3], 0.1).grokking_probability(10), 0.0, atol=0)
    assert ball(4, 1.0, 0.1).grokking_probability(10) > 0.5  # L1 alone can put w on the axis
    assert_allclose(ball(4, gaps[:3], 0.1).grokking_probability(10, "lower-bound"), 0.0, atol=0)
    estimate, _ = ball(4, gaps, 0.0, 0.1).grokking_probability(10, "monte-carlo", trials=500, rng=0)
    assert_allclose(estimate, 0.0, atol=0)


def test_one_dimension_asks_only_for_the_sign():
    # nothing lies across: P = Pr(w₁ > 0), and w₁ > 0 iff ε + x̄ > λ₁ exactly
    model = ball(1, 1.1, 1.05, 0.1)
    estimate, stderr = model.grokking_probability(5, "monte-carlo", trials=20_000, rng=3)
    assert abs(estimate - model.grokking_probability(5, "lower-bound")) < 5 * stderr + 0.005
    assert ball(1, 1.0).grokking_probability(3) > 0.999
    assert ball(1, 0.9).grokking_probability(3) == 0


@pytest.mark.parametrize("size", [1e-100, 1e50, 1e100])
def test_extreme_parameters_stay_probabilities(size):
    for model in (
        ball(5, 1.2, 0.1, size),
        ball(5, 1 + size),
        ball(5, 1.2, size, 0.1),
        ball(300, 1.01, 0.01, size),
    ):
        for method in ("first-order", "lower-bound"):
            probability = model.grokking_probability([1, 10**9], method)
            assert ((probability >= 0) & (probability <= 1)).all()
    assert_allclose(ball(5, 1 + 1e50).grokking_probability(3), 1.0)


def test_probabilities_broadcast():
    gaps, l1 = np.array([1.0, 1.05, 1.2])[:, None], np.array([0.0, 0.05])
    model = BallModel(dimension=6, class_gap=gaps, l1=l1, l2=0.1)
    num = np.array([2, 9])
    for method in ("first-order", "lower-bound"):
        table = model.grokking_probability(num, method)
        assert table.shape == (3, 2)
        for i, j in np.ndindex(table.shape):
            alone = ball(6, gaps[i, 0], l1[j], 0.1).grokking_probability(num[j], method)
            assert_allclose(table[i, j], alone, rtol=1e-12)
    with pytest.raises(ValueError, match="samples_per_class"):
        model.grokking_probability([1, 2, 3])


# --- lower bound, Eq. 33 ---


@pytest.mark.parametrize("l2", [0.0, 0.1, 5.0])
def test_lower_bound_lies_below(l2):
    num = np.array([1, 5, 20, 100])[:, None]
    l1 = np.array([0.01, 0.05, 0.2, 0.6])
    for dimension in (2, 5, 12):
        model = BallModel(dimension=dimension, class_gap=1.0, l1=l1, l2=l2)
        bound, theory = model.grokking_probability(num, "lower-bound"), model.grokking_probability(num)
        assert (bound <= theory * (1 + 1e-12)).all()
        assert (bound < 0.9 * theory).any()
    estimate, stderr = model.grokking_probability(20, "monte-carlo", trials=1000, rng=0)
    assert (model.grokking_probability(20, "lower-bound") <= estimate + 5 * stderr).all()


def test_claim_that_the_bound_reaches_0915():
    # min over D ≥ 2, ε ≥ 1 of max over λ₁ is at D = 2, ε = 1: .79355 (N = 1, λ₁ = .5837), .93738, .98003
    l1 = np.linspace(0.01, 0.99, 9801)
    for num, expected in ((1, 0.79355), (2, 0.93738), (3, 0.98003)):
        bound = ball(2, 1.0, l1, 100.0).grokking_probability(num, "lower-bound")
        assert_allclose(bound.max(), expected, atol=6e-6)
    # and the exact model at N = 1, D = 2, λ₂ = 100 stays below .915 too: best .775 at λ₁ = .6 (ERRATA)
    estimate, stderr = ball(2, 1.0, np.linspace(0.4, 0.8, 9), 100.0).grokking_probability(
        1, "monte-carlo", trials=20_000, rng=7
    )
    assert estimate.max() < 0.915 - 5 * stderr.max()
    assert abs(estimate.max() - 0.775) < 0.02


# --- Monte Carlo ---


def test_monte_carlo_agrees_with_the_definition_set_by_set():
    # the same sets solved one at a time by the textbook formula
    model, num, trials = ball(4, 1.05, 0.0, 0.1), 6, 300
    root = np.random.SeedSequence(np.random.default_rng(5).integers(2**63, size=2).tolist())
    points = next(iter(laws._blocks_of_sets(root, trials, num, 4)))
    labels = np.repeat([1.0, -1.0], num)
    hits = 0
    for x in points:
        inputs = x + 1.05 * labels[:, None] * np.eye(4)[0]
        w = np.linalg.inv(inputs.T @ inputs / (2 * num) + 0.1 * np.eye(4)) @ (inputs.T @ labels) / (2 * num)
        hits += model.test_error(w) == 0
    estimate, stderr = model.grokking_probability(num, "monte-carlo", trials=trials, rng=5)
    assert estimate == hits / trials
    assert_allclose(stderr, np.sqrt(estimate * (1 - estimate) / trials), rtol=0.02)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.2), (0.0, 0.0), (0.05, 0.2)])
@pytest.mark.parametrize(("num", "dimension"), [(3, 2), (4, 8), (3, 20)])
def test_stationary_weights_satisfy_the_optimality_conditions(l1, l2, num, dimension):
    if l1 and not l2 and dimension > 2 * num:
        l2 = 0.2
    rng = np.random.default_rng(0)
    inputs, labels = ball(dimension, 1.1).sample(num, rng, size=20)
    w = laws.stationary_weights(inputs, labels[0], np.array(l1), np.array(l2))
    gram = inputs.swapaxes(1, 2) @ inputs / (2 * num) + l2 * np.eye(dimension)
    pull = labels[0] @ inputs / (2 * num) - np.einsum("sij,sj->si", gram, w)
    assert_allclose(np.where(w == 0, 0, pull - l1 * np.sign(w)), 0, atol=1e-9)
    assert (np.abs(pull[w == 0]) <= l1 + 1e-12).all()
    if l1 == l2 == 0 and dimension > 2 * num:  # least norm: no component outside the span of the inputs
        assert_allclose(w, np.stack([np.linalg.pinv(x) @ labels[0] for x in inputs]), atol=1e-8)


def test_monte_carlo_does_not_depend_on_blocks_or_company(monkeypatch):
    gaps, l1, num = np.array([1.02, 1.1, 1.1])[:, None], np.array([0.0, 0.02]), np.array([4, 7])
    model = BallModel(dimension=6, class_gap=gaps, l1=l1, l2=0.1)
    table, stderr = model.grokking_probability(num, "monte-carlo", trials=1500, rng=11)
    assert table.shape == stderr.shape == (3, 2)
    for i, j in np.ndindex(table.shape):
        alone, _ = ball(6, gaps[i, 0], l1[j], 0.1).grokking_probability(num[j], "monte-carlo", trials=1500, rng=11)
        assert table[i, j] == alone
    assert (table[1] == table[2]).all()
    longer, _ = model.grokking_probability(num, "monte-carlo", trials=2300, rng=11)
    hits, more = np.rint(table * 1500), np.rint(longer * 2300)
    assert ((hits <= more) & (more <= hits + 800)).all()  # the longer run begins with the same sets
    monkeypatch.setattr(laws, "_BLOCK", 2**10)
    again, _ = model.grokking_probability(num, "monte-carlo", trials=1500, rng=np.random.default_rng(11))
    assert (again == table).all()
    rng = np.random.default_rng(11)
    first, second = (ball(6, 1.1).grokking_probability(4, "monte-carlo", trials=500, rng=rng)[0] for _ in range(2))
    assert first != second  # one generator, two calls: independent sets


def test_monte_carlo_standard_error_never_vanishes():
    for gap, expected in ((0.5, 0.0), (50.0, 1.0)):
        estimate, stderr = ball(3, gap, 0.0, 0.1).grokking_probability(5, "monte-carlo", trials=1000, rng=0)
        assert estimate == expected
        assert_allclose(stderr, np.sqrt(0.5) / 1000, rtol=0.01)


def test_monte_carlo_standard_error_covers():
    # 200 independent runs of 200 sets: variance of the z-scores is 1 ± 0.1 (5 sigma: ±0.5); control: half of it
    model = ball(3, 1.02, 0.0, 0.1)
    reference, _ = model.grokking_probability(10, "monte-carlo", trials=60_000, rng=1)
    runs = np.array([model.grokking_probability(10, "monte-carlo", trials=200, rng=seed) for seed in range(200)])
    spread = np.var((runs[:, 0] - reference) / runs[:, 1])
    assert 0.5 < spread < 1.5
    assert not 0.5 < 4 * spread < 1.5


# D → ∞ without L1: the sign of 2Nε²(ε²−1) − 1 decides (ERRATA, claims after Eq. 33)
@pytest.mark.parametrize(("gap", "goes_to_one"), [(1.05, True), (1.01, False)])
def test_many_dimensions_give_zero_or_one(gap, goes_to_one):
    assert (2 * 10 * gap**2 * (gap**2 - 1) > 1) == goes_to_one
    for l2 in (0.0, 0.1, 2.0):
        estimate, _ = ball(1000, gap, 0.0, l2).grokking_probability(10, "monte-carlo", trials=100, rng=0)
        assert estimate > 0.97 if goes_to_one else estimate < 0.03


def test_probability_need_not_fall_with_dimension():
    # Fig. 8's claim fails at ε = 1.1, N = 10, λ₂ = .1: MC .956 .954 .993 at D = 5, 10, 20 (ERRATA)
    values = [ball(d, 1.1, 0.0, 0.1).grokking_probability(10, "monte-carlo", trials=20_000, rng=d) for d in (5, 10, 20)]
    estimates, stderrs = np.array(values).T
    assert_allclose(estimates, [0.956, 0.954, 0.993], atol=5 * stderrs.max() + 5e-4)
    assert estimates[2] - estimates[1] > 5 * stderrs.max()
