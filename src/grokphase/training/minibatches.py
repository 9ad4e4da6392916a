r"""Minibatches as counts of strings, without ever listing their strings.

Object.  An epoch goes once through all 2^L strings in random order, a batch at a time; every batch is cropped
to M cells at an offset.  What the loss needs of a batch is how often each of the 2^M cropped strings occurs.
String y is in batch π(y) // batch, with π a random permutation of the numbers 0 .. 2^L − 1, so the counts
are sums of an indicator over a fixed table (:func:`grokphase.training.strings.crops`).

The permutation.  Rounds of

    y ← (a·y + b) mod 2^L,  a odd,        y ← y xor (y >> ⌈L/2⌉),

each a bijection, with random a and b: pseudo-random, made in place for one member at the cost of a few
integer operations a string, where sorting would cost more than the training step.  Six rounds: over random
keys, which strings share a batch cannot be told from exact shuffles (the tests say how well).

Lengths and offsets are drawn once for the ensemble, uniformly, and are the same for all members: members at
the same step then run the same program.  The permutation is a member's own.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["ROUNDS", "batch_numbers", "counts", "lengths_and_offsets", "shuffle_keys"]

Array = jax.Array

ROUNDS = 6


def shuffle_keys(keys: Array) -> Array:
    """Numbers a, b of every round, (m, ROUNDS, 2), from a key a member."""
    return jax.vmap(lambda key: jax.random.bits(key, (ROUNDS, 2), jnp.uint32))(keys)


def batch_numbers(numbers: Array, shuffle: Array, longest: int, batch: int) -> Array:
    """In which batch of the epoch strings are.

    Parameters
    ----------
    numbers
        Any shape: numbers of strings of the longest length.
    shuffle
        From :func:`shuffle_keys`.
    longest
        L.
    batch
        Strings a batch, a power of two.

    Returns
    -------
    batches
        Shape (m, *numbers.shape).
    """
    shape = (-1,) + (1,) * numbers.ndim
    place = numbers.astype(jnp.uint32)[None]
    for step in range(ROUNDS):
        multiplier, shift = shuffle[:, step, 0].reshape(shape) | 1, shuffle[:, step, 1].reshape(shape)
        place = (multiplier * place + shift) & jnp.uint32(2**longest - 1)
        place = place ^ (place >> jnp.uint32((longest + 1) // 2))
    return place >> jnp.uint32(batch.bit_length() - 1)


def counts(table: Array, shuffle: Array, step: Array, longest: int, batch: int, dtype: Any) -> Array:
    """How often each cropped string occurs in a batch, (m, 2^M); ``table`` (2^M, 2^{L−M}) is for one offset."""
    inside = batch_numbers(table, shuffle, longest, batch) == step.astype(jnp.uint32)
    return jnp.sum(inside, axis=2, dtype=jnp.int32).astype(dtype)


def lengths_and_offsets(key: Array, steps: int, shortest: int, longest: int) -> tuple[Array, Array]:
    """Lengths M and offsets 0 .. L − M of an epoch's steps, both uniform."""
    first, second = jax.random.split(key)
    lengths = jax.random.randint(first, (steps,), shortest, longest + 1)
    offsets = jax.random.randint(second, (steps,), 0, longest - lengths + 1)
    return lengths, offsets
