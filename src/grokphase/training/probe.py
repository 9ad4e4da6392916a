r"""Test error and effective dimension from one long random string a member and recorded time.

Object.  The *probe* is a fresh random string of ``test_sites`` cells.  Its error is the fraction of wrong cells,
each with its true contexts, from the boundary vectors on; every second cell is scored.  Means over members are
means over as many strings.

Why a whole string.  The signs of contexts never fade: a student whose contexts change sign behind some rare
word is wrong in half of a long string, and this is how the test error vanishes at last, sharply, when no word
does so any more.  Neither populations of contexts of endless strings (which do not know the sign that the
boundary vector gives) nor strings cut in pieces (whose pieces forget too slowly near the transition) get this
right.  A single chain for each side does.  It goes on by words of four cells, whose sixteen matrices are made
once; the contexts inside of words follow from those between them, all at once.

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

_WORD = 4  # cells that a chain goes on at once


def cells(sites: int) -> int:
    """Cells of a probe: words of four and one more cell, at least ``sites``."""
    return -(-max(sites - 1, 1) // _WORD) * _WORD + 1


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
        A string for each as truth values, (m, cells), cells from :func:`cells`.
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
    """Left and right contexts of cells 0, 2, 4, ..., unit rows (m, (cells + 1)/2, d)."""
    attention = rescaled(parameters.attention)
    # One batch of 2m chains: the left ones, and the right ones, which are those of the mirrored string.
    both = jnp.concatenate([attention, transposed(attention)])
    strings = jnp.concatenate([spins, spins[:, ::-1]])[:, :-1].astype(jnp.int32)
    edges = unit(jnp.concatenate([parameters.left, parameters.right]))
    twice = _products(both, both)
    letters = strings.reshape(*strings.shape[:1], -1, 2)
    pairs = (2 * letters[..., 0] + letters[..., 1]).reshape(*strings.shape[:1], -1, 2)
    at_words = _chain(_products(twice, twice), edges, 4 * pairs[..., 0] + pairs[..., 1])
    forward = jnp.moveaxis(twice, 1, 2).reshape(*edges.shape, -1)
    inside = (at_words[:, :-1] @ forward).reshape(*at_words[:, :-1].shape[:2], 4, -1)
    inside = unit(jnp.take_along_axis(inside, pairs[:, :, :1, None], axis=2))
    between = jnp.concatenate([at_words[:, :-1, None], inside], axis=2).reshape(*edges.shape[:1], -1, edges.shape[1])
    contexts = jnp.concatenate([between, at_words[:, -1:]], axis=1)
    members = spins.shape[0]
    return contexts[:members], contexts[members:, ::-1]


def _products(first: Array, second: Array) -> Array:
    """Matrices of all words from those of their beginnings and ends, (m, words, d, d) each."""
    members, _, bond, _ = first.shape
    return jnp.einsum("mude,mvef->muvdf", first, second).reshape(members, -1, bond, bond)


def _chain(matrices: Array, edges: Array, words: Array) -> Array:
    """Unit contexts (m, n + 1, d) before, between and behind n words, given as numbers (m, n)."""

    def step(rows: Array, word: Array) -> tuple[Array, Array]:
        own = jax.vmap(lambda every, number: lax.dynamic_index_in_dim(every, number, keepdims=False))(matrices, word)
        # A sum, not a product of matrices: for one row a member it compiles to faster code.
        return unit(jnp.sum(rows[:, :, None] * own, axis=1)), rows

    last, before = lax.scan(step, edges, words.T)
    return jnp.moveaxis(jnp.concatenate([before, last[None]]), 0, 1)


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
