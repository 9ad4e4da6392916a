"""Law of the grokking time: against quadrature of its defining integrals, printed formulas and real training sets."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln

import grokphase as gp
from grokphase.solvable._gamma_difference import gamma_difference_probability
from grokphase.solvable.exponential_time import GrokkingTimeLaw

# --- two independent routes to the law: Gauss-Legendre quadrature with half-integer Bessel functions ---

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def log_bessel(n, z):
    """Log K_ν(z) and K_ν/K_{ν−1} at ν = N − 1/2, by the upward recurrence of positive terms."""
    ratio, log_k = np.ones_like(z), 0.5 * np.log(np.pi / (2 * z)) - z
    for order in np.arange(0.5, n - 1):
        ratio = 1 / ratio + 2 * order / z
        log_k = log_k + np.log(ratio)
    return log_k, ratio


def panels(n, stop):
    """Nodes and weights for ∫₀^stop of functions that vary on the scale 1 or √N."""
    width = max(2.0, np.sqrt(2 * n) / 8)
    edges = np.linspace(0, stop, int(np.ceil(stop / width)) + 1)
    half = np.diff(edges) / 2
    nodes = edges[:-1, None] + half[:, None] * (1 + NODES)
    return nodes.ravel(), (half[:, None] * WEIGHTS).ravel()


def two_sides(n, e, c):
    """Sign and length of the intervals of positive and of negative z; on the latter g falls below e^{−60} g(0)."""
    return (1, e), (-1, min((1 + c) * e, 12 * np.sqrt(2 * n) + 60))


def scale_c(l2, time):
    return np.expm1((1 + l2) * time) / (1 + l2)


def density(n, gap, l2, time):
    """f(t) = (1/P) 2eˢ/(2+c)² ∫ (e−z) exp(−c(e−z)/(2+c)) g(z) dz, −(1+c)e < z < e, g the density of G_{N−1} − G′_N.

    G_N = G_{N−1} + Exp(1) gives g = (1 + d/dz) of the density |z|^ν K_ν(|z|) 2^{−ν}/(√π Γ(N)) of G_N − G′_N.
    """
    e, c, nu = 2 * n * gap, scale_c(l2, time), n - 0.5
    total = 0.0
    for sign, stop in two_sides(n, e, c):
        size, weights = panels(n, stop)
        log_k, ratio = log_bessel(n, size)
        with np.errstate(divide="ignore"):  # N = 1: no positive side
            log_g = nu * np.log(size / 2) + log_k + np.log(1 - sign / ratio) - gammaln(n) - 0.5 * np.log(np.pi)
        total += weights @ ((e - sign * size) * np.exp(log_g - c / (2 + c) * (e - sign * size)))
    return 2 * np.exp((1 + l2) * time - 2 * np.log(2 + c)) * total / gamma_difference_probability(n, e)


def survival(n, gap, l2, time):
    """Pr(t_G > t) = (1/P) ∫ C_N(x_min; x̄) dx̄ over |x̄| < ε_λ, with x_min = c(ε_λ − x̄) and Eq. 70 in one piece,

        C_N(m; x̄) = 2^{3/2−N} N^{N+1/2} e^{−Nm} u^{N−1/2} K_{N−1/2}(Nu) / (√π Γ(N)),    u = |2x̄ − m|,

    the joint density of x̄ and probability of x_min > m. Printed are Γ(n), and csc(πN)/Γ(1−N) = ∞·0 for 2x̄ < m.
    """
    e, c = 2 * n * gap, scale_c(l2, time)
    total = 0.0
    for sign, stop in two_sides(n, e, c):  # of 2x̄ − m
        size, weights = panels(n, stop)  # N u
        log_k, _ = log_bessel(n, size)
        smallest = c / (2 + c) * (e - sign * size)  # N x_min
        log_c = (1.5 - n) * np.log(2) + (n + 0.5) * np.log(n) - smallest + (n - 0.5) * np.log(size / n) + log_k
        total += weights @ np.exp(log_c - 0.5 * np.log(np.pi) - gammaln(n))
    return total / (n * (2 + c)) / gamma_difference_probability(n, e)  # dx̄ = du/(2 + c)


def mp_density(n, gap, l2, time):
    """The same f(t) in 30 digits, with g from Tricomi's function and P from Eq. 13."""
    with mp.workdps(30):
        eps, n = mp.mpf(gap), int(n)
        e, s = 2 * n * eps, (1 + mp.mpf(l2)) * mp.mpf(time)
        c = mp.expm1(s) / (1 + mp.mpf(l2))

        def g(z):
            before, after = (n - 1, n) if z > 0 else (n, n - 1)
            size = abs(z)
            power = mp.exp(-size) * size ** (2 * n - 2) * mp.rgamma(before)
            return power * mp.hyperu(after, 2 * n - 1, 2 * size)

        inner = [k for k in (-80, -40, -20, -10, -5, -2, 0, 2, 5, 10, 20, 40) if -(1 + c) * e < k < e]
        cuts = [max(-(1 + c) * e, mp.mpf(-120)), *inner, e]
        integral = mp.quad(lambda z: (e - z) * mp.exp(-c / (2 + c) * (e - z)) * g(z), cuts)
        order = n - mp.mpf(1) / 2
        norm = 2 * mp.mpf(n) ** (n + mp.mpf(1) / 2) / (mp.sqrt(mp.pi) * mp.gamma(n))
        total = 2 * mp.quad(lambda x: norm * x**order * mp.besselk(order, 2 * n * x), mp.linspace(0, eps, 9))
        return 2 * mp.exp(s) / (2 + c) ** 2 * integral / total


