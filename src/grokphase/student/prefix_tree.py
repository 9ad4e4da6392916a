r"""All inputs of one length at once: contexts on a binary tree, scores by two matrix products a cell.

The left contexts of all inputs form a tree: 2^k rows at depth k, each from its parent by one matrix.  The
right contexts form another.  The scores of cell i over *all* 2^M inputs are a product of the prefixes' rows
with the classifier, and of that with the suffixes' rows,

    (2^{i−1}×d)(d×2d),        (2^i×d)(d×2^{M−i}).

Order of inputs: input n is the number n in binary, first cell most significant, spin +1 as the digit 1.  So n
runs from all −1 to all +1 (``all_inputs``), the order of a rule's table.  Prefixes and suffixes are numbered
alike, hence

    n = (prefix·2 + own spin)·2^{M−i} + suffix.

Exact up to rounding, like the scan in :mod:`grokphase.student.contexts`, whose conventions (rows, leading
axes) hold here.

References: Žunkovič & Ilievski 2024, Eqs. 58-67.
"""

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray, integer
from grokphase.student.contexts import mirrored, scaled, times_both, unit_rows

__all__ = ["MAX_LENGTH", "all_inputs", "features_of_all", "prefix_rows", "scores_of_all", "suffix_rows"]

MAX_LENGTH = 24
"""16 million inputs: their scores take 3 GB."""


def all_inputs(length: int) -> NDArray[np.int8]:
    """Every input of a length, in the order used for all of them.

    Parameters
    ----------
    length
        Number of cells M, from 1 to ``MAX_LENGTH``.

    Returns
    -------
    inputs
        Spins −1/+1, shape (2**M, M): row n is n in binary, first cell most significant, +1 as the digit 1.

    Raises
    ------
    ValueError
        If ``length`` is out of range.

    Examples
    --------
    >>> all_inputs(2)
    array([[-1, -1],
           [-1,  1],
           [ 1, -1],
           [ 1,  1]], dtype=int8)
    """
    length = integer("length", length, minimum=1, maximum=MAX_LENGTH)
    numbers = np.arange(2**length)[:, None]
    return (2 * ((numbers >> np.arange(length - 1, -1, -1)) & 1) - 1).astype(np.int8)


def prefix_rows(tensors: FloatArray, edge: FloatArray, depth: int) -> list[FloatArray]:
    """Left contexts after every prefix of 0, 1, ..., ``depth`` cells: element k has shape (*T, 2**k, w, d).

    Prefix p of k cells is the number p in binary, first cell most significant.
    """
    matrices = scaled(tensors)
    levels = [unit_rows(edge)[..., None, :, :]]
    for _ in range(depth):
        children = np.moveaxis(times_both(levels[-1], matrices), -2, -3)  # the new spin is the last digit
        levels.append(unit_rows(children.reshape(*_merged(children.shape, -4))))
    return levels


def suffix_rows(tensors: FloatArray, edge: FloatArray, depth: int) -> list[FloatArray]:
    """Right contexts before every suffix of 0, 1, ..., ``depth`` cells: element k has shape (*T, 2**k, w, d).

    Suffix q of k cells is the number q in binary, first cell (the one next to the context) most significant.
    """
    matrices = scaled(mirrored(tensors))
    levels = [unit_rows(edge)[..., None, :, :]]
    for _ in range(depth):
        children = np.moveaxis(times_both(levels[-1], matrices), -2, -4)  # the new spin is the first digit
        levels.append(unit_rows(children.reshape(*_merged(children.shape, -4))))
    return levels


def scores_of_all(
    tensors: FloatArray, left: FloatArray, right: FloatArray, classifier: FloatArray, length: int
) -> FloatArray:
    """Scores of every cell of every input of a length.

    Parameters
    ----------
    tensors
        Shape (*T, 2, d, d).
    left, right
        Edges as rows, shape (*T, w, d).
    classifier
        Shape (*C, 2, d, d); *C broadcasts with *T.
    length
        M ≥ 1.

    Returns
    -------
    scores
        Shape (*broadcast(T, C), 2**M, M).  In memory the inputs are contiguous and the cells are not.
    """
    prefixes = prefix_rows(tensors, left, length - 1)
    suffixes = suffix_rows(tensors, right, length - 1)
    batch = np.broadcast_shapes(tensors.shape[:-3], classifier.shape[:-3])
    by_cell = np.empty((*batch, length, 2**length))
    for cell in range(length):
        near = np.moveaxis(times_both(prefixes[cell], classifier), -2, -3)  # (..., prefix, spin, w, d)
        near = near.reshape(*near.shape[:-4], 2 ** (cell + 1), -1)
        far = suffixes[length - 1 - cell]
        far = far.reshape(*far.shape[:-2], -1)
        out = by_cell[..., cell, :].reshape(*batch, near.shape[-2], far.shape[-2])
        np.matmul(near, np.swapaxes(far, -1, -2), out=out)
    return np.swapaxes(by_cell, -1, -2)


def features_of_all(tensors: FloatArray, left: FloatArray, right: FloatArray, length: int) -> FloatArray:
    """Feature tensors of every cell of every input of a length; parameters as in :func:`scores_of_all`.

    Returns
    -------
    features
        Shape (*T, 2**M, M, 2, d, d), indices (..., spin, left bond, right bond).
    """
    prefixes = prefix_rows(tensors, left, length - 1)
    suffixes = suffix_rows(tensors, right, length - 1)
    batch, bond = tensors.shape[:-3], tensors.shape[-1]
    everything = np.zeros((*batch, 2**length, length, 2, bond, bond))
    for cell in range(length):
        near, far = prefixes[cell], suffixes[length - 1 - cell]
        outer = np.swapaxes(near, -1, -2)[..., :, None, :, :] @ far[..., None, :, :, :]
        own_cell = everything[..., cell, :, :, :]
        by_parts = own_cell.reshape(*batch, near.shape[-3], 2, far.shape[-3], 2, bond, bond)
        for symbol in range(2):
            by_parts[..., :, symbol, :, symbol, :, :] = outer
    return everything


def _merged(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """The shape with ``axis`` (negative) and the one after it made one."""
    return (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
