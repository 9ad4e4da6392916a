"""Test for more than one mode: calibration, published percentiles, power, and where the modes are."""

import numpy as np
import pytest
from scipy import stats

from grokphase.transition import modality
from grokphase.transition.modes import _size_factor

# Percentiles of the dip of uniform samples (M. Maechler, R package diptest, a million samples each).
PUBLISHED = {
    10: {0.5: 0.0977817630384725, 0.9: 0.130462149644819, 0.95: 0.139611395137099, 0.99: 0.159684158858235},
    100: {0.5: 0.0354621760592113, 0.9: 0.047152783315718, 0.95: 0.0511279442868827, 0.99: 0.059024132304226},
    500: {0.5: 0.0164519238025286, 0.9: 0.0218781313182203, 0.95: 0.0237294742633411, 0.99: 0.0274518022761997},
    1000: {0.5: 0.0117439009052552, 0.9: 0.0156148055023058, 0.95: 0.0169343970067564, 0.99: 0.0196080260483234},
    5000: {0.5: 0.00531239247408213, 0.9: 0.00705566126234625, 0.95: 0.0076506368153935, 0.99: 0.00886357892854914},
    72000: {0.5: 0.00141049709228472, 0.9: 0.00187306184725826, 0.95: 0.00203178401610555, 0.99: 0.00235782814777627},
}


@pytest.mark.parametrize("size", [10, 100, 500])
def test_null_distribution_is_the_published_one(size):
    """Share of simulated dips above each percentile; four standard errors, false alarm 8e-4 for the twelve."""
    from grokphase.transition.modes import _null_dips

    null = _null_dips(size, 4000, 1)
    for level, percentile in PUBLISHED[size].items():
        above = (null > percentile).mean()
        error = np.sqrt(level * (1 - level) / null.size)
        assert abs(above - (1 - level)) < 4 * error
        assert abs((null > 1.15 * percentile).mean() - (1 - level)) > 4 * error  # control: a dip 15% larger


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_finite_size_law_between_published_percentiles(level):
    """The law that carries a p-value from 1000 to larger samples is good to the stated 0.5%."""
    at_1000 = PUBLISHED[1000][level] / _size_factor(1000)
    for size in (5000, 72000):
        assert abs(PUBLISHED[size][level] / _size_factor(size) / at_1000 - 1) < 0.005
    plain = PUBLISHED[72000][level] * 72000**0.5 / (PUBLISHED[1000][level] * 1000**0.5)
    assert plain - 1 > 0.015  # control: without it the law is 2% off


@pytest.mark.parametrize("size", [40, 5000])
def test_p_values_of_uniform_samples_are_uniform(size):
    """Also where the statistic is carried to another size.  Kolmogorov-Smirnov, false alarm 1e-3 but for the seed."""
    rng = np.random.default_rng(3)
    p_values = [modality(rng.random(size), replicates=4000).p_value for _ in range(300)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    "law",
    [stats.norm, stats.expon, stats.cauchy, stats.lognorm(1.5), stats.beta(0.3, 1), stats.triang(0.5)],
    ids=["normal", "exponential", "cauchy", "lognormal", "divergent", "triangular"],
)
@pytest.mark.parametrize("size", [50, 2000])
def test_unimodal_laws_are_hardly_ever_rejected(law, size):
    """At a level of 5% at most 5%: of 60 samples, more than 12 with probability below 1e-5."""
    rng = np.random.default_rng(4)
    assert sum(modality(law.rvs(size=size, random_state=rng)).bimodal for _ in range(60)) <= 12


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_two_modes_and_where_they_are(share):
    """Peaks of width 0.1 at 0 and 3, as in a density of grokking times."""
    rng = np.random.default_rng(5)
    count = 4000
    second = int(share * count)
    values = np.concatenate([rng.normal(0, 0.1, count - second), rng.normal(3, 0.1, second)])
    result = modality(values)
    assert result.bimodal
    assert result.p_value == 1 / 2001
    assert result.test == "dip"
    # The shortest interval with m^(4/5) of m values has a share m^(−1/5) of the mass, at least 0.18, around the mode.
    for location, centre, m in zip(result.locations, (0, 3), (count - second, second), strict=True):
        assert abs(location - centre) < 0.1 * stats.norm.ppf((1 + m**-0.2) / 2)


def test_an_atom_at_zero_beside_a_broad_peak():
    """Runs that generalise with the training data have a grokking time of exactly 0."""
    rng = np.random.default_rng(6)
    values = np.concatenate([np.zeros(300), rng.normal(5, 1, 700)])
    result = modality(values)
    assert result.bimodal
    assert result.locations[0] == 0
    assert abs(result.locations[1] - 5) < 1
    assert not modality(np.concatenate([np.zeros(300), rng.exponential(1, 700)])).bimodal


def test_close_peaks_are_one_mode():
    """Two normal densities of equal weight have one mode up to a distance of 2 standard deviations."""
    rng = np.random.default_rng(7)
    near = modality(np.concatenate([rng.normal(0, 1, 2000), rng.normal(1.8, 1, 2000)]))
    far = modality(np.concatenate([rng.normal(0, 1, 2000), rng.normal(3.5, 1, 2000)]))
    assert not near.bimodal
    assert len(near.locations) == 1
    assert 0 < near.locations[0] < 1.8
    assert far.bimodal


def test_a_million_values():
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.exponential(1, 900_000), rng.normal(8, 0.5, 100_000)])
    result = modality(values)
    assert result.bimodal
    assert result.locations[0] < 0.1
    assert abs(result.locations[1] - 8) < 0.2


def test_reproducible_and_small_samples():
    values = np.random.default_rng(9).random(30)
    assert modality(values) == modality(values[::-1])
    assert modality(values, seed=1).p_value != modality(values, seed=2).p_value
    for few in ([1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 2.0, 7.0]):  # always the least dip there is
        assert modality(few, replicates=50).p_value == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("values", {"values": []}),
        ("values", {"values": [[0.0]]}),
        ("values", {"values": [0.0, np.nan]}),
        ("significance", {"significance": 0.0}),
        ("significance", {"significance": 1.5}),
        ("replicates", {"replicates": 0}),
        ("seed", {"seed": -1}),
    ],
)
def test_bad_input(name, arguments):
    with pytest.raises(ValueError, match=name):
        modality(**{"values": [0.0, 1.0, 2.0], **arguments})
