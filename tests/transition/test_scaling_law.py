"""The fitted law against numerical integration, and the binning against loops over records."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad

from grokphase.transition._scaling_law import BinnedErrors, Records, ScalingLaw

TOLERANCES = [(0.0, 0.0), (0.05, 0.0), (0.0, 0.02), (0.03, 0.02)]


def single_nodes(distance, resolution=0.1):
    """Bins of one node each."""
    distance = np.asarray(distance, dtype=float)
    count = distance.size
    return BinnedErrors(
        errors=np.ones((2, count)),
        distance=distance,
        resolution=np.full(count, resolution),
        weight=np.ones(count),
        first=np.arange(count),
        near=float(distance[0]),
        far=float(distance[-1]),
        scale=1.0,
    )


@pytest.mark.parametrize(("tolerance", "granularity"), TOLERANCES)
@pytest.mark.parametrize("jump", [False, True])
@pytest.mark.parametrize("exponent", [0.25, 1.0, 2.7])
def test_law_is_the_average_over_where_the_zero_lies(tolerance, granularity, jump, exponent):
    bins = single_nodes([0.1, 0.2, 0.5, 1.0])
    law = ScalingLaw(bins, tolerance, granularity, jump=jump)
    amplitude, correction, grains, height = np.log(0.7), -0.3, 2.0, 0.15
    given = {"amplitude": amplitude, "exponent": exponent, "correction": correction, "shift": grains, "jump": height}
    parameters = np.array([given[name] for name in law.place])
    threshold = tolerance + grains * granularity
    shift = (threshold / 0.7) ** (1 / exponent)
    expected = []
    for distance in bins.distance:
        mean, error = quad(lambda u, d=distance: (d + shift - 0.1 * u) ** exponent, 0, 1, epsabs=1e-13)
        assert error < 1e-8
        expected.append(height * jump + 0.7 * np.exp(correction * distance) * mean)
    # Accuracy of the quadrature at the end point of a power of 0.25, where the distance is one step.
    assert_allclose(np.exp(law.log_error(parameters[None])[0]), expected, rtol=1e-7)
    share = [(value - height * jump) / value for value in expected]
    assert_allclose(law.vanishing_share(parameters), share, rtol=1e-7)


@pytest.mark.parametrize(("tolerance", "granularity"), TOLERANCES)
@pytest.mark.parametrize("jump", [False, True])
@pytest.mark.parametrize("phase", [False, True])
def test_slopes_are_finite_differences(tolerance, granularity, jump, phase):
    law = ScalingLaw(single_nodes([0.1, 0.2, 0.5, 1.0]), tolerance, granularity, jump=jump, phase=phase)
    rng = np.random.default_rng(0)
    for _ in range(5):
        parameters = 1 + 0.3 * rng.normal(size=len(law.place))
        if phase:
            parameters[law.place["phase"]] = rng.uniform(0.1, 0.6)
        step = 1e-6
        differences = [
            (law.log_error(parameters[None] + move) - law.log_error(parameters[None] - move))[0] / (2 * step)
            for move in step * np.eye(parameters.size)
        ]
        # Central differences: rounding 1e-16/1e-6 and a third derivative times 1e-12.
        assert_allclose(law.slope(parameters), np.transpose(differences), atol=1e-8)


def test_a_phase_takes_the_place_of_the_average():
    bins = single_nodes([0.1, 0.2, 0.5, 1.0])
    law = ScalingLaw(bins, 0.0, 0.0, jump=False, phase=True)
    found = np.exp(law.log_error(np.array([[np.log(0.7), 0.8, -0.3, 0.4]]))[0])
    assert_allclose(found, 0.7 * np.exp(-0.3 * bins.distance) * (bins.distance - 0.4 * 0.1) ** 0.8, rtol=1e-12)


def test_variance_of_spread_zeros():
    """ν = 1: (1 - u)/(1/2) - (2 - u)/(3/2) has slope -4/3 in u, of variance 1/12; the midpoint rule errs by 1/64²."""
    law = ScalingLaw(single_nodes([0.1, 0.2, 0.5, 1.0]), 0.0, 0.0, jump=False)
    variance = law.variance_of_spread_zeros(np.array([0.0, 1.0, 0.0]))
    assert variance == pytest.approx((4 / 3) ** 2 / 12, rel=2 / 64**2)


def test_a_fit_returns_the_parameters_it_was_made_with():
    for jump, parameters in ((False, [-0.3, 1.7, -0.4]), (True, [-0.9, 0.8, 0.2, 0.3])):
        law = ScalingLaw(single_nodes(np.geomspace(0.1, 1, 8)), 0.0, 0.0, jump=jump)
        parameters = np.array(parameters)
        # The descent ends at a squared misfit of 1e-10; slopes are of order 1 and conditioned worse with a jump.
        assert_allclose(law.fit(law.log_error(parameters[None])[0]), parameters, atol=1e-3 if jump else 1e-4)


def ragged_records(seed):
    """Members with records at the same times, some of them missing."""
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.uniform(0.5, 1.5, 120))
    error = rng.random((6, 120))
    error[rng.random(error.shape) < 0.1] = np.nan
    place = rng.integers(70, 110, 6)
    before = place - 1
    for member in range(6):
        error[member, [place[member], before[member]]] = 0.5
    return time, error, time[place], time[before]


@pytest.mark.parametrize("seed", range(4))
def test_bins_are_means_over_records_of_every_member(seed):
    time, error, zero, before = ragged_records(seed)
    records = Records(time, error, zero, before)
    near, far = float(records.step.max()), 40.0
    bins = records.binned(near, far)
    assert bins.errors.shape[0] == 6
    edges = near * (far / near) ** (np.arange(round(6 * np.log10(far / near)) + 1) / round(6 * np.log10(far / near)))
    found = []
    for member in range(6):
        rows = [
            (zero[member] - t, e)
            for t, e in zip(time, error[member], strict=True)
            if t < zero[member] and not np.isnan(e)
        ]
        found.append([[e for d, e in rows if low <= d < high] for low, high in pairwise(edges)])
    # Bins that some member has no record in are joined with the next.
    merged, waiting = [], [[] for _ in range(6)]
    for place in range(len(edges) - 1):
        waiting = [have + found[member][place] for member, have in enumerate(waiting)]
        if all(waiting):
            merged.append(waiting)
            waiting = [[] for _ in range(6)]
    if any(waiting):
        merged[-1] = [have + rest for have, rest in zip(merged[-1], waiting, strict=True)]
    means = np.array([[np.mean(values) for values in members] for members in merged]).T
    assert_allclose(bins.errors * bins.scale, means, rtol=1e-12)
    assert_allclose(np.add.reduceat(bins.weight, bins.first), 1.0)
    all_distances = [
        np.mean([np.mean(distances) for distances in members])
        for members in distances_of(time, error, zero, edges, merged)
    ]
    assert_allclose(np.exp(bins.log_distance) * far, all_distances, rtol=1e-12)


def distances_of(time, error, zero, edges, merged):
    """Distances of the records in every merged bin, by member; a bin ends after as many records as it holds."""
    out = []
    taken = [0] * len(zero)
    for members in merged:
        row = []
        for member, values in enumerate(members):
            distances = sorted(
                zero[member] - t
                for t, e in zip(time, error[member], strict=True)
                if t < zero[member] and not np.isnan(e) and edges[0] <= zero[member] - t < edges[-1]
            )
            row.append(distances[taken[member] : taken[member] + len(values)])
            taken[member] += len(values)
        out.append(row)
    return out


def test_a_gap_right_before_the_zero_leaves_a_member_out():
    time = np.arange(50.0)
    error = np.full((5, 50), 0.3)
    before = np.array([29.0, 30, 31, 32, 20])
    records = Records(time, error, np.array([30.0, 31, 32, 33, 34]), before)
    assert records.step.size == 4
    assert set(records.zero) == {30, 31, 32, 33}


def test_granularity_of_counts_and_of_real_numbers():
    time, zero = np.arange(30.0), np.array([29.0, 29.0])
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 40, (2, 30))
    for values in (counts / 200, 1 - (1 - counts / 200), (1 - counts / 200).astype(np.float32)):
        error = np.asarray(values if values.dtype == float else 1 - values.astype(float))
        assert Records(time, error, zero, zero - 1).granularity == pytest.approx(1 / 200, abs=2e-7)
    assert Records(time, rng.random((2, 30)), zero, zero - 1).granularity == 0.0
