r"""Whether the test error is zero: long random strings, as many as the decision needs.

Object.  The published criterion.  A string of ``test_sites`` random cells has an error indicator (which cells
are wrong) with D − 1 changes along the string; its *average domain size* is 1/D.  Zero error means

    mean over ``test_strings`` strings of 1/D > ``zero_domain_size``.

A string with one wrong cell in its inside has D = 3, one that is wrong everywhere D = 1.  The strict criterion
``"error"`` asks instead that no cell be wrong.

Strings come in batches and the decision falls early.  With L the sum of 1 − 1/D over n strings so far of N, and
ε = 1 − ``zero_domain_size`` the mean that is allowed:

    no, if L ≥ 2 + (3/2) ε n, or if it is more than all N strings may have;    yes, if L ≤ (2/3) ε (n − N/4).

For the published numbers this decides otherwise than all 1000 strings would with a probability of at most 2e-3 (no)
and 6e-3 (yes) where erring strings have D = 3, and at most 1.2e-2 and 1.7e-2 whatever D they have, reached where all
strings toss a coin.  Wrong noes and yeses nearly balance: the probability of a yes changes by less than 1.2e-2.  256
strings suffice where there is no error, and 64 where more than about one in twenty errs.
The strict criterion takes no shortcut but to stop at the first error.

Each batch is a function of parameters, member, epoch and number of the batch alone.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2 (which calls the result zero test error).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.training.parameters import Parameters
from grokphase.training.probe import outputs
from grokphase.training.scenario import Scenario
from grokphase.training.scores import rescaled

__all__ = ["BATCH", "Strings", "average_domain_size", "is_zero", "published_verdict", "random_strings"]

Array = jax.Array

BATCH = 64
"""Strings a batch."""

_BETWEEN_NORMS = 4  # cells after which contexts are brought back to norm one; strings have a multiple of it


def average_domain_size(wrong: Array, weights: Array) -> Array:
    """Mean over weighted strings of 1/(number of stretches): wrong (m, M, n), weights (m or 1, n), (m,)."""
    stretches = 1 + jnp.sum(wrong[:, 1:] != wrong[:, :-1], axis=1, dtype=jnp.int32)
    return jnp.sum(weights / stretches, axis=1) / jnp.sum(weights, axis=1)


def random_strings(parameters: Parameters, table: Array, key: Array, sites: int) -> tuple[Array, Array]:
    """Stretches D and wrong cells of a batch of random strings, for one member.

    Parameters
    ----------
    parameters
        Of one member, without the member axis.
    table
        The rule's outputs as truth values, in the order of its table.
    key
        Random key of the batch.
    sites
        Cells a string, filled up to a multiple of four.

    Returns
    -------
    stretches, wrong
        Shape (BATCH,) each, int32.
    """
    attention = rescaled(parameters.attention[None])[0]
    bond = attention.shape[-1]
    # Columns of contexts; the first half of the rows of a matrix belongs to spin −1, the other to +1.
    forward, backward, insert = (
        tensors.reshape(2 * bond, bond)
        for tensors in (attention.swapaxes(1, 2), attention, parameters.classifier.swapaxes(1, 2))
    )
    blocks = -(-sites // _BETWEEN_NORMS)
    spins = jax.random.bernoulli(key, 0.5, (blocks * _BETWEEN_NORMS, BATCH))
    right_output = outputs(spins.T, table).T

    def in_blocks(values: Array) -> Array:
        return values.reshape(blocks, _BETWEEN_NORMS, BATCH)

    def own(both: Array, spin: Array) -> Array:
        return jnp.where(spin, both[bond:], both[:bond])

    def unit(columns: Array) -> Array:
        return columns * jax.lax.rsqrt(jnp.sum(columns * columns, axis=0))

    def edge(vector: Array) -> Array:
        return jnp.broadcast_to(unit(vector[:, None]), (vector.shape[0], BATCH))

    def from_left(left: Array, spin: Array) -> tuple[Array, Array]:
        lefts = [left]
        for cell in range(_BETWEEN_NORMS):
            lefts.append(own(forward @ lefts[-1], spin[cell]))
        return unit(lefts.pop()), jnp.stack(lefts)

    def from_right(carried: Any, block: Any) -> tuple[Any, None]:
        right, before, stretches, wrong = carried
        lefts, spin, output = block
        for cell in reversed(range(_BETWEEN_NORMS)):
            inserted = own(insert @ lefts[cell], spin[cell])
            score = jnp.sum(inserted * right, axis=0) * jnp.sign(parameters.scale)
            now = (~(jnp.where(output[cell], score, -score) > 0)).astype(jnp.int32)
            right = own(backward @ right, spin[cell])
            before, stretches, wrong = now, stretches + (now != before), wrong + now
        return (unit(right), before, stretches, wrong), None

    _, lefts = jax.lax.scan(from_left, edge(parameters.left), in_blocks(spins))
    zeros = jnp.zeros(BATCH, jnp.int32)
    start = (edge(parameters.right), zeros - 1, zeros, zeros)  # −1 differs from both: a stretch begins
    blocks_of_all = (lefts, in_blocks(spins), in_blocks(right_output))
    (_, _, stretches, wrong), _ = jax.lax.scan(from_right, start, blocks_of_all, reverse=True)
    return stretches, wrong


@dataclass(frozen=True)
class Strings:
    """Stretches and wrong cells of some strings."""

    stretches: NDArray[np.int32]
    wrong: NDArray[np.int32]

    def look_zero(self, scenario: Scenario) -> bool:
        """Whether these strings alone meet the criterion."""
        if scenario.zero == "error":
            return not self.wrong.any()
        return float((1 / self.stretches).mean()) > scenario.zero_domain_size


def is_zero(scenario: Scenario, batch: Callable[[int], Strings]) -> bool:
    """The decision for one member at one time.

    Parameters
    ----------
    scenario
        Says which criterion, and how many strings.
    batch
        Gives batch 0, 1, ... of strings.

    Returns
    -------
    zero
        Whether the test error counts as zero.
    """
    total, lost, done = scenario.test_strings, 0.0, 0
    verdict: bool | None = None
    while verdict is None:
        strings = batch(done // BATCH)
        stretches, wrong = strings.stretches[: total - done], strings.wrong[: total - done]
        done += len(stretches)
        if scenario.zero == "error":
            verdict = False if wrong.any() else True if done == total else None
        else:
            lost += float((1 - 1 / stretches).sum())
            verdict = published_verdict(lost, done, total, scenario.zero_domain_size)
    return verdict


def published_verdict(lost: float, done: int, total: int, threshold: float) -> bool | None:
    """Verdict of the published criterion after ``done`` of ``total`` strings; None: more are needed.

    ``lost`` is the sum of 1 − 1/D so far.
    """
    allowed = 1 - threshold
    if 1 - lost / total <= threshold or lost >= 2 + 1.5 * allowed * done:
        return False
    if done == total or lost <= allowed * (done - total / 4) / 1.5:
        return True
    return None