CASES = [
    (n, gap, l2)
    for n, gaps in (
        (1, (0.01, 0.5, 4.0)),
        (2, (1e-3, 0.4)),
        (3, (0.05, 2.0)),
        (10, (0.01, 0.4, 3.0)),
        (100, (0.01, 0.4, 2.0)),
        (1000, (1e-3, 0.05, 0.4, 1.0)),
    )
    for gap in gaps
    for l2 in (0.0, 0.7)
]


def times(law):
    """Times from far inside the body to deep in the tail (probabilities down to 1e-250)."""
    body = law.ppf([1e-3, 0.2, 0.7, 0.999])
    late = np.geomspace(body[-1], 400, 200)
    deep = late[law.logsf(late) > np.log(1e-250)][-1]
    return [0.0, *body, np.sqrt(body[-1] * deep), deep]


def rounding(n, gap):
    """Both sides add up logarithms of size L = 2Nε + N log N with N rounding errors at random: 3e-11 at N = 1000.

    The goal is 1e-8. In the tails of 1e-250 the logarithm of the result loses another 1e-12.
    """
    return 1e-12 + 1e-16 * (2 * n * gap + n * np.log(n)) * np.sqrt(n)


@pytest.mark.parametrize(("n", "gap", "l2"), CASES)
def test_density_and_survival_match_quadrature(n, gap, l2):
    law = GrokkingTimeLaw(n, gap, l2)
    for time in times(law):
        assert law.pdf(time) == pytest.approx(density(n, gap, l2, time), rel=rounding(n, gap))
        assert law.sf(time) == pytest.approx(survival(n, gap, l2, time), rel=rounding(n, gap))


@pytest.mark.parametrize(("n", "gap", "l2"), [(1, 0.3, 0.5), (2, 0.4, 0.0), (4, 0.02, 2.0), (30, 0.3, 0.7)])
def test_density_matches_mpmath(n, gap, l2):
    law = GrokkingTimeLaw(n, gap, l2)
    for time in (1e-3, law.ppf(0.5), law.ppf(0.9999)):
        assert law.pdf(time) == pytest.approx(float(mp_density(n, gap, l2, time)), rel=1e-13)
    # Control: the law for λ₂ = 0 is another one.
    other = GrokkingTimeLaw(n, gap, l2 + 0.01)
    assert abs(other.pdf(time) / float(mp_density(n, gap, l2, time)) - 1) > 1e-3


@pytest.mark.parametrize(("n", "gap", "l2"), CASES[::3])
def test_density_integrates_to_one_and_gives_the_moments(n, gap, l2):
    law = GrokkingTimeLaw(n, gap, l2)
    # In x = log t, where both tails fall exponentially; 1e-14 is left out on the left.
    edges = np.linspace(np.log(1e-14 * law.mean()), np.log(700.0), 61)
    half = np.diff(edges)[:, None] / 2
    time = np.exp(edges[:-1, None] + half * (1 + NODES))
    mass = half * WEIGHTS * time * law.pdf(time)
    # 24 nodes a panel of width 0.7 or less: exact to rounding, 1e-11 for the largest densities.
    assert mass.sum() == pytest.approx(1, abs=1e-11)
    mean, square = (mass * time).sum(), (mass * time**2).sum()
    assert law.mean() == pytest.approx(mean, rel=1e-11)
    # The variance is no smaller than a twentieth of the second moment.
    assert law.std() == pytest.approx(np.sqrt(square - mean**2), rel=1e-10)


