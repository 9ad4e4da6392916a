"""Law of the grokking time in the idealised two-mode flow: against the flow itself, quadrature and sampling."""

from functools import cache

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import integrate, optimize, special

from grokphase.solvable.ball import BallModel
from grokphase.solvable.two_mode import TwoModeLaw
from grokphase.solvable.two_mode_flow import Rates, zero_times

DRAWS = 1_000_000
# D, ε, λ₂: the paper's; touching balls; an intermediate case; a strong ridge (κ = ε²/L near 2); κ = 1.02; κ = 108
SETTINGS = [(5, 2.0, 0.01), (2, 1.05, 0.0), (3, 1.5, 0.5), (5, 1.2, 0.6), (4, 2.5, 6.0), (10, 3.0, 0.0)]


def law_of(parameters, resolved):
    dimension, gap, l2 = parameters
    return TwoModeLaw(dimension, gap, l2, resolved)


def rates_of(law):
    return Rates(np.asarray(law.class_gap), np.asarray(law.l2 + 1 / (law.dimension + 2)), law.dimension)


@cache
def drawn(parameters, seed=7):
    """Sorted grokking times of the flow from standard normal weights, and ρ in the same order."""
    rng, law = np.random.default_rng(seed), law_of(parameters, True)
    along = rng.standard_normal((DRAWS, law.dimension))
    across = np.linalg.norm(along[:, 1:], axis=1)
    train, test = zero_times(rates_of(law), along[:, 0], across)
    time = test - train
    order = np.argsort(time)
    return time[order], across[order]


# --- the flow ---


def scanned_last_zero(rates, along, across, contrast):
    """Last t at which w₁ < contrast |w_⊥|, from the sign on a grid, refined by Brent's method; 0 if there is none."""

    def margin(t):
        first = 1 / rates.gap + (along - 1 / rates.gap) * np.exp(-(rates.gap**2) * t)
        return first - contrast * across * np.exp(-rates.slow * t)

    end = (np.log(1 + across * contrast * rates.gap) + 1) / rates.slow + (np.log1p(abs(along) * rates.gap) + 1)
    grid = np.concatenate([np.linspace(0, 1e-3 * end, 20_000), np.linspace(1e-3 * end, end, 60_000)[1:]])
    wrong = np.flatnonzero(margin(grid) < 0)
    if not wrong.size:
        return 0.0
    assert wrong[-1] < grid.size - 1
    return optimize.brentq(margin, grid[wrong[-1]], grid[wrong[-1] + 1], xtol=1e-15, rtol=1e-14)


@pytest.mark.parametrize("parameters", SETTINGS)
def test_zero_times_equal_a_scan_of_the_flow(parameters):
    # Brent's tolerance, and rounding of the margin over its slope. Wide weights, so that some flows lose zero error
    # and regain it.
    rates = rates_of(law_of(parameters, True))
    rng = np.random.default_rng(1)
    along, across = 4 * rng.standard_normal(60), np.abs(4 * rng.standard_normal(60))
    train, test = zero_times(rates, along, across)
    for contrast, times in ((1 / rates.gap, train), (1 / np.sqrt(rates.gap**2 - 1), test)):
        expected = [scanned_last_zero(rates, a, b, contrast) for a, b in zip(along, across, strict=True)]
        assert_allclose(times, expected, rtol=1e-9, atol=1e-12)
    assert (train == 0).any()
    assert (test >= train).all()


