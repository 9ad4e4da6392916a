r"""The compiled programs: a block of members through some epochs, with its tests.

Object.  ``State`` is everything that a member is.  ``run`` takes the state of WIDTH members through a number
of *records*, each a number of epochs and one evaluation, and returns the state and what was seen:

    record = epochs of (shuffle, steps of (crop, gradient, Adam)), test.

Training loss and error are means over the last epoch's steps, each before its step; where all steps see the
same strings they are taken at the same parameters as the test.

Members never mix, and every program is compiled for exactly WIDTH of them, shorter blocks being filled up with
copies: a member's numbers do not depend on who runs beside it.

Random numbers.  Member i has the key fold_in(root, i), from which fold_in(key, purpose), fold_in(·, epoch)
give those of one purpose in one epoch; lengths and offsets of crops come from a root of their own.

A member whose loss or gradient is not finite keeps its last parameters and is marked dead.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from grokphase.rules import CellularAutomaton
from grokphase.training import minibatches, scores
from grokphase.training.numerics import compiled, dtype_of, root_keys
from grokphase.training.parameters import Adam, Hyper, Parameters, adam_step, first_moments, hyper, initial, unflat
from grokphase.training.probe import cells, probe
from grokphase.training.scenario import Scenario
from grokphase.training.strings import crops
from grokphase.training.zero_error import average_domain_size, random_strings

__all__ = ["WIDTH", "Inputs", "Records", "State", "approach", "begin", "check", "inputs", "program", "run"]

Array = jax.Array

WIDTH = 16
"""Members a program is compiled for."""

_PURPOSES = ("initial", "shuffle", "probe", "strings", "approach")

# Strings with an error that is neither nowhere nor everywhere make up at most this part of a training epoch
# whose average domain size exceeds 0.99, and at least half of its loss (a domain size of 1/2 at best).
_NEAR_ZERO = 0.02


class State(NamedTuple):
    """A block of members; every array has the member first."""

    rows: Array  # (m, number of parameters), see parameters.unflat
    moments: Adam
    epoch: Array  # (m,) finished epochs
    key: Array  # (m, 2) data of the member's key
    alive: Array  # (m,) no number was infinite or NaN so far
    hunting: Array  # (m,) zero training error has not been seen yet


class Inputs(NamedTuple):
    """What a scenario feeds into its programs."""

    hyper: Hyper
    shared: Array  # data of the key of lengths and offsets
    targets: dict[int, Any]  # by length of the strings
    table: Array  # the rule's outputs as truth values


class Records(NamedTuple):
    """What was seen, (records, ..., m, ...)."""

    train_loss: Array
    train_error: Array
    test_error: Array
    covariance: Array  # of the left contexts
    exact_error: Array  # (records, lengths, m)
    epoch_error: Array  # (records, epochs, m), before the steps
    epoch_domain_size: Array  # (records, epochs, m); 0 where it certainly is not near 1, or is not asked for
    epoch_rows: Array  # (records, epochs, m, number of parameters), after each epoch
    alive: Array


def program(scenario: Scenario) -> Scenario:
    """The scenario stripped of what does not change its programs: scenarios equal here share them."""
    return Scenario(
        CellularAutomaton(0, scenario.rule.reach),
        scenario.bond,
        members=1,
        protocol="published",
        **{
            name: getattr(scenario, name)
            for name in (
                *("boundary", "normalise_scores", "trained_scale", "penalise", "initial_std", "initial_scale"),
                *("lengths", "batch", "zero", "test_sites", "exact_lengths"),
                "precision",
            )
        },
    )


def inputs(scenario: Scenario) -> Inputs:
    """The scenario's numbers and tables as arrays."""
    dtype = dtype_of(scenario)
    normalise = scenario.normalise_scores
    lengths = {*range(scenario.lengths[0], scenario.lengths[1] + 1), *scenario.exact_lengths}
    return Inputs(
        hyper(scenario, dtype),
        jax.random.key_data(root_keys(scenario)[1]),
        {length: scores.targets(scenario.rule, length, normalise=normalise, dtype=dtype) for length in sorted(lengths)},
        jnp.asarray(scenario.rule.table > 0),
    )


