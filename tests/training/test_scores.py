"""Loss, error, gradient and average domain size of both kernels against the cell-by-cell twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive_training import domain_size, gradient, loss_and_error, random_parameters

from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario, scores
from grokphase.training.numerics import pinned
from grokphase.training.parameters import Parameters, flat
from grokphase.training.strings import symbols_in_order
from grokphase.training.zero_error import average_domain_size

RULES = {1: CellularAutomaton(30), 2: CellularAutomaton(30).iterate(2), 3: CellularAutomaton(110).iterate(3)}
evaluate = jax.jit(scores.evaluate, static_argnames=("length", "normalise"))
value_and_gradient = jax.jit(scores.value_and_gradient, static_argnames=("length", "normalise"))
KERNELS = pytest.mark.parametrize("normalise", [True, False], ids=["halves", "tree"])


def members(*seeds, bond, scale=1.3):
    """Parameters of a block, and of each member alone."""
    alone = [random_parameters(seed, bond, scale) for seed in seeds]
    together = Parameters(*(jnp.asarray(np.stack(parts)) for parts in zip(*alone, strict=True)))
    return together, alone


def minibatch(seed, length, normalise, size=9):
    """Counts of the strings of a random minibatch, in the kernel's order, and the strings themselves."""
    counts = np.random.default_rng(seed).multinomial(size, np.full(2**length, 2.0**-length))
    symbols = symbols_in_order(length, scores.order(normalise))
    return counts, 2 * np.repeat(symbols, counts, axis=0) - 1


@KERNELS
@pytest.mark.parametrize(("length", "reach"), [(2, 1), (3, 1), (4, 2), (5, 1), (6, 3)])
def test_loss_error_and_domain_size_of_minibatches(normalise, length, reach):
    rule = RULES[reach]
    with pinned(Scenario(30, precision="float64")):
        together, alone = members(1, 2, bond=3)
        drawn = [minibatch(seed, length, normalise) for seed in (5, 6)]
        counts = np.stack([count for count, _ in drawn])
        weights = jnp.asarray(counts / (9 * length))
        target = scores.targets(rule, length, normalise=normalise, dtype=jnp.float64)
        outcome = evaluate(together, weights, target, length=length, normalise=normalise)
        wrong = scores.wrong_by_string(outcome.scores, together.scale, target, length, normalise=normalise)
        sizes = average_domain_size(wrong, jnp.asarray(counts, jnp.float64))
    for member, (parameters, (_, strings)) in enumerate(zip(alone, drawn, strict=True)):
        loss, error = loss_and_error(parameters, rule, strings, normalise=normalise)
        # Both sum the same numbers in double precision: a few hundred roundings of relative size 1e-16.
        np.testing.assert_allclose(outcome.loss[member], loss, rtol=1e-12)
        np.testing.assert_allclose(outcome.error[member], error, rtol=1e-12)
        np.testing.assert_allclose(
            sizes[member], domain_size(parameters, rule, strings, normalise=normalise), rtol=1e-12
        )


@KERNELS
@pytest.mark.parametrize("length", [2, 5, 6])
def test_gradient_against_central_differences(normalise, length):
    rule = RULES[1]
    counts, strings = minibatch(7, length, normalise)
    with pinned(Scenario(30, precision="float64")):
        together, (alone,) = members(3, bond=3, scale=-0.7)
        target = scores.targets(rule, length, normalise=normalise, dtype=jnp.float64)
        weights = jnp.asarray(counts[None] / (9 * length))
        _, slopes = value_and_gradient(together, weights, target, length=length, normalise=normalise)
        found = np.asarray(flat(slopes))[0]
    expected = gradient(lambda parts: loss_and_error(parts, rule, strings, normalise=normalise)[0], alone)
    # Differences with step 1e-6 of a function of order one: rounding 1e-16/1e-6, curvature 1e-12.
    np.testing.assert_allclose(found, expected, atol=2e-9)
    assert np.abs(expected).max() > 1e-3


def test_normalised_scores_do_not_depend_on_the_size_of_contexts():
    """What the halves kernel rests on; in single precision, at the edge of its range."""
    with pinned(Scenario(30)):
        together, _ = members(1, bond=4)
        together = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), together)
        weights = jnp.full((1, 2**8), 1 / (8 * 2**8), jnp.float32)
        target = scores.targets(RULES[1], 8, normalise=True, dtype=jnp.float32)
        plain = value_and_gradient(together, weights, target, length=8, normalise=True)
        for name in ("attention", "classifier"):
            for factor in (1e-12, 1e12):
                scaled = together._replace(**{name: getattr(together, name) * factor})
                outcome, slopes = value_and_gradient(scaled, weights, target, length=8, normalise=True)
                np.testing.assert_allclose(outcome.loss, plain[0].loss, rtol=1e-5)
                expected = np.asarray(getattr(plain[1], name))
                np.testing.assert_allclose(getattr(slopes, name) * factor, expected, atol=1e-4 * np.abs(expected).max())


@KERNELS
def test_single_precision_is_near_double(normalise):
    length = 5
    results = {}
    for precision in ("float32", "float64"):
        with pinned(Scenario(30, precision=precision)):
            together, _ = members(1, 2, 3, bond=8)
            together = jax.tree.map(lambda leaf, to=precision: leaf.astype(to), together)
            weights = jnp.full((1, 2**length), 1 / (length * 2**length), precision)
            target = scores.targets(RULES[1], length, normalise=normalise, dtype=precision)
            outcome, slopes = value_and_gradient(together, weights, target, length=length, normalise=normalise)
            results[precision] = np.asarray(outcome.loss), np.asarray(flat(slopes))
    assert results["float32"][0].dtype == np.float32
    np.testing.assert_allclose(results["float32"][0], results["float64"][0], rtol=1e-5)
    size = np.abs(results["float64"][1]).max()
    np.testing.assert_allclose(results["float32"][1], results["float64"][1], atol=1e-4 * size)


@pytest.mark.parametrize("name", ["attention", "classifier"])
@pytest.mark.parametrize("factor", [1e25, 1e-25])
def test_numbers_out_of_range_give_nan_and_not_a_plausible_loss(name, factor):
    with pinned(Scenario(30)):
        together, _ = members(1, bond=4)
        together = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), together)
        broken = together._replace(**{name: getattr(together, name) * jnp.float32(factor)})
        weights = jnp.full((1, 2**6), 1 / (6 * 2**6), jnp.float32)
        target = scores.targets(RULES[1], 6, normalise=True, dtype=jnp.float32)
        outcome, _ = value_and_gradient(broken, weights, target, length=6, normalise=True)
        assert np.isnan(outcome.loss).all()