@given(
    ratio=st.floats(1.01, 200),
    gap=st.floats(1.001, 30),
    radius=st.floats(1.001, 50),
    nudge=st.sampled_from([-1e-3, -1e-6, -1e-9, 1e-9, 1e-6, 1e-3]),
)
@example(ratio=2.0, gap=2.0, radius=4.0, nudge=1e-9)
@settings(max_examples=100, deadline=None)
def test_zero_error_that_is_barely_lost_is_noticed(ratio, gap, radius, nudge):
    # θ − 1 − m θ^κ has a double root at θ = κ/(κ−1), m = 1/(κ θ^(κ−1)): the flow touches the training cone. A nudge of
    # w₁(0) by the relative amount x lifts it off, or lets two roots part by a relative √x.
    rates = Rates(np.asarray(gap), np.asarray(gap**2 / ratio), 5)
    touch = ratio / (ratio - 1)
    across = radius * touch  # |w_⊥| decays to the touching point after a time ln(radius)/L
    log_m = (ratio - 1) * np.log((ratio - 1) / ratio) - np.log(ratio)
    log_excess = log_m + ratio * np.log(across)
    assume(log_excess < 600)
    along = (1 + np.exp(log_excess) * (1 + nudge)) / gap
    train, _ = zero_times(rates, np.asarray(along), np.asarray(across))
    if nudge > 0:
        assert train == 0 or along * gap < across  # zero train error throughout
    else:
        expected = np.log(radius) / rates.slow
        # roots part by a relative √(2|x|/(κ−1)) (1 + ...) in θ; a factor 10 for higher orders
        parted = 10 * np.sqrt(abs(nudge)) * max(1.0, 1 / (ratio - 1)) / rates.slow
        assert abs(train - expected) <= parted
        assert train > 0


# --- the law against the flow ---


def kolmogorov(law, time):
    """√n times the largest distance of the distribution functions that rounding of the times cannot explain."""
    grid = np.quantile(time, np.linspace(0, 1, 801)[1:-1])
    slack = 1e-11 * np.maximum(grid, float(law.atom[0]))  # test − train loses some digits
    at_most, less = (np.searchsorted(time, grid, side=side) / time.size for side in ("right", "left"))
    above = at_most - law.cdf(grid + slack)
    below = law.cdf(grid - slack) - less
    return np.sqrt(time.size) * max(above.max(), below.max())


# Kolmogorov's distribution: 2 exp(−2·2.9²) = 1e-7 a test; fewer points than draws and atoms make it rarer
LIMIT = 2.9


@pytest.mark.parametrize("parameters", SETTINGS)
def test_resolved_law_is_that_of_the_flow(parameters):
    time, _ = drawn(parameters)
    assert kolmogorov(law_of(parameters, True), time) < LIMIT


@pytest.mark.parametrize("parameters", SETTINGS)
def test_law_with_the_atom_is_that_of_the_flow_with_its_slow_part_drawn_together(parameters):
    time, across = drawn(parameters)
    law = law_of(parameters, False)
    assert kolmogorov(law, np.sort(np.where(across > 1, law.atom[0], time))) < LIMIT


@pytest.mark.parametrize("wrong", [(5, 2.02, 0.01), (5, 2.0, 0.011), (6, 2.0, 0.01)])
def test_a_slightly_wrong_law_is_noticed(wrong):
    time, _ = drawn(SETTINGS[0])
    assert kolmogorov(law_of(wrong, True), time) > 2 * LIMIT


def test_the_atom_is_an_approximation():
    # the default law for the true flow: the smear of the slow part is seen at the paper's parameters
    time, _ = drawn(SETTINGS[0])
    assert kolmogorov(law_of(SETTINGS[0], False), time) > 10 * LIMIT
    away = np.abs(time - law_of(SETTINGS[0], False).atom[0])
    slow = drawn(SETTINGS[0])[1] > 1
    # the numbers of the module's docstring; standard errors 4e-4 and 3e-4
    assert_allclose([(slow & (away > 0.001)).mean(), (slow & (away > 0.1)).mean()], [0.171, 0.062], atol=2e-3)


@pytest.mark.parametrize("parameters", SETTINGS)
@pytest.mark.parametrize("resolved", [False, True])
def test_moments_are_those_of_the_flow(parameters, resolved):
    # |z| < 5.5 for the mean and the second moment about it: false alarm 1e-6 for all
    law = law_of(parameters, resolved)
    time, across = drawn(parameters)
    if not resolved:
        time = np.where(across > 1, law.atom[0], time)
    squares = (time - law.mean()) ** 2
    for values, expected in ((time, law.mean()), (squares, law.std() ** 2)):
        assert abs(values.mean() - expected) < 5.5 * values.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize("resolved", [False, True])
