"""Isotropic densities: exact test error, critical exponent and prefactor (Eqs. 48-50), input checks."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import special

import grokphase as gp
from grokphase.solvable.isotropic import IsotropicModel

DEPTHS = [1e-12, 1e-5, 0.01, 0.3, 0.9, 1 - 1e-9, 1.0]


def uniform_ball(dimension):
    return IsotropicModel(dimension=dimension, density=lambda r: dimension * (1 - r) ** (dimension - 1))


# name, density for arrays, the same for mpmath, ξ, A
DENSITIES = {
    "constant": (lambda r: 1.0, lambda r: mp.mpf(1), 0.0, 1.0),
    "linear": (lambda r: 2 * (1 - r), lambda r: 2 * (1 - r), 0.0, 2.0),
    "vanishing": (lambda r: 6 * r * (1 - r), lambda r: 6 * r * (1 - r), -1.0, 6.0),
    "root": (lambda r: 0.75 * r**-0.5 * (1 - r), lambda r: 0.75 / mp.sqrt(r) * (1 - r), 0.5, 0.75),
    "third": (lambda r: r ** (-1 / 3) * 2 / 3, lambda r: r ** (-mp.mpf(1) / 3) * 2 / 3, 1 / 3, 2 / 3),
    "corrected": (lambda r: 0.6 * (1 + r**0.5), lambda r: mp.mpf("0.6") * (1 + mp.sqrt(r)), 0.0, 0.6),
    "strong": (lambda r: 0.1 * r**-0.9, lambda r: mp.mpf("0.1") * r ** -mp.mpf("0.9"), 0.9, 0.1),
}


def exact_error(density, dimension: int, depth: float, xi: float) -> mp.mpf:
    """The integral of Eq. 48 with 40 digits; y = r^(1−ξ) takes the divergence away."""
    with mp.workdps(40):
        depth, power = mp.mpf(depth), 1 / (1 - mp.mpf(max(xi, 0.0)))

        def share(r):
            if dimension == 1 or depth == 1:
                return mp.mpf(1) / 2
            z = min(max((depth - r) * (2 - depth - r) / (1 - r) ** 2, mp.mpf(0)), mp.mpf(1))  # but for rounding
            return mp.betainc(mp.mpf(dimension - 1) / 2, mp.mpf(1) / 2, 0, z, regularized=True) / 2

        def integrand(y):
            r = y**power
            return density(r) * share(r) * power * y ** (power - 1)

        # The tolerance of mp.quad is absolute. Near δ = 1 the integrand has a singularity just beyond the end.
        end, scale = depth ** (1 / power), depth ** ((dimension + 1) / mp.mpf(2) - xi)
        pieces = [0, *(end * (1 - mp.mpf(10) ** -k) for k in range(1, 11, 3)), end]
        return scale * mp.quad(lambda y: integrand(y) / scale, pieces)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("dimension", [1, 2, 5, 17])
def test_error_equals_mpmath(name, dimension):
    # the stated accuracy; measured 1e-11
    density, exact_density, xi, _ = DENSITIES[name]
    model = IsotropicModel(dimension=dimension, density=density)
    exact = [float(exact_error(exact_density, dimension, depth, xi)) for depth in DEPTHS]
    assert_allclose(model.test_error(DEPTHS), exact, rtol=1e-10)


@pytest.mark.parametrize("name", DENSITIES)
def test_divergence_and_amplitude_are_read_off_the_density(name):
    density, _, xi, amplitude = DENSITIES[name]
    model = IsotropicModel(dimension=4, density=density)
    assert_allclose(model.divergence, xi, atol=1e-12)  # it is rounded to twelve decimals
    assert_allclose(model.amplitude, amplitude, rtol=1e-10)
    assert_allclose(model.exponent, 2.5 - xi, rtol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5, 17, 128, 10_000])
def test_uniform_ball_is_the_ball_model(dimension):
    # two independent routes: an integral over spheres, and Eq. 22. 1e-10 is the stated accuracy of both.
    distance = np.concatenate([1 - 10.0 ** -np.arange(1, 15), np.linspace(-1, 1, 41)])
    model, ball = uniform_ball(dimension), gp.BallModel(dimension=dimension, class_gap=1.0)
    error, exact = model.test_error(1 - distance), ball.test_error_at(distance)
    normal = exact > 1e-290
    assert normal.sum() > 20
    assert_allclose(error[normal], exact[normal], rtol=1e-10)
    assert (error[~normal] < 1e-289).all()
    assert model.exponent == ball.exponent


def test_error_in_three_dimensions_in_closed_form():
    # I_z(1, ½) = 1 − (1−δ)/(1−r): at constant density E = ½ (δ + (1−δ) ln(1−δ)), which cancels in float64
    depth = np.array([1e-9, 1e-3, 0.2, 0.7])
    model = IsotropicModel(dimension=3, density=lambda r: np.ones_like(r))
    with mp.workdps(40):
        exact = [float((mp.mpf(d) + (1 - mp.mpf(d)) * mp.log1p(-mp.mpf(d))) / 2) for d in depth]
    assert_allclose(model.test_error(depth), exact, rtol=1e-10)


@pytest.mark.parametrize("xi", [-3.0, -0.5, 0.0, 0.3, 0.9, 0.99, 0.999])
def test_power_law_in_one_dimension_in_closed_form(xi):
    # half of the inputs above the plane: ½ δ^(1−ξ), exponent and prefactor included
    model = IsotropicModel.power_law(dimension=1, divergence=xi)
    depth = np.array([1e-40, 1e-3, 0.5, 1.0])
    assert_allclose(model.test_error(depth), depth ** (1 - xi) / 2, rtol=1e-10)
    assert_allclose([model.exponent, model.prefactor], [1 - xi, 0.5], rtol=1e-12)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("dimension", [1, 2, 3, 17])
def test_error_approaches_the_power_law(name, dimension):
    # corrections are O(D δ^½) for "corrected" and O(D δ) for the rest, so that E/(C δ^ν) − 1 < 2e-5 at δ = 1e-12
    model = IsotropicModel(dimension=dimension, density=DENSITIES[name][0])
    depth = 1e-12
    assert_allclose(model.test_error(depth) / (model.prefactor * depth**model.exponent), 1, atol=2e-5)


@given(
    dimension=st.integers(1, 200),
    xi=st.floats(-5, 0.95),
    depths=st.lists(st.floats(-1, 3), min_size=2, max_size=5).map(sorted),
)
@settings(max_examples=30, deadline=None)
def test_error_is_monotone_and_symmetric(dimension, xi, depths):
    model = IsotropicModel.power_law(dimension=dimension, divergence=xi)
    error = model.test_error(depths)
    assert ((error >= 0) & (error <= 1)).all()
    assert (np.diff(error) >= -1e-12).all()
    assert_allclose(error + model.test_error(2 - np.array(depths)), 1, atol=1e-12)


def test_depth_may_be_any_real_number_of_any_shape():
    model = uniform_ball(3)
    assert model.test_error([-np.inf, -1.0, 0.0, 1.0, 2.0, 7.0, np.inf]).tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    assert np.ndim(model.test_error(0.3)) == 0
    assert model.test_error(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    grid = np.linspace(0, 2, 1200).reshape(3, 400)  # more than one block of the quadrature
    assert_allclose(model.test_error(grid).ravel(), [float(model.test_error(d)) for d in grid.ravel()], rtol=1e-12)


def test_sampled_inputs_beyond_the_plane():
    # 10⁶ draws, |z| < 5 at three depths: false alarm 2e-6; the factorised form is 39 standard errors off or more
    rng, num, xi, dimension = np.random.default_rng(4), 1_000_000, 0.4, 4
    model = IsotropicModel.power_law(dimension=dimension, divergence=xi)
    radius = 1 - rng.random(num) ** (1 / (1 - xi))
    direction = rng.standard_normal((num, dimension))
    along = radius * direction[:, 0] / np.linalg.norm(direction, axis=1)
    for depth in (0.1, 0.5, 0.9):
        share = (along > 1 - depth).mean()
        stderr = np.sqrt(share * (1 - share) / num)
        assert abs(model.test_error(depth) - share) < 5 * stderr
        assert abs(printed_48(model, depth) - share) > 30 * stderr


def test_breakpoints_make_jumps_exact():
    # a thick shell, 0.2 < r < 0.6 in D = 3, in closed form: ½ ∫ ρ (1 − (1−δ)/(1−r)) dr
    shell = IsotropicModel(
        dimension=3, density=lambda r: np.where(abs(r - 0.4) < 0.2, 2.5, 0.0), breakpoints=(0.2, 0.6)
    )
    depth = np.array([0.1, 0.2, 0.25, 0.6, 0.8, 1.0])
    end = np.clip(depth, 0.2, 0.6)
    exact = 1.25 * ((end - 0.2) + (1 - depth) * np.log((1 - end) / 0.8))
    assert_allclose(shell.test_error(depth), exact, rtol=1e-10, atol=1e-16)
    assert shell.divergence is None
    assert shell.amplitude is None
    for name in ("exponent", "prefactor"):
        with pytest.raises(ValueError, match="slope does not settle"):
            getattr(shell, name)
    with pytest.raises(ValueError, match="breakpoints"):
        IsotropicModel(dimension=3, density=lambda r: np.where(abs(r - 0.4) < 0.2, 2.5, 0.0))


def test_logarithmic_divergence_has_no_exponent_but_an_error():
    model = IsotropicModel(dimension=1, density=lambda r: -np.log(r))
    depth = np.array([1e-6, 0.1, 1.0])
    assert_allclose(model.test_error(depth), depth * (1 - np.log(depth)) / 2, rtol=1e-10)
    with pytest.raises(ValueError, match="slope does not settle"):
        model.exponent  # noqa: B018


def test_density_known_only_through_the_radius_is_read_where_it_can_be():
    # 1 − (1−r)² loses all digits below r = 1e-8; the plateau of slopes is found above
    norm = 1 / (np.pi / 4)
    model = IsotropicModel(dimension=2, density=lambda r: norm * np.sqrt(np.maximum(1 - (1 - r) ** 2, 0.0)))
    assert_allclose(model.divergence, -0.5, atol=1e-6)
    assert_allclose(model.amplitude, norm * np.sqrt(2), rtol=1e-5)


# --- the paper's Eqs. 48-50 ---


def printed_48(model, depth, exponent_of_second=2.0):
    """Eq. 48 as printed: I_z taken out of the integral; ``exponent_of_second`` is −2 in the print."""
    z = np.clip(2 * depth - depth**exponent_of_second, 0.0, 1.0)
    mass = depth ** (1 - model.divergence) * model.amplitude / (1 - model.divergence)
    return special.betainc((model.dimension - 1) / 2, 0.5, z) / 2 * mass


@pytest.mark.parametrize(("dimension", "ratio"), [(3, 1.9987), (5, 2.9953), (17, 8.933)])
def test_eq_48_printed_is_too_large(dimension, ratio):
    # uniform ball at δ = 1e-3: the factorised form over the exact error, which Eq. 22 confirms
    depth = 1e-3
    model = uniform_ball(dimension)
    mass = -np.expm1(dimension * np.log1p(-depth))  # ∫₀^δ D (1−r)^(D−1) dr
    factorised = special.betainc((dimension - 1) / 2, 0.5, 2 * depth - depth**2) / 2 * mass
    exact = gp.BallModel(dimension=dimension, class_gap=1.0).test_error_at(1 - depth)
    assert_allclose(model.test_error(depth), exact, rtol=1e-10)
    assert_allclose(factorised / exact, ratio, rtol=1e-4)


def test_eq_48_argument_as_printed_is_no_number_in_range():
    # 2δ − δ^−2 is negative for every δ < 1: no incomplete beta function there
    depth = np.array([1e-3, 0.1, 0.7])
    assert (2 * depth - depth**-2.0 < 0).all()
    assert (printed_48(uniform_ball(3), depth, exponent_of_second=-2.0) == 0).all()
    assert (uniform_ball(3).test_error(depth) > 0).all()


@pytest.mark.parametrize(("dimension", "xi"), [(2, 0.0), (3, 0.5), (5, 0.3), (17, 0.8)])
def test_eq_49_prefactor_printed_is_too_large(dimension, xi):
    # printed: 2^((D−1)/2) A/((1−ξ)(D−1) B((D−1)/2, ½)), read off an integral of A r^−ξ
    model = IsotropicModel.power_law(dimension=dimension, divergence=xi)
    half = (dimension - 1) / 2
    printed = 2**half * model.amplitude / ((1 - xi) * (dimension - 1) * special.beta(half, 0.5))
    depth = 1e-9
    measured = model.test_error(depth) / depth**model.exponent
    # the next order is relative O(D δ) = 2e-8
    assert_allclose(model.prefactor, measured, rtol=1e-6)
    assert_allclose(printed / measured, 1 / ((1 - xi) * special.beta(1 - xi, half + 1)), rtol=1e-6)
    assert printed / measured > 1.3
    # without the division by D − 1 → 0, the form used here is the corrected one of the paper's own notation
    corrected = 2**half * model.amplitude * special.beta(1 - xi, half + 1) / ((dimension - 1) * special.beta(half, 0.5))
    assert_allclose(model.prefactor, corrected, rtol=1e-12)


def test_eq_49_second_term_has_the_exponent_of_its_own_integral():
    # ρ = ρ₀ + ρ₁ r is linear, so is E: the difference of two densities shows the ρ₁ term alone, ∝ δ^((D+3)/2)
    depth = np.array([1e-5, 1e-4])
    vanishing = IsotropicModel(dimension=3, density=lambda r: 2 * r).test_error(depth)
    constant = IsotropicModel(dimension=3, density=lambda r: 1.0).test_error(depth)
    sloping = IsotropicModel(dimension=3, density=lambda r: 0.5 + r).test_error(depth)
    assert_allclose(sloping, 0.5 * constant + 0.5 * vanishing, rtol=1e-10)
    slope = np.diff(np.log(vanishing))[0] / np.log(10)
    assert_allclose(slope, 3.0, atol=1e-3)  # corrections O(δ)
    assert abs(slope - (3 + 2) / 2) > 0.4  # printed: (D+2)/2
    assert IsotropicModel(dimension=3, density=lambda r: 2 * r).exponent == 3.0


@pytest.mark.parametrize(("dimension", "xi", "slope"), [(3, 0.5, 1.5), (5, 0.3, 2.7), (17, 0.8, 8.2)])
def test_eq_50_exponent(dimension, xi, slope):
    model = IsotropicModel.power_law(dimension=dimension, divergence=xi)
    error = model.test_error([1e-8, 1e-7])
    assert_allclose(np.diff(np.log10(error)), slope, atol=1e-5)  # corrections O(D δ)
    assert_allclose(model.exponent, slope, rtol=1e-14)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 0, "density": lambda r: 1.0}, "dimension"),
        ({"dimension": 2.5, "density": lambda r: 1.0}, "dimension"),
        ({"dimension": 3, "density": 2.0}, "density must be a function"),
        ({"dimension": 3, "density": lambda r: 2.0}, "integral 1 .* got 2: divide"),
        (
            {"dimension": 3, "density": lambda r: 2 * r - 0.5 + 0.5 * (r > 2)},
            "density must be finite and ≥ 0, got -0.5",
        ),
        ({"dimension": 3, "density": lambda r: np.full_like(r, np.nan)}, "density must be finite"),
        ({"dimension": 3, "density": lambda r: np.ones(3)}, "one real number for each depth, got shape \\(3,\\)"),
        ({"dimension": 3, "density": lambda r: "no"}, "one real number"),
        ({"dimension": 3, "density": lambda r: 1.0 if r < 0.5 else 0.5}, "accept an array of depths"),
        ({"dimension": 3, "density": lambda r: 0.1 * r**-1.5}, "density must be integrable"),
        ({"dimension": 3, "density": lambda r: 0.5 * r**-0.5, "divergence": 0.4}, "divergence must be that of"),
        ({"dimension": 3, "density": lambda r: 1.0, "divergence": 1.0}, "divergence must be < 1"),
        ({"dimension": 3, "density": lambda r: 1.0, "breakpoints": (0.0, 0.5)}, "breakpoints"),
        ({"dimension": 3, "density": lambda r: 1.0, "breakpoints": "x"}, "breakpoints"),
    ],
)
def test_bad_models_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        IsotropicModel(**arguments)


@pytest.mark.parametrize("xi", [1.0, 2.0, -1000.0, np.nan, "a"])
def test_bad_power_laws_are_refused(xi):
    with pytest.raises(ValueError, match="divergence"):
        IsotropicModel.power_law(dimension=3, divergence=xi)


@pytest.mark.parametrize("depth", [np.nan, "deep", 1j])
def test_bad_depths_are_refused(depth):
    with pytest.raises(ValueError, match="depth"):
        uniform_ball(2).test_error(depth)


def test_a_kink_that_only_some_depths_reach_is_reported_there():
    # |r − 0.7| has its kink past δ = 0.3, where E is still smooth; the whole integral is not
    with pytest.raises(ValueError, match="density must be smooth"):
        IsotropicModel(dimension=2, density=lambda r: abs(r - 0.7) / 0.29)
    model = IsotropicModel(dimension=1, density=lambda r: abs(r - 0.7) / 0.29, breakpoints=(0.7,))
    assert_allclose(model.test_error([0.3, 1.0]), [(0.7 * 0.3 - 0.045) / 0.58, 0.5], rtol=1e-10)