def test_mean_of_the_reference_case():
    assert gp.ExponentialModel(class_gap=0.2, l1=0.1, l2=0.5).grokking_time(3).mean() == pytest.approx(
        0.57562, abs=5e-6
    )


# --- the printed formulas for N = 2 ---


def printed_eq_17(time, gap):
    t, eps = mp.mpf(time), mp.mpf(gap)
    x, exp = mp.exp(t), mp.exp
    bracket = (
        exp(4 * x * eps * (3 * mp.sinh(t) + mp.cosh(t) + 4) / (x + 1) + 3 * t)
        - 64 * eps**2 * exp(4 * (4 - 3 / (x + 1)) * eps + 3 * t)
        - 24 * eps * exp(2 * ((8 - 6 / (x + 1)) * eps + t))
        - 8 * eps * exp(4 * (4 - 3 / (x + 1)) * eps + t)
        - 2 * exp(4 * (4 * x + 1) * eps / (x + 1))
        - 3 * exp(4 * (4 - 3 / (x + 1)) * eps + t)
        - (x + 1) * exp(4 * (2 * x - 1 / (x + 1) + 2) * eps) * (x * (x - 8 * eps - 1) - 2)
    )
    return exp(-4 * x * (2 * x + 5) * eps / (x + 1) - 2 * t) / 8 * bracket


def printed_eq_74(time, gap, mean):
    t, eps, x = mp.mpf(time), mp.mpf(gap), mp.mpf(mean)
    if x > eps * mp.tanh(t / 2):
        return 2 * mp.exp(t - 4 * x) * (eps - x)
    late = 4 * (mp.exp(t) * (x - eps) + eps) + t
    return 2 * (x - eps) * mp.exp(late) * (4 * mp.exp(t) * (x - eps) + 4 * x + 4 * eps - 1)


@pytest.mark.parametrize("gap", [0.004, 0.4, 2.0])
@pytest.mark.parametrize("time", [0.01, 0.3, 1.0, 4.0])
def test_eqs_17_and_74_hold_without_l2_only(gap, time):
    with mp.workdps(40):
        closed = printed_eq_17(time, gap)
        middle = gap * mp.tanh(mp.mpf(time) / 2)
        cuts = [-mp.mpf(gap), (middle - gap) / 2, middle - mp.exp(-time) * gap, middle, mp.mpf(gap)]
        joint = mp.quad(lambda x: printed_eq_74(time, gap, x), sorted(cuts))
        assert abs(joint / closed - 1) < 1e-12
        scaled = float(closed) / gp.ExponentialModel(class_gap=gap).grokking_probability(2)
    assert GrokkingTimeLaw(2, gap).pdf(time) == pytest.approx(scaled, rel=1e-13)
    # Control: with the same effective gap and λ₂ = 0.5 the law is another one.
    assert GrokkingTimeLaw(2, gap, 0.5).pdf(time) != pytest.approx(scaled, rel=1e-3)


def test_eqs_71_and_72_need_the_factor_that_eq_69_lacks_in_its_first_line():
    """Mean and smallest sample at N = 2: Eq. 72 is normalised, hence a first line without the factor 2 is not."""

    def eq_72(mean, smallest):
        if 2 * mean > smallest:
            return 2 * mp.exp(-4 * mean)
        return -2 * mp.exp(4 * mean - 4 * smallest) * (8 * mean - 4 * smallest - 1)

    def eq_71(smallest, mean):
        if 2 * mean > smallest:
            return mp.exp(-4 * mean) * (4 * mean - 2 * smallest + 1)
        return -mp.exp(4 * mean - 4 * smallest) * (4 * mean - 2 * smallest - 1)

    for mean in (-0.4, 0.1, 0.6):
        cuts = sorted({0, max(0, 2 * mean), max(0, 2 * mean) + 3, mp.inf})
        # All of x_min: Eq. 13 for N = 2.
        assert mp.quad(lambda m, x=mean: eq_72(x, m), cuts) == pytest.approx(
            float(mp.exp(-4 * abs(mean)) * (1 + 4 * abs(mean))), rel=1e-12
        )
        for smallest in (0.05, 0.5, 1.5):
            slope = mp.diff(lambda m, x=mean: eq_71(m, x), smallest)
            assert -slope == pytest.approx(float(eq_72(mean, smallest)), rel=1e-10)
    total = mp.quad(lambda x: mp.exp(-4 * abs(x)) * (1 + 4 * abs(x)), [-mp.inf, 0, mp.inf])
    assert total == pytest.approx(1, rel=1e-12)


