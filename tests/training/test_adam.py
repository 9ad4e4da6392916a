"""Our fused Adam against optax, penalties included; what is trained and what is penalised."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from grokphase.training import Scenario
from grokphase.training.numerics import pinned
from grokphase.training.parameters import Parameters, adam_step, first_moments, flat, hyper, unflat

step_once = jax.jit(adam_step, static_argnums=5)


def random_rows(seed, members, bond):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(members, 4 * bond**2 + 1 + 2 * bond)))


@pytest.mark.parametrize("moments", [(0.9, 0.999), (0.0, 0.5)])
def test_twenty_steps_agree_with_optax(moments):
    scenario = Scenario(
        30, 3, l1=0.02, l2=0.03, precision="float64", boundary="trained", moments=moments, adam_epsilon=1e-5
    )
    with pinned(scenario):
        numbers = hyper(scenario, jnp.float64)
        rows, adam = random_rows(0, 4, 3), first_moments(random_rows(0, 4, 3))
        twin = rows
        optimiser = optax.adam(scenario.learning_rate, b1=moments[0], b2=moments[1], eps=1e-5)
        memory = optimiser.init(twin)
        for step in range(1, 21):
            slopes = random_rows(step, 4, 3)
            rows, adam, finite = step_once(rows, adam, unflat(slopes, 3), jnp.full(4, step), numbers, scenario)
            penalised = slopes + 0.02 * jnp.sign(twin) + 0.03 * twin
            update, memory = optimiser.update(penalised, memory)
            twin = optax.apply_updates(twin, update)
            assert bool(finite.all())
        # Twenty steps of a few roundings each; optax computes 1 − β^k with cancellation, 1e-16/0.001 at worst.
        np.testing.assert_allclose(rows, twin, rtol=1e-11, atol=1e-13)
        assert float(jnp.abs(rows - random_rows(0, 4, 3)).max()) > 0.05


@pytest.mark.parametrize("penalise", ["all", "tensors"])
@pytest.mark.parametrize("trained", [True, False])
def test_what_is_trained_and_penalised(penalise, trained):
    scenario = Scenario(
        30,
        3,
        l1=0.5,
        l2=0.1,
        penalise=penalise,
        trained_scale=trained,
        boundary="trained" if trained else "fixed",
        precision="float64",
    )
    with pinned(scenario):
        rows = random_rows(1, 2, 3)
        nothing = unflat(jnp.zeros_like(rows), 3)
        moved, _, _ = step_once(
            rows, first_moments(rows), nothing, jnp.ones(2, int), hyper(scenario, jnp.float64), scenario
        )
        change = unflat(np.asarray(moved - rows), 3)
    # With no loss only penalties move a parameter, and the first step of Adam has the size of the learning rate.
    assert np.allclose(np.abs(change.attention), 0.005, rtol=1e-5)
    assert np.allclose(np.abs(change.classifier), 0.005, rtol=1e-5)
    others = 0.005 if trained and penalise == "all" else 0.0
    for part in (change.scale, change.left, change.right):
        assert np.allclose(np.abs(part), others, rtol=1e-5)


def test_only_a_member_with_a_bad_gradient_stays():
    scenario = Scenario(30, 3)
    with pinned(scenario):
        rows = random_rows(2, 3, 3).astype(jnp.float32)
        slopes = np.ones(rows.shape, np.float32)
        slopes[1, 4] = np.nan
        numbers = hyper(scenario, jnp.float32)
        moved, moments, finite = step_once(
            rows, first_moments(rows), unflat(jnp.asarray(slopes), 3), jnp.ones(3, int), numbers, scenario
        )
        assert finite.tolist() == [True, False, True]
        assert (moved[1] == rows[1]).all()
        assert (moments.first[1] == 0).all()
        assert (moved[0] != rows[0]).any()
        assert (moved[2] != rows[2]).any()


def test_rows_round_trip():
    rows = random_rows(3, 2, 5)
    parameters = unflat(rows, 5)
    assert [leaf.shape for leaf in parameters] == [(2, 2, 5, 5), (2, 2, 5, 5), (2,), (2, 5), (2, 5)]
    assert isinstance(parameters, Parameters)
    np.testing.assert_array_equal(flat(parameters), rows)
