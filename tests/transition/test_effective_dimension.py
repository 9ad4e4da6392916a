"""Effective dimension against its definition, exact clouds, invariances and Gaussian clouds."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

import grokphase as gp

seeds = st.integers(0, 2**32 - 1)
EXACT = 1e-12  # ln D_eff is good to 1e-14 times the number of dimensions, here at most 40


def cross(lengths):
    """Two samples at ± each axis: the covariance is diagonal with the squares of the lengths."""
    axes = np.diag(lengths)
    return np.concatenate([axes, -axes])


@pytest.mark.parametrize("dimension", [1, 2, 5, 40])
def test_isotropic_cloud(dimension):
    np.testing.assert_allclose(gp.effective_dimension(cross(np.ones(dimension))), dimension, rtol=EXACT)


@pytest.mark.parametrize("lengths", [[1.0, 2.0], [1.0, 1e-3, 1e-6], [3.0, 1.0, 4.0, 1.0, 5.0]])
def test_entropy_of_the_fractions(lengths):
    with mpmath.workdps(40):
        squares = [mpmath.mpf(length) ** 2 for length in lengths]
        fractions = [square / mpmath.fsum(squares) for square in squares]
        expected = mpmath.exp(-mpmath.fsum(fraction * mpmath.log(fraction) for fraction in fractions))
    np.testing.assert_allclose(gp.effective_dimension(cross(lengths)), float(expected), rtol=EXACT)


def test_line_has_one_dimension():
    line = np.outer(np.linspace(-1, 3, 20), [1.0, 2.0, -1.0]) + np.array([5.0, 0.0, 1.0])
    np.testing.assert_allclose(gp.effective_dimension(line), 1, rtol=EXACT)
    assert gp.effective_dimension(line, centred=False) > 1.1


@pytest.mark.parametrize(("samples", "dims"), [(50, 7), (7, 30), (2, 3), (12, 12)])
def test_principal_component_analysis(samples, dims):
    rng = np.random.default_rng(samples)
    features = rng.normal(size=(samples, dims)) @ rng.normal(size=(dims, dims)) + 10
    fractions = PCA(svd_solver="full").fit(features).explained_variance_ratio_
    fractions = fractions[fractions > 1e-15]
    # The offset costs two digits in the covariance.
    np.testing.assert_allclose(
        gp.effective_dimension(features), np.exp(-(fractions * np.log(fractions)).sum()), rtol=100 * EXACT
    )


def test_about_the_origin_the_mean_is_a_direction():
    features = cross([1.0, 1.0])
    lifted = np.column_stack([features, np.full(4, 2.0)])  # second moments ½, ½, 4
    fractions = np.array([0.1, 0.1, 0.8])
    np.testing.assert_allclose(
        gp.effective_dimension(lifted, centred=False), np.exp(-(fractions * np.log(fractions)).sum()), rtol=EXACT
    )
    np.testing.assert_allclose(gp.effective_dimension(lifted), 2, rtol=EXACT)


@given(seed=seeds, samples=st.integers(2, 30), dims=st.integers(1, 10), scale=st.sampled_from([1e-200, 1.0, 1e200]))
@settings(max_examples=60, deadline=None)
def test_rotation_scale_shift_and_bounds(seed, samples, dims, scale):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(samples, dims))
    rotation = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    value = gp.effective_dimension(features)
    np.testing.assert_allclose(gp.effective_dimension((features @ rotation + 1) * scale), value, rtol=100 * EXACT)
    assert 1 - EXACT <= value <= min(samples - 1, dims) * (1 + EXACT)
    assert gp.effective_dimension(features, centred=False) <= min(samples, dims) * (1 + EXACT)


def test_batch_and_loop_agree():
    features = np.random.default_rng(0).normal(size=(3, 4, 20, 5))
    batch = gp.effective_dimension(features)
    assert batch.shape == (3, 4)
    for index in np.ndindex(3, 4):
        np.testing.assert_allclose(batch[index], gp.effective_dimension(features[index]), rtol=EXACT)


def test_gaussian_cloud():
    """Large samples converge to the value of the covariance; a covariance 5% off does not pass."""
    lengths, count = np.array([3.0, 2.0, 1.0]), 200_000
    features = np.random.default_rng(1).normal(size=(count, 3)) * lengths
    fractions = lengths**2 / (lengths**2).sum()
    expected = np.exp(-(fractions * np.log(fractions)).sum())
    # ln D_eff = −Σ f ln f has the gradient −ln f − S; sample variances have a relative error √(2/n), independent.
    gradient = fractions * (np.log(fractions) - (fractions * np.log(fractions)).sum())
    stderr = expected * np.sqrt(2 / count * (gradient**2).sum())
    value = gp.effective_dimension(features)
    assert abs(value - expected) < 4 * stderr  # false alarm 6e-5, were the seed not fixed
    off = fractions * [1.05, 1, 1] / (fractions * [1.05, 1, 1]).sum()
    assert abs(value - np.exp(-(off * np.log(off)).sum())) > 4 * stderr


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_collapsed_cloud_is_refused(dtype):
    rng = np.random.default_rng(2)
    noise = np.finfo(dtype).eps * rng.normal(size=(30, 4))
    collapsed = (1 + noise).astype(dtype)
    with pytest.raises(ValueError, match="must differ between samples"):
        gp.effective_dimension(collapsed)
    with pytest.raises(ValueError, match="1 of 2 clouds"):
        gp.effective_dimension(np.stack([collapsed, rng.normal(size=(30, 4)).astype(dtype)]))
    assert 1 <= gp.effective_dimension(collapsed, centred=False) < 1.001
    spread = (1 + 1e4 * noise).astype(dtype)
    assert 3 < gp.effective_dimension(spread) < 4


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([1.0, 2.0], "at least 2 dimension"),
        ([[1.0, np.nan], [0.0, 1.0]], "finite"),
        (np.zeros((3, 0)), "at least one sample and one dimension"),
        ([[1.0, 2.0]], "must differ"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_bad_features(features, message):
    with pytest.raises(ValueError, match=f"features.*{message}"):
        gp.effective_dimension(features)


def test_zeros_have_no_dimension_about_the_origin():
    with pytest.raises(ValueError, match="features"):
        gp.effective_dimension(np.zeros((4, 2)), centred=False)
