r"""Test error and effective dimension from one long random string a member and recorded time.

Object.  The *probe* is a fresh random string of ``test_sites`` cells.  Its error is the fraction of wrong cells,
each with its true contexts, from the boundary vectors on; every second cell is scored.  Means over members are
means over as many strings.

Why a whole string.  The signs of contexts never fade: a student whose contexts change sign behind some rare
word is wrong in half of a long string, and this is how the test error vanishes at last, sharply, when no word
does so any more.  Neither populations of contexts of endless strings (which do not know the sign that the
boundary vector gives) nor strings cut in pieces (whose pieces forget too slowly near the transition) get this
right.  A single chain of a thousand small products for each side does, and costs less than one would think.

Effective dimension (Sec. 4.3.1): D_eff = exp(−Σ σ_k ln σ_k), with σ the explained-variance ratios of the left
contexts, centred; here of every fourth cell of the probe.

Exact up to rounding for the string.  The error of one string fluctuates; D_eff of some 250 contexts is low by
a few percent where it is larger than ten.

References: Žunkovič & Ilievski 2024, Secs. 4.3.1 and 4.3.2.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from grokphase.training.parameters import Parameters
from grokphase.training.scores import rescaled, side_by_side, transposed, unit

__all__ = ["cells", "effective_dimension", "outputs", "probe"]

Array = jax.Array


def cells(sites: int) -> int:
    """Cells of a probe: an even number of at least ``sites``."""
    return sites + sites % 2


def outputs(spins: Array, table: Array) -> Array:
    """The rule's outputs on strings (..., cells) of truth values, with cells −1 outside."""
    reach = (table.shape[0].bit_length() - 2) // 2
    outside = jnp.zeros((*spins.shape[:-1], reach), bool)
    padded = jnp.concatenate([outside, spins, outside], axis=-1).astype(jnp.int32)
    code = jnp.zeros(spins.shape, jnp.int32)
    for shift in range(2 * reach + 1):
        code = 2 * code + padded[..., shift : shift + spins.shape[-1]]
    return table[code]


def probe(parameters: Parameters, spins: Array, table: Array) -> tuple[Array, Array]:
    """One test of m members.

    Parameters
    ----------
    parameters
        Of m members.
    spins
        A string for each as truth values, (m, cells), an even number.
    table
        The rule's outputs as truth values, in the order of its table.

    Returns
    -------
    error
        Fraction of wrong cells, (m,).
    covariance
        Of the left contexts, (m, d, d).
    """
    left, right = _contexts(parameters, spins)
    bond = left.shape[-1]
    own_spin = spins[:, ::2]
    both = left @ side_by_side(parameters.classifier)
    inserted = jnp.where(own_spin[..., None], both[..., bond:], both[..., :bond])
    score = jnp.sum(inserted * right, axis=2) * jnp.sign(parameters.scale)[:, None]
    wanted = outputs(spins, table)[:, ::2]
    wrong = jnp.sum(~(jnp.where(wanted, score, -score) > 0), axis=1, dtype=jnp.int32)
    centred = left[:, ::2] - left[:, ::2].mean(axis=1, keepdims=True)
    covariance = jnp.einsum("mnd,mne->mde", centred, centred) / centred.shape[1]
    return wrong.astype(left.dtype) / own_spin.shape[1], covariance


def _contexts(parameters: Parameters, spins: Array) -> tuple[Array, Array]:
    """Left and right contexts of cells 0, 2, 4, ..., unit rows (m, cells/2, d)."""
    attention = rescaled(parameters.attention)
    members = spins.shape[0]
    # One batch of 2m chains: the left ones, and the right ones, which run from the other end.
    matrices = jnp.concatenate([side_by_side(attention), side_by_side(transposed(attention))])
    pairs = jnp.concatenate([spins, spins[:, ::-1]]).T.reshape(-1, 2, 2 * members, 1, 1)
    edges = unit(jnp.concatenate([parameters.left, parameters.right]))[:, None]

    def two_cells(rows: Array, spin: Array) -> tuple[Array, tuple[Array, Array]]:
        between = _own(rows @ matrices, spin[0])
        return unit(_own(between @ matrices, spin[1])), (rows[:members, 0], between[members:, 0])

    _, (left, right) = lax.scan(two_cells, edges, pairs)
    return unit(jnp.moveaxis(left, 0, 1)), unit(jnp.moveaxis(right[::-1], 0, 1))


def _own(both: Array, spin: Array) -> Array:
    bond = both.shape[-1] // 2
    return jnp.where(spin, both[..., bond:], both[..., :bond])


def effective_dimension(covariances: Any) -> NDArray[np.float64]:
    """D_eff of covariances (..., d, d); NaN where one is not finite or vanishes."""
    matrices = np.asarray(covariances, dtype=np.float64)
    usable = np.asarray(np.isfinite(matrices).all(axis=(-2, -1)))
    variances = np.linalg.eigvalsh(np.where(usable[..., None, None], matrices, 0.0)).clip(min=0)
    total = variances.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = variances / total
        entropy = -np.where(ratios > 0, ratios * np.log(ratios), 0.0).sum(axis=-1)
    return np.where(usable & (total[..., 0] > 0), np.exp(entropy), np.nan)