# --- real training sets ---


def measured_times(model, samples, trials, seed):
    """Zero-test time minus zero-train time of sampled training sets that end with zero test error."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(0, trials, 100_000):
        inputs, labels = model.sample(samples, rng, size=min(trials, 100_000))
        initial = 60.0
        assert inputs.max() < initial
        test = model.zero_test_time(initial, inputs.mean(axis=-1))
        train = model.zero_train_time(initial, inputs, labels)
        ends = np.isfinite(test)
        found.append(test[ends] - train[ends])
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("samples", "trials"),
    [(2, 100_000), (5, 100_000), pytest.param(5, 1_000_000, id="million")],
)
def test_sampled_training_sets_follow_the_law(samples, trials):
    model = gp.ExponentialModel(class_gap=0.3, l1=0.05, l2=0.5)
    law, delays = model.grokking_time(samples), measured_times(model, samples, trials, seed=samples)
    # False-alarm rate 1e-5 for the shape; 7e-6 for the share of sets and for the mean.
    assert stats.kstest(delays, law.cdf).pvalue > 1e-5
    probability = model.grokking_probability(samples)
    assert abs(delays.size - trials * probability) < 4.5 * np.sqrt(trials * probability * (1 - probability))
    assert abs(delays.mean() - law.mean()) < 4.5 * law.std() / np.sqrt(delays.size)
    # Control: the law printed for λ₂ = 0, with the right effective gap.
    assert stats.kstest(delays, GrokkingTimeLaw(samples, model.effective_gap).cdf).pvalue < 1e-12


@pytest.mark.parametrize(
    ("n", "gap", "l2", "size"),
    [(1, 0.3, 0.0, 100_000), (2, 1e-6, 0.5, 50_000), (30, 0.05, 2.0, 100_000), (30, 3.0, 0.0, 100_000)],
)
def test_drawn_times_follow_the_law(n, gap, l2, size):
    law = GrokkingTimeLaw(n, gap, l2)
    drawn = law.rvs(size, 4)
    assert stats.kstest(drawn, law.cdf).pvalue > 1e-5  # false-alarm rate 1e-5 each
    assert stats.kstest(drawn, GrokkingTimeLaw(n, 1.1 * gap, l2 + 0.1).cdf).pvalue < 1e-5
    assert abs(drawn.mean() - law.mean()) < 4.5 * law.std() / np.sqrt(size)


def test_draws_are_reproducible_and_shaped():
    law = GrokkingTimeLaw(4, [[0.1], [2.0]], [0.0, 1.0, 2.0])
    assert law.shape == law.rvs(None, 0).shape == (2, 3)
    drawn = law.rvs((20_000, 2, 3), 5)
    np.testing.assert_array_equal(drawn, law.rvs((20_000, 2, 3), np.random.default_rng(5)))
    # Six means, false-alarm rate 4e-5.
    assert (np.abs(drawn.mean(axis=0) - law.mean()) < 4.5 * law.std() / np.sqrt(20_000)).all()
    assert GrokkingTimeLaw(4, 0.1).rvs(3, 0).shape == (3,)
    assert isinstance(GrokkingTimeLaw(4, 0.1).rvs(None, 0), float)


# --- large samples ---


@pytest.mark.parametrize("n", [10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_many_samples_give_an_exponential_law(n, l2):
    """N ε_λ t_G → Exp(1); from Eq. 16 to first order, mean N ε_λ = 1 + [1/(2ε_λ²) + (1/2 − (1+λ₂))/ε_λ]/N.

    The terms are the variance of x̄, the correlation 1/2N² of x̄ with x_min, and the square of x_min.
    """
    gap = 0.4
    law = GrokkingTimeLaw(n, gap, l2)
    first = 1 / (2 * gap**2) + (0.5 - 1 - l2) / gap
    # The next term is a moment of fourth order, 3/(4ε⁴) = 29, and others of the same size.
    assert abs(law.mean() * n * gap - 1 - first / n) < 100 / n**2 + 1e-12
    assert law.std() * n * gap == pytest.approx(1, abs=10 / n)
    scaled = np.array([0.0, 0.1, 1.0, 3.0])
    np.testing.assert_allclose(law.pdf(scaled / (n * gap)) / (n * gap), np.exp(-scaled), rtol=60 / n)
    # A gap of the order of 1/√N makes x̄ matter again: compare with draws (false-alarm rate 1e-5).
    gap = 0.3 / np.sqrt(n)
    narrow = GrokkingTimeLaw(n, gap, l2)
    drawn = narrow.rvs(500, 7)
    assert stats.kstest(drawn, narrow.cdf).pvalue > 1e-5
    assert stats.kstest(drawn, stats.expon(scale=1 / (n * gap)).cdf).pvalue < 1e-5


def test_density_at_ten_thousand_samples_matches_quadrature():
    for gap in (0.002, 0.4):
        law = GrokkingTimeLaw(10_000, gap, 0.5)
        for time in law.ppf([0.3, 1 - 1e-9]):
            assert law.pdf(time) == pytest.approx(density(10_000, gap, 0.5, time), rel=rounding(10_000, gap))
            assert law.sf(time) == pytest.approx(survival(10_000, gap, 0.5, time), rel=rounding(10_000, gap))


@pytest.mark.parametrize("gap", [1e-100, 1e-12, 1e3, 1e12, 1e100])
def test_extreme_gaps(gap):
    law = GrokkingTimeLaw(3, gap, 0.25)
    median, mean = law.ppf(0.5), law.mean()
    assert law.cdf(median) == pytest.approx(0.5, rel=1e-12)
    if gap > 1:  # far beyond all data only x_min counts: t_G = x_min/ε_λ
        assert mean == pytest.approx(1 / (3 * gap), rel=1 / gap + 1e-12)
        assert law.std() == pytest.approx(1 / (3 * gap), rel=1 / gap + 1e-12)
    else:  # 1.25 t_G = log(1/ε) + O(1), with a spread that ε does not change
        assert abs(1.25 * mean + np.log(gap)) < 2
        assert law.std() == pytest.approx(GrokkingTimeLaw(3, gap * 0.1, 0.25).std(), rel=1e-9)
    # One independent draw each of 1000: false-alarm rate 1e-5.
    assert stats.kstest(law.rvs(1000, 8), law.cdf).pvalue > 1e-5


# --- one object, many methods ---

laws = st.builds(
    GrokkingTimeLaw,
    st.integers(1, 50),
    st.floats(-6, 1).map(lambda x: 10.0**x),
    st.one_of(st.just(0.0), st.floats(0, 5)),
)


@settings(max_examples=60)
@given(laws, st.floats(1e-9, 1 - 1e-9))
def test_quantiles_invert_the_distribution(law, probability):
    time = law.ppf(probability)
    assert law.cdf(time) == pytest.approx(probability, abs=1e-12)
    assert law.ppf(law.cdf(time)) == pytest.approx(time, rel=1e-6)
    assert law.cdf(time) + law.sf(time) == pytest.approx(1, rel=1e-15)


@settings(max_examples=60)
@given(laws, st.floats(1e-6, 0.9), st.floats(0.01, 1))
def test_density_is_the_derivative_of_the_distribution(law, probability, share):
    low, median = law.ppf([probability, 0.5])
    high = low + share * min(median, 1.0)
    nodes = low + (high - low) * (1 + NODES) / 2
    integral = (high - low) / 2 * WEIGHTS @ law.pdf(nodes)
    # The density varies on the scales of the median and, like functions of eˢ, of π/(1+λ₂): 24 Gauss nodes are exact
    # to rounding.
    assert integral == pytest.approx(law.sf(low) - law.sf(high), abs=1e-10)
    np.testing.assert_allclose(law.logpdf(nodes), np.log(law.pdf(nodes)), rtol=1e-12, atol=1e-13)
    assert (np.diff(law.logsf(nodes)) < 0).all()


def test_ends_of_the_axis():
    law = GrokkingTimeLaw(5, 0.3, 0.5)
    outside = [-np.inf, -1.0, np.inf]
    assert law.pdf(outside).tolist() == [0, 0, 0]
    assert law.logpdf(outside).tolist() == [-np.inf] * 3
    assert law.cdf(outside).tolist() == [0, 0, 1]
    assert law.sf(outside).tolist() == [1, 1, 0]
    assert law.logsf(outside).tolist() == [0, 0, -np.inf]
    assert law.sf(0) == pytest.approx(1, rel=1e-14)
    assert law.ppf([0.0, 1.0]).tolist() == [0, np.inf]
    # Late times: x̄ must come close to ε_λ, by a factor exp(−(1+λ₂)t); the logarithm goes on below underflow.
    np.testing.assert_allclose(np.diff(law.logsf([1e3, 1e3 + 1, 1e5, 1e5 + 1]))[::2], -1.5, rtol=1e-9)
    np.testing.assert_allclose(law.logpdf(2e3) - law.logsf(2e3), np.log(1.5), rtol=1e-9)


def test_everything_broadcasts():
    gap, l2 = np.array([0.05, 0.6])[:, None], np.array([0.0, 0.5, 3.0])
    law = gp.ExponentialModel(class_gap=gap / (1 + l2), l2=l2).grokking_time(7)
    time, levels = np.array([0.0, 0.2, 1.0, 30.0])[:, None, None], np.array([0.1, 0.9])[:, None, None]
    mean, std, quantiles = law.mean(), law.std(), law.ppf(levels)
    assert mean.shape == std.shape == (2, 3)
    assert quantiles.shape == (2, 2, 3)
    tables = {name: getattr(law, name)(time) for name in ("pdf", "logpdf", "cdf", "sf", "logsf")}
    for i in range(2):
        for j in range(3):
            one = GrokkingTimeLaw(7, law.effective_gap[i, j], l2[j])
            # Other members of a batch may add terms below rounding.
            assert mean[i, j] == pytest.approx(one.mean(), rel=1e-12)
            assert std[i, j] == pytest.approx(one.std(), rel=1e-12)
            np.testing.assert_allclose(quantiles[:, i, j], one.ppf(levels.ravel()), rtol=1e-12)
            for name, table in tables.items():
                assert table.shape == (4, 2, 3)
                np.testing.assert_allclose(table[:, i, j], getattr(one, name)(time.ravel()), rtol=1e-12, atol=1e-15)
    for value in (one.mean(), one.std(), one.pdf(1), one.logpdf(1), one.cdf(1), one.sf(1), one.ppf(0.5)):
        assert isinstance(value, float)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: GrokkingTimeLaw(3, 0.0), "effective_gap"),
        (lambda: GrokkingTimeLaw(3, -0.1), "effective_gap"),
        (lambda: GrokkingTimeLaw(3, [0.1, 1e200]), "effective_gap"),
        (lambda: GrokkingTimeLaw(3, 1e-200), "effective_gap"),
        (lambda: GrokkingTimeLaw(3, np.nan), "effective_gap"),
        (lambda: GrokkingTimeLaw(3, 0.1, -1), "l2"),
        (lambda: GrokkingTimeLaw(0, 0.1), "samples_per_class"),
        (lambda: GrokkingTimeLaw([2, 3], 0.1), "samples_per_class"),
        (lambda: GrokkingTimeLaw(2.5, 0.1), "samples_per_class"),
        (lambda: GrokkingTimeLaw(3, [0.1, 0.2], [0.1, 0.2, 0.3]), "broadcast"),
        (lambda: GrokkingTimeLaw(3, 0.1).pdf(np.nan), "time"),
        (lambda: GrokkingTimeLaw(3, 0.1).sf("soon"), "time"),
        (lambda: GrokkingTimeLaw(3, [0.1, 0.2]).cdf([1, 2, 3]), "time"),
        (lambda: GrokkingTimeLaw(3, 0.1).ppf(1.1), "probability"),
        (lambda: GrokkingTimeLaw(3, 0.1).ppf(np.nan), "probability"),
        (lambda: GrokkingTimeLaw(3, [0.1, 0.2]).ppf([0.1, 0.2, 0.3]), "probability"),
        (lambda: GrokkingTimeLaw(3, 0.1).rvs(3, None), "rng"),
        (lambda: GrokkingTimeLaw(3, 0.1).rvs(-3, 0), "size"),
        (lambda: GrokkingTimeLaw(3, 0.1).rvs(1.5, 0), "size"),
        (lambda: GrokkingTimeLaw(3, [0.1, 0.2]).rvs(3, 0), "size"),
    ],
)
def test_bad_arguments_are_named(build, name):
    with pytest.raises(ValueError, match=name):
        build()