def test_drawn_times_follow_the_law(resolved):
    law = law_of(SETTINGS[2], resolved)
    time = law.rvs(DRAWS, 5)
    assert kolmogorov(law, np.sort(time)) < LIMIT
    assert_allclose(time[:10], law.rvs(DRAWS, np.random.default_rng(5))[:10], rtol=0)


# --- the law against quadrature ---


def smallest_late(rates, along, time):
    """Smallest ρ < 1 with t_G > time at given w₁(0), by bisection on the times of the flow: t_G grows with ρ."""
    low, high = np.full(along.shape, 1e-12), np.ones(along.shape)
    for _ in range(54):
        middle = (low + high) / 2
        train, test = zero_times(rates, along, middle)
        low, high = np.where(test - train > time, low, middle), np.where(test - train > time, middle, high)
    return high


def smooth_pieces(rates, time):
    """Stretches of w₁(0) between the kinks of ``smallest_late``, found from what the flow there is like."""

    def kind(along):
        radius = smallest_late(rates, along, time)
        train, _ = zero_times(rates, along, radius)
        _, before = zero_times(rates, along, radius * (1 - 1e-12))
        return np.where(radius > 1 - 1e-13, 0, 1 + (train > 0) + 2 * (before > 0))

    near = 10 ** np.linspace(-5, 0, 200)  # as t → t_a the pieces gather at w₁(0) = 1/ε
    edges = np.unique(np.concatenate([np.linspace(-9, 9, 1001), 1 / rates.gap - near, 1 / rates.gap + near]))
    kinds = kind(edges)
    (change,) = np.nonzero(np.diff(kinds))
    left, right = edges[change], edges[change + 1]
    for _ in range(50):
        middle = (left + right) / 2
        same = kind(middle) == kinds[change]
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    return np.concatenate([[-9.0], left, [9.0]])


@pytest.mark.parametrize("parameters", SETTINGS)
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
def test_cdf_equals_quadrature_over_the_initial_weights(parameters, fraction):
    # Pr(t_G ≤ t) = ∫ φ(w) Pr(ρ < smallest late one) dw, in Gauss-Legendre panels between the kinks; the stated accuracy
    # is 1e-11, measured are 6e-16
    law = law_of(parameters, False)
    rates, time = rates_of(law), fraction * law.atom[0]
    nodes, weights = np.polynomial.legendre.leggauss(16)
    ends = smooth_pieces(rates, time)
    # panels that shrink towards both ends of a piece
    shape = np.concatenate([[0], 0.5 * 0.25 ** np.arange(8, 0, -1), [0.5], 1 - 0.5 * 0.25 ** np.arange(1, 9), [1]])
    edges = np.unique(ends[:-1, None] + np.diff(ends)[:, None] * shape)
    width = np.diff(edges)[:, None]
    w = edges[:-1, None] + width * (nodes + 1) / 2
    square = smallest_late(rates, w, time) ** 2
    mass = width * weights / 2 * np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi)
    expected = (mass * special.gammainc((law.dimension - 1) / 2, square / 2)).sum()
    assert_allclose(law.cdf(time), expected, rtol=1e-11)
    assert_allclose(law.sf(time), 1 - expected, rtol=1e-11)


@pytest.mark.parametrize("parameters", SETTINGS)
@pytest.mark.parametrize("resolved", [False, True])
def test_pdf_is_the_derivative_of_cdf(parameters, resolved):
    # central differences: relative error h²f''/6f ~ 1e-6, rounding 1e-15/h ~ 1e-10 of the largest slope
    law = law_of(parameters, resolved)
    peak = float(law.atom[0])
    time = peak * np.array([0.03, 0.2, 0.5, 0.8, 0.95, *([1.05, 1.3] if resolved else [])])
    step = 1e-4 * peak
    slope = (law.cdf(time + step) - law.cdf(time - step)) / (2 * step)
    assert_allclose(law.pdf(time), slope, rtol=1e-5, atol=1e-10 / peak)


