"""Minibatches as counts: shuffles, crops, and how they are spread over strings, lengths and offsets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from grokphase.training import Scenario
from grokphase.training.minibatches import batch_numbers, counts, lengths_and_offsets, shuffle_keys
from grokphase.training.numerics import pinned
from grokphase.training.strings import crops, half_lengths, symbols_in_order


def keys(seed, number):
    return jax.random.split(jax.random.key(seed, impl="threefry2x32"), number)


def batches(seed, number, longest, batch):
    """Batch of every string for many shuffles, (number, 2**longest)."""
    with pinned(Scenario(30)):
        program = jax.jit(lambda drawn: batch_numbers(jnp.arange(2**longest), shuffle_keys(drawn), longest, batch))
        return np.asarray(program(keys(seed, number)))


@pytest.mark.parametrize(("longest", "batch"), [(3, 2), (6, 8), (7, 1), (10, 128)])
def test_every_epoch_shows_every_string_once(longest, batch):
    found = batches(1, 50, longest, batch)
    assert found.max() == 2**longest // batch - 1
    for row in found:
        assert (np.bincount(row) == batch).all()
    assert len({row.tobytes() for row in found}) > 45  # of the 2520 ways to part eight strings, some come twice


def together(found, number_of_batches):
    """How often each pair of strings shares a batch."""
    inside = found[:, :, None] == np.arange(number_of_batches)
    inside = inside.transpose(1, 0, 2).reshape(found.shape[1], -1).astype(np.float32)
    return inside @ inside.T


def spread_of_pairs(found, number_of_batches):
    """Variance over pairs of strings of the number of shared batches, in units of the binomial one."""
    samples, strings = found.shape
    batch = strings // number_of_batches
    chance = (batch - 1) / (strings - 1)
    pairs = together(found, number_of_batches)[np.triu_indices(strings, 1)]
    return (((pairs - samples * chance) ** 2) / (samples * chance * (1 - chance))).mean()


@pytest.mark.parametrize(("longest", "batch"), [(8, 32), (10, 128)])
def test_shuffles_pair_strings_as_exact_shuffles_do(longest, batch):
    """The variance of pair counts is one for exact shuffles; any preference of the permutation raises it."""
    pairs = 2**longest * (2**longest - 1) // 2
    # The mean of `pairs` squares of nearly independent normal numbers; 5 deviations: false alarm below 1e-6.
    tolerance = 5 * np.sqrt(2 / pairs)
    assert abs(spread_of_pairs(batches(2, 4000, longest, batch), 2**longest // batch) - 1) < tolerance
    exact = np.random.default_rng(3).permuted(np.tile(np.arange(2**longest) // batch, (4000, 1)), axis=1)
    assert abs(spread_of_pairs(exact, 2**longest // batch) - 1) < tolerance


def test_too_few_rounds_would_be_noticed(monkeypatch):
    """Control: with two rounds instead of six the same statistic is far off."""
    monkeypatch.setattr("grokphase.training.minibatches.ROUNDS", 2)
    assert spread_of_pairs(batches(2, 4000, 8, 32), 8) > 1.5


@pytest.mark.parametrize("order", ["natural", "halves"])
@pytest.mark.parametrize("length", [2, 5, 6])
def test_counts_are_those_of_the_cropped_strings(order, length):
    longest, batch = 6, 16
    symbols = symbols_in_order(longest, "natural")
    names = {tuple(string): number for number, string in enumerate(symbols_in_order(length, order))}
    with pinned(Scenario(30)):
        shuffle = shuffle_keys(keys(4, 3))
        inside = np.asarray(batch_numbers(jnp.arange(2**longest), shuffle, longest, batch))
        for offset in range(longest - length + 1):
            table = jnp.asarray(crops(length, longest, order)[offset])
            for step in range(4):
                found = counts(table, shuffle, jnp.asarray(step), longest, batch, jnp.float32)
                for member in range(3):
                    expected = np.zeros(2**length)
                    for string in symbols[inside[member] == step]:
                        expected[names[tuple(string[offset : offset + length])]] += 1
                    np.testing.assert_array_equal(found[member], expected)


def test_orders():
    left, right = half_lengths(5)
    halves = symbols_in_order(5, "halves")
    for number, string in enumerate(halves):
        prefix = int("".join(map(str, string[:left])), 2)
        suffix = int("".join(map(str, string[: left - 1 : -1])), 2)
        assert number == prefix * 2**right + suffix
    assert symbols_in_order(3, "natural")[6].tolist() == [1, 1, 0]


def test_lengths_and_offsets_are_uniform():
    with pinned(Scenario(30)):
        draw = jax.jit(jax.vmap(lambda key: lengths_and_offsets(key, 8, 6, 10)))
        lengths, offsets = (np.asarray(part).ravel() for part in draw(keys(5, 1500)))
    assert stats.chisquare(np.bincount(lengths)[6:]).pvalue > 1e-4  # false alarm 1e-4 each
    for length in range(6, 11):
        seen = np.bincount(offsets[lengths == length], minlength=11 - length)
        assert len(seen) == 11 - length
        assert length == 10 or stats.chisquare(seen).pvalue > 1e-4