def _keys(data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def _purpose(keys: Array, purpose: str, epoch: Array) -> Array:
    """Keys of the members for one purpose in one epoch."""

    def one(key: Array, number: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(_keys(key), _PURPOSES.index(purpose)), number)

    return jax.vmap(one)(keys, epoch)


@lru_cache(maxsize=64)
def begin(shape: Scenario) -> Any:
    """Program (root key data, members (WIDTH,)) → State before the first epoch."""

    def start(root: Array, members: Array) -> State:
        data = jax.vmap(lambda member: jax.random.key_data(jax.random.fold_in(_keys(root), member)))(members)
        epoch = jnp.zeros(members.shape, jnp.int32)
        rows = initial(shape, _purpose(data, "initial", epoch), dtype_of(shape))
        yes = jnp.ones(members.shape, bool)
        return State(rows, first_moments(rows), epoch, data, yes, yes)

    return compiled(start)


@lru_cache(maxsize=64)
def run(shape: Scenario, records: int, epochs: int, *, moments: bool = False) -> Any:
    """Program (State, Inputs) → (State, Records) of so many records of so many epochs.

    With ``moments``, (State, (Records, moments after every record)).
    """

    def record(start: State, given: Inputs) -> tuple[State, Records]:
        state, (losses, errors, sizes, rows) = _epochs(start, given, shape, epochs)
        loss, error = losses[-1], errors[-1]
        if shape.point_training:
            loss, error, _ = _exact(unflat(state.rows, shape.bond), given, shape, shape.lengths[1])
        tested = _test(state, given, shape)
        return state, Records(loss, error, *tested, errors, sizes, rows, state.alive)

    def many(state: State, given: Inputs) -> tuple[State, Any]:
        def one(now: State, _: None) -> tuple[State, Any]:
            after, seen = record(now, given)
            return after, (seen, after.moments) if moments else seen

        return lax.scan(one, state, None, length=records)

    return compiled(many)


def _test(state: State, given: Inputs, shape: Scenario) -> tuple[Array, Array, Array]:
    """Test error, covariance of the left contexts, exact errors."""
    parameters = unflat(state.rows, shape.bond)
    size = (cells(shape.test_sites),)
    keys = _purpose(state.key, "probe", state.epoch)
    spins = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, size))(keys)
    error, covariance = probe(parameters, spins, given.table)
    exact = [_exact(parameters, given, shape, length).error for length in shape.exact_lengths]
    together = jnp.stack(exact) if exact else jnp.zeros((0, *error.shape), error.dtype)
    return error, covariance, together


def _exact(parameters: Parameters, given: Inputs, shape: Scenario, length: int) -> scores.Outcome:
    """Loss and error over all inputs of a length."""
    weights, target = _uniform(length, dtype_of(shape)), given.targets[length]
    return scores.evaluate(parameters, weights, target, length, normalise=shape.normalise_scores)


def _uniform(length: int, dtype: Any) -> Array:
    """Weights of all strings of a length, one row for all members."""
    return jnp.full((1, 2**length), 1 / (2**length * length), dtype)


def _epochs(state: State, given: Inputs, shape: Scenario, epochs: int) -> tuple[State, tuple[Array, ...]]:
    """Some epochs; of each loss, error and average domain size, (epochs, m), and the parameters behind it."""
    steps = shape.steps_per_epoch

    def epoch(now: State, _: None) -> tuple[State, tuple[Array, ...]]:
        shared = jax.random.fold_in(_keys(given.shared), now.epoch[0])
        lengths, offsets = minibatches.lengths_and_offsets(shared, steps, *shape.lengths)
        shuffle = minibatches.shuffle_keys(_purpose(now.key, "shuffle", now.epoch))

        def step(before: State, which: tuple[Array, Array, Array]) -> tuple[State, tuple[Array, Array, Array]]:
            return _step(before, given, shape, shuffle, *which)

        after, seen = lax.scan(step, now, (jnp.arange(steps), lengths, offsets))
        means = jax.tree.map(lambda part: part.mean(axis=0), seen)
        return after._replace(epoch=after.epoch + 1), (*means, after.rows)

    return lax.scan(epoch, state, None, length=epochs)