@pytest.mark.parametrize("parameters", SETTINGS)
def test_density_and_atoms_make_up_one(parameters):
    # quad's own error estimate is below 1e-9
    law = law_of(parameters, False)
    position, weight = law.atom
    points = position * np.array([0.01, 0.1, 0.5, 0.9])
    total, error = integrate.quad(law.pdf, 0, position, points=points, limit=300, epsabs=1e-11)
    assert error < 1e-8
    assert_allclose(total + law.zero_weight + weight, 1, atol=1e-8)
    assert_allclose(law.fast_weight + law.middle_weight + weight, 1, rtol=1e-12)


@pytest.mark.parametrize("parameters", SETTINGS[:4])
def test_fast_pdf_is_a_part_of_pdf(parameters):
    # Pr(ρ < 1/G, w₁(0) < ρ/√(ε²−1)): the fast flows with some test error
    law = law_of(parameters, False)
    position, gap, freedom = law.atom[0], law.class_gap, law.dimension - 1
    time = np.linspace(0, 1.1 * position, 200)
    assert (law.fast_pdf(time) <= law.pdf(time) * (1 + 1e-9)).all()
    assert law.fast_pdf(position) == 0
    total, _ = integrate.quad(law.fast_pdf, 0, position, points=position * np.array([0.01, 0.1, 0.3]), limit=500)

    def starts(square):
        density = np.exp(special.xlogy(freedom / 2 - 1, square / 2) - square / 2) / special.gamma(freedom / 2) / 2
        return density * special.ndtr(np.sqrt(square) / np.sqrt(gap**2 - 1))

    expected, _ = integrate.quad(starts, 0, 1 - 1 / gap**2, limit=300)
    assert_allclose(total, expected, rtol=1e-6)
    assert 0 < expected < law.fast_weight


@pytest.mark.parametrize("parameters", SETTINGS)
@pytest.mark.parametrize("resolved", [False, True])
def test_cdf_sf_and_ppf_agree(parameters, resolved):
    law = law_of(parameters, resolved)
    time = float(law.atom[0]) * np.array([0.0, 1e-3, 0.3, 0.7, 0.999, 1.0, 1.001, 1.5, 3.0])
    cdf, sf = law.cdf(time), law.sf(time)
    assert_allclose(cdf + sf, 1, rtol=1e-10)
    assert (np.diff(cdf) >= -1e-12).all()
    assert_allclose(cdf[0], law.zero_weight, rtol=1e-14)
    assert law.zero_weight > 0
    # the quantile to 1e-12, also where the cdf is all but vertical; 1e-11 is its own accuracy
    wanted = np.concatenate([np.linspace(law.zero_weight, 1, 20)[1:-1], cdf[(cdf > law.zero_weight) & (cdf < 1)]])
    quantile = law.ppf(wanted)
    assert (law.cdf(quantile * (1 - 1e-12)) <= wanted + 1e-11).all()
    assert (law.cdf(quantile * (1 + 1e-12)) >= wanted - 1e-11).all()
    assert law.ppf(0.0) == law.ppf(law.zero_weight / 2) == 0
    if not resolved:
        inside = 1 - law.atom[1] / 2
        assert_allclose(law.ppf([inside, 1.0]), law.atom[0], rtol=1e-14)
        assert cdf[-3:].tolist() == [1, 1, 1]


def test_values_outside_the_support():
    for law in (law_of(SETTINGS[0], False), law_of(SETTINGS[0], True)):
        ends = [-np.inf, -1.0, np.inf]
        assert law.cdf(ends).tolist() == [0, 0, 1]
        assert law.sf(ends).tolist() == [1, 1, 0]
        assert law.pdf(ends).tolist() == law.fast_pdf(ends).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("dimension", "gap", "l2"), [(2, 1 + 1e-9, 0.0), (2, 1e6, 0.0), (400, 1.5, 0.1), (3, 40.0, 1500.0)]
)
def test_extreme_parameters(dimension, gap, l2):
    law = TwoModeLaw(dimension, gap, l2)
    time = law.atom[0] * np.array([0, 1e-6, 0.5, 1 - 1e-9, 1.0])
    for one in (law, law.resolve()):
        cdf, pdf = one.cdf(time), one.pdf(time)
        assert np.isfinite(cdf).all()
        assert np.isfinite(pdf).all()
        assert ((cdf >= 0) & (cdf <= 1)).all()
        assert (np.diff(cdf) >= -1e-12).all()
        assert 0 <= one.mean() < np.inf
    # middle part without cancellation: χ density at 1 times the width 1 − 1/G for a narrow shell
    if gap == 1e6:
        assert_allclose(law.middle_weight, np.sqrt(2 / np.pi) * np.exp(-0.5) * 0.5e-12, rtol=1e-9)
    assert 0 <= law.middle_weight < 1


