"""Whole epochs of the compiled program against explicit strings, one by one, with optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from naive_training import domain_size, loss_and_error

from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario, chunk
from grokphase.training.minibatches import batch_numbers, lengths_and_offsets, shuffle_keys
from grokphase.training.numerics import pinned
from grokphase.training.parameters import Parameters, flat, unflat
from grokphase.training.strings import symbols_in_order

RULE = CellularAutomaton(30)
EPOCHS = 3


def string_loss(parameters, symbols, labels, normalise):
    """Mean loss of one string, written as the paper does: contexts of unit norm at every cell."""

    def one(vector):
        return vector / jnp.sqrt(jnp.sum(vector**2))

    lefts, rights = [one(parameters.left)], [one(parameters.right)]
    for cell in range(len(labels) - 1):
        lefts.append(one(lefts[-1] @ parameters.attention[symbols[cell]]))
        rights.append(one(parameters.attention[symbols[-1 - cell]] @ rights[-1]))
    total = 0.0
    for cell, label in enumerate(labels):
        pair = jnp.einsum("d,sde,e->s", lefts[cell], parameters.classifier, rights[-1 - cell])
        pair = one(pair) if normalise else pair
        total += (jax.nn.sigmoid(parameters.scale * pair[symbols[cell]]) - (label + 1) / 2) ** 2
    return total / len(labels)


def batch_loss(parameters, strings, labels, normalise):
    return jax.vmap(lambda symbols, label: string_loss(parameters, symbols, label, normalise))(strings, labels).mean()


def explicit_strings(scenario, given, key, epoch):
    """The minibatches of one epoch of the member with this key, from all strings, shuffled and cropped."""
    longest = scenario.lengths[1]
    every = symbols_in_order(longest, "natural")
    shuffle = shuffle_keys(chunk._purpose(key[None], "shuffle", jnp.asarray([epoch])))
    inside = np.asarray(batch_numbers(jnp.arange(2**longest), shuffle, longest, scenario.batch))[0]
    shared = jax.random.fold_in(chunk._keys(given.shared), epoch)
    lengths, offsets = lengths_and_offsets(shared, scenario.steps_per_epoch, *scenario.lengths)
    for step, (length, offset) in enumerate(zip(lengths.tolist(), offsets.tolist(), strict=True)):
        yield every[inside == step][:, offset : offset + length]


@pytest.mark.parametrize("normalise", [True, False], ids=["normalised", "plain"])
def test_epochs_are_those_of_explicit_minibatches(normalise):
    scenario = Scenario(
        RULE,
        3,
        l1=1e-3,
        l2=1e-2,
        lengths=(3, 4),
        batch=8,
        normalise_scores=normalise,
        boundary="fixed" if normalise else "trained",
        precision="float64",
        test_sites=20,
        record_every=1,
    )
    shape = chunk.program(scenario)
    with pinned(scenario):
        given = chunk.inputs(scenario)
        state = chunk.begin(shape)(jax.random.key_data(jax.random.key(3)), jnp.arange(16))
        _, seen = chunk.run(shape, EPOCHS, 1)(state, given)
        member = 5
        parameters = unflat(state.rows[member], 3)
        optimiser = optax.adam(0.005)
        memory = optimiser.init(parameters)
        slope = jax.jit(jax.grad(batch_loss), static_argnums=3)
        for epoch in range(EPOCHS):
            losses, errors, sizes = [], [], []
            for strings in explicit_strings(scenario, given, state.key[member], epoch):
                spins = 2 * strings - 1
                own = [np.asarray(part) for part in parameters]
                loss, error = loss_and_error(own, RULE, spins, normalise=normalise)
                losses.append(loss)
                errors.append(error)
                sizes.append(domain_size(own, RULE, spins, normalise=normalise))
                gradient = slope(parameters, jnp.asarray(strings), jnp.asarray(RULE(spins), float), normalise)
                gradient = jax.tree.map(lambda g, p: g + 1e-3 * jnp.sign(p) + 1e-2 * p, gradient, parameters)
                if normalise:
                    gradient = gradient._replace(left=jnp.zeros(3), right=jnp.zeros(3))
                update, memory = optimiser.update(gradient, memory)
                parameters = optax.apply_updates(parameters, update)
            # Double precision on both sides; a sign-like first step of Adam magnifies rounding of small slopes.
            np.testing.assert_allclose(seen.train_loss[epoch, member], np.mean(losses), rtol=1e-9)
            np.testing.assert_allclose(seen.train_error[epoch, member], np.mean(errors), rtol=1e-9)
            row = flat(Parameters(*(part[None] for part in parameters)))[0]
            np.testing.assert_allclose(seen.epoch_rows[epoch, 0, member], row, rtol=1e-8, atol=1e-10)


def test_average_domain_size_of_an_epoch():
    """Measured in the steps that are near zero error, nought in the others; here of students that hardly move."""
    rule = CellularAutomaton(np.array([-1, 1]))
    scenario = Scenario(rule, 3, lengths=(4, 5), batch=4, learning_rate=1e-12, precision="float64", test_sites=20)
    shape = chunk.program(scenario)
    with pinned(scenario):
        given = chunk.inputs(scenario)
        state = chunk.begin(shape)(jax.random.key_data(jax.random.key(3)), jnp.arange(16))
        # Positive A and B_s = s·(all ones) solve the identity; one negative element makes some cells wrong.
        attention = np.abs(np.asarray(unflat(state.rows, 3).attention))
        attention[:, 0, 0, 1] *= -0.4
        ones = np.ones((16, 3, 3))
        students = unflat(state.rows, 3)._replace(
            attention=jnp.asarray(attention), classifier=jnp.asarray(np.stack([-ones, ones], axis=1))
        )
        state = state._replace(rows=flat(students))
        program = chunk.run(shape, 1, 1)
        _, seen = program(state, given)
        _, after_zero = program(state._replace(hunting=jnp.zeros(16, bool)), given)
        expected = []
        for member in range(16):
            own = [np.asarray(part)[member] for part in students]
            steps = []
            for strings in explicit_strings(scenario, given, state.key[member], 0):
                error = loss_and_error(own, rule, 2 * strings - 1)[1]
                steps.append(0 if 0.16 < error < 0.84 else domain_size(own, rule, 2 * strings - 1))
            expected.append(np.mean(steps))
    np.testing.assert_allclose(seen.epoch_domain_size[0, 0], expected, rtol=1e-9)
    assert (np.asarray(after_zero.epoch_domain_size) == 0).all()  # nobody asks once it has been near one
    assert np.count_nonzero((np.array(expected) > 0.5) & (np.array(expected) < 0.999)) >= 3
    assert np.count_nonzero(np.isclose(expected, 1)) >= 2
