"""Test error and effective dimension of the probe, against the fixed attention in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive_training import attention_of, random_parameters

from grokphase.rules import CellularAutomaton
from grokphase.student import all_inputs
from grokphase.training import Scenario, chunk
from grokphase.training.numerics import pinned
from grokphase.training.parameters import Parameters
from grokphase.training.probe import cells, effective_dimension, outputs, probe


def run_probe(alone, spins, rule):
    with pinned(Scenario(30, precision="float64")):
        together = Parameters(*(jnp.asarray(np.stack(parts)) for parts in zip(*alone, strict=True)))
        error, covariance = jax.jit(probe)(together, jnp.asarray(spins > 0), jnp.asarray(rule.table > 0))
    return np.asarray(error), np.asarray(covariance)


@pytest.mark.parametrize("reach", [1, 3])
def test_probe_is_the_fixed_attention_on_that_string(reach):
    rule = CellularAutomaton(30).iterate(reach)
    alone = [random_parameters(seed, 5, scale) for seed, scale in ((1, 1.3), (2, -0.4))]
    spins = np.random.default_rng(3).choice([-1, 1], (2, 61))
    error, covariance = run_probe(alone, spins, rule)
    for member, parameters in enumerate(alone):
        attention = attention_of(parameters)
        score = attention.scores(spins[member], parameters[1]) * parameters[2]
        wrong = score * rule(spins[member]) <= 0
        assert error[member] == pytest.approx(wrong[::2].mean(), abs=1e-12)
        left = attention.contexts(spins[member])[0][::4]
        # A chain of 61 products loses some digits where contexts nearly vanish.
        np.testing.assert_allclose(covariance[member], np.cov(left.T, bias=True), atol=1e-9)


def test_mean_over_strings_is_the_exact_error_of_all_inputs():
    """Scored cells 0, 2, ... of random strings of 9 cells against all 2^9 of them."""
    rule, parameters = CellularAutomaton(30), random_parameters(5, 3)
    inputs = all_inputs(9)
    wrong = attention_of(parameters).scores(inputs, parameters[1]) * rule(inputs) <= 0
    exact = wrong[:, ::2].mean(axis=1)
    spins = np.random.default_rng(6).choice([-1, 1], (4000, 9))
    error, _ = run_probe([parameters] * 4000, spins, rule)
    # Mean of 4000 independent strings; 5 standard errors, false alarm below 1e-6.
    assert abs(error.mean() - exact.mean()) < 5 * exact.std() / np.sqrt(4000)
    # Control: inputs of four cells have another error.
    inputs = all_inputs(4)
    short = attention_of(parameters).scores(inputs, parameters[1]) * rule(inputs) <= 0
    assert abs(error.mean() - short[:, ::2].mean()) > 5 * exact.std() / np.sqrt(4000)


def test_signs_of_contexts_are_kept():
    """A student whose contexts turn their sign behind +++: wrong nearly everywhere, unless it does so twice."""
    rule = CellularAutomaton(np.array([-1, 1]))  # reach 0: the identity
    minus, plus = np.zeros((3, 3)), np.zeros((3, 3))
    minus[:, 0] = 1  # any −1 brings the counter back to 0
    plus[0, 1], plus[1, 2], plus[2, 0] = 1, 1, -1  # the third +1 in a row turns the sign
    readout = np.outer(np.ones(3), np.eye(3)[0])
    parameters = [np.array([minus, plus]), np.array([-readout, readout]), np.array(1.0), np.eye(3)[0], np.ones(3)]
    for times, low, high in ((0, 0.0, 0.01), (1, 0.9, 1.0), (2, 0.0, 0.1)):
        spins = -np.ones((1, 81), dtype=int)
        for word in range(times):
            spins[0, 20 + 30 * word : 23 + 30 * word] = 1
        wrong = attention_of(parameters).scores(spins[0], parameters[1]) * rule(spins[0]) <= 0
        error, _ = run_probe([parameters], spins, rule)
        assert error[0] == pytest.approx(wrong[::2].mean(), abs=1e-12)
        assert low <= error[0] <= high


def test_effective_dimension():
    rng = np.random.default_rng(7)
    points = rng.normal(size=(3, 50, 4)) * [1, 0.5, 0.1, 0]
    centred = points - points.mean(axis=1, keepdims=True)
    found = effective_dimension(np.einsum("mnd,mne->mde", centred, centred))
    for member in range(3):
        ratios = np.linalg.svd(centred[member], compute_uv=False) ** 2
        ratios = ratios[ratios > 1e-12] / ratios.sum()
        np.testing.assert_allclose(found[member], np.exp(-(ratios * np.log(ratios)).sum()), rtol=1e-10)
    np.testing.assert_allclose(effective_dimension(np.eye(6)), 6, rtol=1e-12)
    np.testing.assert_allclose(effective_dimension(np.diag([3.0, 0, 0])), 1, rtol=1e-12)
    assert np.isnan(effective_dimension(np.zeros((2, 2))))
    assert np.isnan(effective_dimension(np.full((2, 2), np.inf)))


def test_outputs_are_the_rule():
    rule = CellularAutomaton(110).iterate(2)
    spins = np.random.default_rng(8).choice([-1, 1], (3, 17))
    with pinned(Scenario(30)):
        found = outputs(jnp.asarray(spins > 0), jnp.asarray(rule.table > 0))
    np.testing.assert_array_equal(np.where(found, 1, -1), rule(spins))


def test_length_of_a_probe():
    assert [cells(sites) for sites in (2, 5, 6, 1000, 1001)] == [5, 5, 9, 1001, 1001]


def test_exact_error_of_a_length_in_the_program():
    scenario = Scenario(30, 4, lengths=(3, 4), batch=8, test_sites=16, exact_lengths=(3, 6), precision="float64")
    shape = chunk.program(scenario)
    with pinned(scenario):
        given = chunk.inputs(scenario)
        state = chunk.begin(shape)(jax.random.key_data(jax.random.key(0)), np.arange(16, dtype=np.int32))
        _, _, exact = jax.jit(lambda now: chunk._test(now, given, shape))(state)
        parameters = chunk.unflat(np.asarray(state.rows), 4)
    for number, length in enumerate((3, 6)):
        for member in (0, 7):
            own = [part[member] for part in parameters]
            inputs = all_inputs(length)
            wrong = attention_of(own).scores_of_all(length, own[1]) * own[2] * scenario.rule(inputs) <= 0
            np.testing.assert_allclose(exact[number, member], wrong.mean(), rtol=1e-12)
