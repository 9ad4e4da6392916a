"""The criterion of zero test error: stretches on given strings, shortcuts of the decision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive_training import attention_of, domain_size, random_parameters
from scipy import stats

from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario
from grokphase.training.numerics import pinned
from grokphase.training.parameters import Parameters
from grokphase.training.zero_error import (
    BATCH,
    Strings,
    average_domain_size,
    is_zero,
    published_verdict,
    random_strings,
)


def test_average_domain_size_is_the_published_formula():
    rng = np.random.default_rng(0)
    wrong = rng.random((2, 9, 30)) < 0.3
    weights = rng.integers(0, 4, (2, 30)).astype(float)
    with pinned(Scenario(30, precision="float64")):
        found = average_domain_size(jnp.asarray(wrong), jnp.asarray(weights))
    for member in range(2):
        unequal = (wrong[member, 1:] != wrong[member, :-1]).sum(axis=0)
        equal = 8 - unequal
        sizes = (1 + equal / (unequal + 1)) / 9
        expected = (weights[member] * sizes).sum() / weights[member].sum()
        np.testing.assert_allclose(found[member], expected, rtol=1e-12)


def test_a_string_that_is_wrong_everywhere_counts_as_perfect():
    wrong = jnp.ones((1, 7, 1), bool)
    assert float(average_domain_size(wrong, jnp.ones((1, 1)))[0]) == 1


@pytest.mark.parametrize("reach", [1, 2])
def test_strings_against_the_fixed_attention(reach):
    """Stretches and wrong cells of random strings of a random student, recomputed from Attention.scores."""
    rule, sites = CellularAutomaton(30).iterate(reach), 40
    parameters = random_parameters(reach, 4, scale=-1.0)
    with pinned(Scenario(30, precision="float64")):
        key = jax.random.key(1)
        table = jnp.asarray(rule.table > 0)
        given = Parameters(*(jnp.asarray(part) for part in parameters))
        stretches, wrong = jax.jit(random_strings, static_argnums=3)(given, table, key, sites)
        spins = np.asarray(jax.random.bernoulli(key, 0.5, (sites, BATCH))).T
    strings = 2 * spins.astype(int) - 1
    score = -attention_of(parameters).scores(strings, parameters[1])
    expected = score * rule(strings) <= 0
    np.testing.assert_array_equal(wrong, expected.sum(axis=1))
    np.testing.assert_array_equal(stretches, 1 + (expected[:, 1:] != expected[:, :-1]).sum(axis=1))
    np.testing.assert_allclose((1 / np.asarray(stretches)).mean(), domain_size(parameters, rule, strings), rtol=1e-12)


def drawn(stretches):
    stretches = np.asarray(stretches)
    return Strings(stretches, np.where(stretches > 1, 5, 0))


def verdict(scenario, rates, seed=0):
    """Decision where each string errs (three stretches) with the given probability."""
    rng = np.random.default_rng(seed)
    asked = []

    def batch(number):
        asked.append(number)
        return drawn(np.where(rng.random(BATCH) < rates, 3, 1))

    return is_zero(scenario, batch), len(asked)


def test_decisions_and_their_price():
    published = Scenario(30)
    assert verdict(published, 0.0) == (True, 4)  # a quarter of the strings is enough without any error
    assert verdict(published, 1.0) == (False, 1)
    assert verdict(published, 0.004)[0]
    assert not verdict(published, 0.04)[0]
    strict = Scenario(30, protocol="all-inputs")
    assert verdict(strict, 0.0) == (True, 2)
    assert not verdict(strict, 0.05)[0]


def test_all_strings_decide_without_shortcuts_where_they_agree():
    """Without an early verdict the last string decides: mean of 1/D above the threshold."""
    assert published_verdict(9.99, 1000, 1000, 0.99)
    assert published_verdict(10.0, 1000, 1000, 0.99) is False
    assert published_verdict(2.9, 64, 1000, 0.99) is None
    assert published_verdict(3.0, 64, 1000, 0.99) is False
    assert published_verdict(0.0, 192, 1000, 0.99) is None
    assert published_verdict(0.0, 256, 1000, 0.99)
    assert published_verdict(0.5, 256, 1000, 0.99) is None
    assert published_verdict(0.5, 384, 1000, 0.99)


def chances(rate, stretches, total=1000):
    """Probabilities of a wrong early no, a wrong early yes, and of yes from all strings; exact, by batches.

    Every string errs with probability ``rate`` and then has the given number of stretches.
    """
    loss = 1 - 1 / stretches
    limit = int(np.ceil(10 / loss - 1e-9))  # so many erring strings are no zero
    erring = np.arange(limit + BATCH + 1)
    undecided = (erring == 0).astype(float)
    wrong_no = wrong_yes = 0.0
    for done in [*range(BATCH, total, BATCH), total]:
        drawn_now = BATCH if done % BATCH == 0 else done % BATCH
        step = stats.binom.pmf(np.arange(drawn_now + 1), drawn_now, rate)
        undecided = np.convolve(undecided, step)[: erring.size]
        rest_says_yes = stats.binom.cdf(limit - 1 - erring, total - done, rate)
        verdicts = [published_verdict(loss * count, done, total, 0.99) for count in erring]
        no, yes = (np.array([verdict is answer for verdict in verdicts]) for answer in (False, True))
        wrong_no += (undecided * no * rest_says_yes).sum()
        wrong_yes += (undecided * yes * (1 - rest_says_yes)).sum()
        undecided = np.where(no | yes, 0, undecided)
    return wrong_no, wrong_yes, stats.binom.cdf(limit - 1, total, rate)


@pytest.mark.parametrize("stretches", [2, 3, 5, 50])
def test_shortcuts_rarely_change_the_verdict(stretches):
    found = np.array([chances(rate, stretches) for rate in np.linspace(0.0005, 0.08, 160)])
    assert found[:, 0].max() < (2e-3 if stretches <= 3 else 1.2e-2)
    assert found[:, 1].max() < (6e-3 if stretches <= 3 else 1.7e-2)
    assert np.abs(found[:, 1] - found[:, 0]).max() < 1.2e-2
    clear = found[:, 2] < 0.01
    assert found[clear, 1].max() < 5e-3