# --- interface ---


def test_the_contract_of_the_ball_model():
    law = BallModel(dimension=5, class_gap=2.0, l2=0.01).grokking_time()
    position, weight = law.atom
    assert_allclose([position, weight, law.fast_weight], [0.9410, 0.9098, 0.0550], atol=5e-5)
    assert law.resolve().atom == (position, 0.0)
    assert isinstance(law.mean(), float)
    assert law.rvs(3, rng=1).shape == (3,)
    assert np.ndim(law.rvs(None, rng=1)) == 0


def test_everything_broadcasts():
    gap, l2 = np.array([[1.3], [2.0], [4.0]]), np.array([0.0, 0.2])
    law = TwoModeLaw(4, gap, l2)
    time = np.linspace(0, 2, 5)[:, None, None]
    for name in ("mean", "std"):
        assert getattr(law, name)().shape == (3, 2)
    for name in ("atom", "fast_weight", "middle_weight", "zero_weight"):
        assert np.shape(getattr(law, name))[-2:] == (3, 2)
    assert law.rvs((7, 3, 2), 1).shape == (7, 3, 2)
    for one in (law, law.resolve()):
        for i, j in ((0, 1), (2, 0)):
            single = TwoModeLaw(4, gap[i, 0], l2[j], one.resolved)
            for name in ("pdf", "cdf", "sf", "fast_pdf"):
                values = getattr(one, name)(time)
                assert_allclose(values[:, i, j], getattr(single, name)(time[:, 0, 0]), rtol=1e-9, atol=1e-13)
            assert_allclose([one.mean()[i, j], one.std()[i, j]], [single.mean(), single.std()], rtol=1e-8)
            assert_allclose(one.ppf(0.3)[i, j], single.ppf(0.3), rtol=1e-9)


def test_long_arrays_go_through_in_blocks():
    law = law_of(SETTINGS[0], False)
    time = np.linspace(0, 1, 1500)
    assert_allclose(law.pdf(time)[::100], [law.pdf(t) for t in time[::100]], rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 1, "class_gap": 2.0}, "dimension"),
        ({"dimension": 3, "class_gap": 1.0}, "class_gap must be > 1"),
        ({"dimension": 3, "class_gap": 0.5}, "class_gap"),
        ({"dimension": 3, "class_gap": np.nan}, "class_gap"),
        ({"dimension": 3, "class_gap": 1e7}, "class_gap"),
        ({"dimension": 3, "class_gap": 2.0, "l2": -0.1}, "l2"),
        ({"dimension": 3, "class_gap": 2.0, "l2": 4.0}, "l2 must be < class_gap²"),
        ({"dimension": 3, "class_gap": [1.5, 2.0], "l2": [0.1, 0.2, 0.3]}, "class_gap and l2 must have shapes"),
        ({"dimension": 3, "class_gap": 2.0, "resolved": "yes"}, "resolved"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoModeLaw(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda law: law.pdf("soon"), "time"),
        (lambda law: law.cdf(np.nan), "time"),
        (lambda law: law.cdf([1.0, 2.0, 3.0]), "time \\(3,\\), parameters \\(2,\\)"),
        (lambda law: law.ppf(1.5), "probability"),
        (lambda law: law.ppf([0.1, 0.2, 0.3]), "probability"),
        (lambda law: law.rvs(3, 1), "size must end in the shape"),
        (lambda law: law.rvs(2.5, 1), "size"),
        (lambda law: law.rvs(-2, 1), "size"),
        (lambda law: law.rvs(2, "seed"), "rng"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(TwoModeLaw(3, [1.5, 2.0]))
