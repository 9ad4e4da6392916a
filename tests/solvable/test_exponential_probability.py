"""Grokking probability of the exponential model (Eqs. 11-15): both tails, against independent evaluations."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import grokphase as gp
from grokphase.solvable._gamma_difference import (
    gamma_difference_probability,
    log_poisson,
    log_stage_weights,
)


def contour_tail(n: int, z: float, digits: int = 20) -> mp.mpf:
    """Pr(|G − G′| > z) from the moment generating function (1 − s²)^{−N}, integrated along Re s = θ.

    The trapezoidal rule of step 2π/L adds the tails F at z ± L, times e^{±θL}, to that at z: L is so large that their
    Chernoff bounds do not show.
    """
    with mp.workdps(digits + 20):
        bound, size = mp.mpf(z), mp.mpf(n)

        def saddle(x):
            return x / (size + mp.hypot(size, x))

        def log_tail(x):
            return -saddle(x) * x - size * mp.log(1 - saddle(x) ** 2) if x > 0 else mp.mpf(0)

        theta, period = max(saddle(bound), mp.mpf("0.3") / mp.sqrt(size)), mp.sqrt(size)
        visible = log_tail(bound) - mp.log(10) * (digits + 10)
        while max(log_tail(bound + k * period) + k * theta * period for k in (-1, 1)) > visible:
            period *= 1.2
        step = 2 * mp.pi / period

        def height(y):
            s = mp.mpc(theta, y)
            return (mp.exp(-s * bound - size * mp.log(1 - s * s)) / s).real

        total, y, first = height(mp.mpf(0)) / 2, step, abs(height(mp.mpf(0)))
        while True:
            total += height(y)
            if abs(1 - mp.mpc(theta, y) ** 2) ** (-size) < mp.power(10, -digits) * first * mp.exp(theta * bound):
                return 2 * total * step / mp.pi
            y += step


def density_tail(n: int, z: float) -> mp.mpf:
    """Pr(|G − G′| > z) by quadrature of Eq. 13 in the variable u = 2N|x̄|."""
    with mp.workdps(40):
        order = mp.mpf(n) - mp.mpf(1) / 2
        norm = 2 / (mp.sqrt(mp.pi) * mp.gamma(n) * mp.power(2, order))
        cuts = [z + mp.mpf(step) for step in (0, 1, 5, 20, 80, 300)]
        # mpmath's error goal is absolute: keep the integrand of order one.
        scaled = mp.quad(lambda u: norm * mp.power(u, order) * mp.besselk(order, u) * mp.exp(z), cuts)
        return scaled * mp.exp(-mp.mpf(z))


# The goal is 1e-12; what we reach is rounding, amplified by z·hazard ≤ 600 and by sums of ~1e4 products.
RELATIVE = 2e-13


@pytest.mark.parametrize("n", [6, 10, 40, 300, 1000, 30_000, 10**6])
def test_both_tails_match_the_contour_integral_down_to_1e_minus_250(n):
    root = np.sqrt(n)
    for z in (
        1e-3 * root,
        0.1 * root,
        0.6 * root,
        0.94 * root,
        0.96 * root,
        2 * root,
        5 * root,
        12 * root,
        28 * root,
    ):
        upper = contour_tail(n, z)
        ours = gamma_difference_probability(n, z, upper=True)
        if upper > mp.mpf(10) ** -290:
            assert abs(ours / upper - 1) < RELATIVE
        assert abs(gamma_difference_probability(n, z) / (1 - upper) - 1) < RELATIVE


def test_deep_tails_reach_1e_minus_250_for_every_size():
    reached = []
    for n, z in ((1, 570.0), (2, 575.0), (7, 590.0), (100, 790.0), (10_000, 4855.0), (10**6, 47_600.0)):
        upper = contour_tail(n, z) if n > 5 else density_tail(n, z)
        reached.append(float(mp.log10(upper)))
        assert abs(gamma_difference_probability(n, z, upper=True) / upper - 1) < 1e-12
    assert min(reached) > -260
    assert max(reached) < -235


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("z", [0.01, 0.3, 1.0, 3.0, 10.0, 60.0])
def test_small_samples_match_the_integral_of_eq_13(n, z):
    upper = density_tail(n, z)
    assert abs(gamma_difference_probability(n, z, upper=True) / upper - 1) < RELATIVE
    assert abs(gamma_difference_probability(n, z) / (1 - upper) - 1) < RELATIVE


@pytest.mark.parametrize("z", [1e-300, 1e-100, 1e-12])
def test_vanishing_gap_keeps_its_digits(z):
    # Pr = z w_0 (1 + O(z)): one waiting time shorter than z, at equal counts of both clocks.
    for n, weight in ((1, 1.0), (2, 0.5), (3, 0.375), (4, 0.3125)):
        assert gamma_difference_probability(n, z) == pytest.approx(z * weight, rel=1e-11)


def test_extreme_arguments():
    assert gamma_difference_probability([1, 40, 10**9], 0.0).tolist() == [0, 0, 0]
    for bound in (1e8, 1e300, np.inf):
        assert gamma_difference_probability([1, 40, 201, 10**6], bound).tolist() == [1] * 4
        assert gamma_difference_probability([1, 40, 201, 10**6], bound, upper=True).tolist() == [0] * 4


def test_eq_15():
    gap = np.linspace(0, 3, 50)
    model = gp.ExponentialModel(class_gap=gap)
    tail = (1 + 2 * gap) * np.exp(-4 * gap)
    # Four rounding errors in either expression.
    np.testing.assert_allclose(model.grokking_probability(2), 1 - tail, rtol=0, atol=1e-15)
    np.testing.assert_allclose(model.grokking_probability(2, complement=True), tail, rtol=1e-13)


def printed_eq_14(n: int, gap: float, digits: int) -> mp.mpf:
    """Eq. 14 read with B = N and Γ(Nd) = Γ(N), in arithmetic of the given number of digits."""
    with mp.workdps(digits):
        half, size, eps = mp.mpf(1) / 2, mp.mpf(n), mp.mpf(gap)
        x = size**2 * eps**2
        first = mp.hyp1f2(size, size + half, size + 1, x) / (mp.gamma(size + half) * mp.gamma(size + 1))
        second = mp.hyp1f2(half, 3 * half, 3 * half - size, x) / (mp.gamma(3 * half) * mp.gamma(3 * half - size))
        sign = (-1) ** n
        return mp.sqrt(mp.pi) * sign * (size * eps) ** (2 * n) * first - mp.pi * sign * size * eps * second / mp.gamma(
            size
        )


@pytest.mark.parametrize("n", [1, 2, 10, 40])
def test_eq_14_is_right_but_useless_in_double_precision(n):
    model = gp.ExponentialModel(class_gap=1.0)
    exact = printed_eq_14(n, 1.0, digits=120)
    assert abs(model.grokking_probability(n) - exact) < 1e-15
    error = abs(printed_eq_14(n, 1.0, digits=16) - exact)
    if n == 10:
        assert 1e-8 < error < 1e-5
    if n == 40:
        assert error > 1e20


def test_regularisation_enters_through_the_effective_gap():
    model = gp.ExponentialModel(class_gap=0.2, l1=0.1, l2=0.5)
    assert model.effective_gap == pytest.approx(0.4, rel=1e-15)
    bare = gp.ExponentialModel(class_gap=0.4)
    # The two effective gaps may differ by a rounding error.
    assert model.grokking_probability(7) == pytest.approx(bare.grokking_probability(7), rel=1e-14)
    # L1 rescues a vanishing gap, L2 does not (end of Sec. 3.2.2).
    assert gp.ExponentialModel(class_gap=0, l1=0.1).grokking_probability(5) > 0.1
    assert gp.ExponentialModel(class_gap=0, l2=10.0).grokking_probability(5) == 0


def test_sampled_training_sets_reach_zero_error_with_this_probability():
    # False-alarm rate: 2 Pr(normal > 4.5) = 7e-6 for each of three sizes.
    rng = np.random.default_rng(20)
    for n, trials in ((1, 200_000), (4, 200_000), (50, 20_000)):
        model = gp.ExponentialModel(class_gap=0.12, l1=0.05, l2=0.4)
        inputs, _ = model.sample(n, rng, size=trials)
        bias = model.bias(np.inf, 3.0, inputs.mean(axis=-1))
        generalised = (model.test_error(bias) == 0).sum()

        def score(probability, count=generalised, trials=trials):
            return (count - trials * probability) / np.sqrt(trials * probability * (1 - probability))

        assert abs(score(model.grokking_probability(n))) < 4.5
        # Control: a theory that forgets the regularisation.
        assert abs(score(gp.ExponentialModel(class_gap=0.12).grokking_probability(n))) > 9


sizes = st.integers(1, 3000)
bounds = st.floats(0, 2000)


@given(sizes, bounds)
def test_tails_add_to_one(n, z):
    below = gamma_difference_probability(n, z)
    above = gamma_difference_probability(n, z, upper=True)
    assert 0 <= below <= 1
    assert 0 <= above <= 1
    assert abs(below + above - 1) < 1e-12


@given(sizes, bounds, st.floats(1e-6, 1))
def test_tails_are_monotone(n, z, more):
    larger = z * (1 + more) + more
    # Steps of 1e-6 in z move either tail by far more than the 1e-13 of rounding, or the tail is 0 or 1.
    assert gamma_difference_probability(n, larger) >= gamma_difference_probability(n, z) * (1 - 1e-13)
    upper = gamma_difference_probability(n, [z, larger], upper=True)
    assert upper[1] <= upper[0] * (1 + 1e-13)


@given(st.lists(st.tuples(sizes, bounds), min_size=1, max_size=30))
def test_batches_equal_single_calls(pairs):
    n, z = np.array(pairs).T
    together = gamma_difference_probability(n, z, upper=True)
    alone = [gamma_difference_probability(int(a), b, upper=True) for a, b in zip(n, z, strict=True)]
    # Only the widths of the windows differ: terms below rounding.
    np.testing.assert_allclose(together, alone, rtol=1e-13)


def test_broadcasting():
    model = gp.ExponentialModel(class_gap=np.linspace(0.1, 1, 5)[:, None], l1=[0.0, 0.1, 0.2])
    table = model.grokking_probability(np.array([2, 10, 1000, 50_000])[:, None, None])
    assert table.shape == (4, 5, 3)
    assert isinstance(gp.ExponentialModel(class_gap=0.4).grokking_probability(3), float)
    one = gp.ExponentialModel(class_gap=float(model.class_gap[3, 0]), l1=0.1).grokking_probability(10)
    assert table[1, 3, 1] == pytest.approx(one, rel=1e-13)


@pytest.mark.parametrize("bad", [0, -3, 2.5, np.nan, "ten", None])
def test_bad_sample_counts_are_named(bad):
    with pytest.raises(ValueError, match="samples_per_class"):
        gp.ExponentialModel(class_gap=0.4).grokking_probability(bad)


@pytest.mark.parametrize("n", [1, 2, 3, 30, 1000])
def test_stage_weights_are_a_probability(n):
    weights = log_stage_weights(n, n + 3)
    assert np.isneginf(weights[n:]).all()
    assert np.exp(weights).sum() == pytest.approx(1, rel=1e-13)
    exact = [mp.log(mp.binomial(2 * n - 2 - j, n - 1)) - (2 * n - 2 - j) * mp.log(2) for j in range(0, n, 7)]
    np.testing.assert_allclose(weights[:n:7], np.array(exact, dtype=float), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("mean", [1e-5, 0.7, 20.0, 999.5, 3e6])
def test_poisson_weights(mean):
    counts = np.unique(np.concatenate([np.arange(40), (mean * np.array([0.5, 0.95, 1, 1.05, 2])).astype(int)]))
    with mp.workdps(40):
        exact = [float(k * mp.log(mp.mpf(mean)) - mean - mp.loggamma(int(k) + 1)) for k in counts.tolist()]
    # Absolute accuracy of the logarithm is relative accuracy of the weight; far out, rounding of the value itself.
    np.testing.assert_allclose(log_poisson(counts, mean), exact, rtol=1e-15, atol=5e-14)