def _step(
    state: State, given: Inputs, shape: Scenario, shuffle: Array, number: Array, length: Array, offset: Array
) -> tuple[State, tuple[Array, Array, Array]]:
    """One minibatch."""
    shortest, longest = shape.lengths
    branches = [_branch(shape, given, cells) for cells in range(shortest, longest + 1)]
    operands = (state.rows, state.hunting & state.alive, shuffle, number, offset)
    if len(branches) == 1:
        loss, error, domain_size, gradient = branches[0](*operands)
    else:
        loss, error, domain_size, gradient = lax.switch(length - shortest, branches, *operands)
    count = state.epoch * shape.steps_per_epoch + number + 1
    rows, moments, finite = adam_step(state.rows, state.moments, gradient, count, given.hyper, shape)
    alive = state.alive & jnp.isfinite(loss) & finite
    return state._replace(rows=rows, moments=moments, alive=alive), (loss, error, domain_size)


def _branch(shape: Scenario, given: Inputs, length: int) -> Any:
    """Loss, error, average domain size and gradient of a minibatch cropped to ``length`` cells."""
    longest, dtype, normalise = shape.lengths[1], dtype_of(shape), shape.normalise_scores
    near = min(_NEAR_ZERO * shape.steps_per_epoch, 0.5)

    def branch(rows: Array, hunting: Array, shuffle: Array, number: Array, offset: Array) -> Any:
        parameters = unflat(rows, shape.bond)
        if shape.batch == "all":
            weights = _uniform(length, dtype)
        else:
            table = jnp.asarray(crops(length, longest, scores.order(normalise)))[offset]
            counts = minibatches.counts(table, shuffle, number, longest, shape.batch, dtype)
            weights = counts / (shape.batch * length)
        outcome, gradient = scores.value_and_gradient(
            parameters, weights, given.targets[length], length, normalise=normalise
        )
        loss, error, found = outcome
        if shape.zero == "error":
            return loss, error, jnp.zeros_like(loss), gradient
        asked = hunting & ((error <= near) | (error >= 1 - near))

        def measure(parts: Any) -> Array:
            target = given.targets[length]
            wrong = scores.wrong_by_string(parts, parameters.scale, target, length, normalise=normalise)
            return jnp.where(asked, average_domain_size(wrong, weights), 0)

        domain_size = lax.cond(asked.any(), measure, lambda parts: jnp.zeros_like(loss), found)
        return loss, error, domain_size, gradient

    return branch


@lru_cache(maxsize=64)
def check(shape: Scenario) -> Any:
    """Program (parameters of one member as a row, key data, epoch, batch, table) → stretches and wrong cells."""

    def strings(row: Array, data: Array, epoch: Array, batch: Array, table: Array) -> tuple[Array, Array]:
        key = _purpose(data[None], "strings", epoch[None])[0]
        return random_strings(unflat(row, shape.bond), table, jax.random.fold_in(key, batch), shape.test_sites)

    return compiled(strings)


@lru_cache(maxsize=64)
def approach(shape: Scenario) -> Any:
    """Program (parameters of one member at n times as rows, key data, epoch, table) → n test errors, same string."""

    def errors(rows: Array, data: Array, epoch: Array, table: Array) -> Array:
        key = _purpose(data[None], "approach", epoch[None])[0]
        spins = jax.random.bernoulli(key, 0.5, (cells(shape.test_sites),))
        same = jnp.broadcast_to(spins, (rows.shape[0], *spins.shape))
        return probe(unflat(rows, shape.bond), same, table)[0]

    return compiled(errors)
