r"""Context vectors of tensor-network attention, for one attention or a batch of them, on given inputs.

Object (Eqs. 58-66).  Each cell's spin selects one of two matrices, A_0 for −1 and A_1 for +1; the context of
a cell is the normalised product of the matrices on its left, and of those on its right:

    H^L(1) = left edge,    H^L(i) = H^L(i−1) A(i−1),        H^R(M) = right edge,    H^R(i) = A(i+1) H^R(i+1).

        left --A--A--A--[B]--A--A-- right           score_i = Tr( H^L(i) B_{x_i} H^R(i) ) / |H^L(i)| |H^R(i)|
               |  |  |   |   |  |
              x_1  ...  x_i ...  x_M

Rows.  Inside this package both contexts are kept as *rows*: arrays (..., w, d) whose last axis is the bond
next to the cell, and whose axis w is the far end: w = 1 for open boundaries (H^L is the row vector lA...A,
H^R the column vector A...Ar, held as a row), w = d for closed ones, where it is summed over by the trace.
Right contexts are then the left contexts of the mirrored attention on the mirrored input, so one routine
serves both sides.

Leading axes.  ``*T`` numbers attentions (tensors are (*T, 2, d, d)), ``*X`` inputs (symbols are (*X, M), 0
for −1 and 1 for +1), and results carry *T before *X.

Exact up to rounding: rows are brought back to unit norm at every cell, which bounds the rounding error of a
context by about d·1e-16 times the condition of the directions, and each A_s is scaled to largest element 1,
which changes no context.  A row that shrinks to rounding within one cell has no direction: that is a
``ValueError``.

The functions trust their arguments, which :class:`grokphase.student.attention.Attention` checks.

References: Žunkovič & Ilievski 2024, Eqs. 58-67.
"""

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = [
    "Symbols",
    "features",
    "mirrored",
    "row_contexts",
    "scaled",
    "scores",
    "times_both",
    "unit_rows",
]

Symbols = NDArray[np.int8]

_ROUNDING = 4 * np.finfo(np.float64).eps


def mirrored(tensors: FloatArray) -> FloatArray:
    """Tensors of the mirrored attention: both matrices transposed."""
    return np.swapaxes(tensors, -1, -2)


def unit_rows(rows: FloatArray) -> FloatArray:
    """Rows (..., w, d) divided by their Frobenius norm.

    Raises
    ------
    ValueError
        If a norm is at the level of rounding (the rows come from unit rows and matrices of largest element
        1).
    """
    norm = np.sqrt(np.einsum("...wd,...wd->...", rows, rows))
    if (norm <= _ROUNDING * rows.shape[-1]).any():
        raise ValueError(
            "tensors must not make contexts vanish, but a product of them annihilates its context "
            f"({np.count_nonzero(norm <= _ROUNDING * rows.shape[-1])} of {norm.size} contexts at one cell)"
        )
    return rows / norm[..., None, None]


def scaled(tensors: FloatArray) -> FloatArray:
    """Each A_s divided by its element of largest modulus, so that products neither overflow nor fade."""
    return tensors / np.abs(tensors).max(axis=(-2, -1), keepdims=True)


def times_both(rows: FloatArray, tensors: FloatArray) -> FloatArray:
    """Rows times both matrices: (*T, n, w, d) and (*T, 2, d, d) give (*T, n, w, 2, d); *T broadcasts.

    One matrix product with the two side by side; the result is not normalised.
    """
    *batch, count, far, bond = rows.shape
    side_by_side = np.moveaxis(tensors, -3, -2).reshape(*tensors.shape[:-3], bond, 2 * bond)
    product = rows.reshape(*batch, count * far, bond) @ side_by_side
    return product.reshape(*product.shape[:-2], count, far, 2, bond)


def row_contexts(tensors: FloatArray, edge: FloatArray, symbols: Symbols) -> FloatArray:
    """Left contexts of every cell as rows of unit norm, by a scan from the left.

    Parameters
    ----------
    tensors
        Shape (*T, 2, d, d).
    edge
        Context of the first cell, shape (*T, w, d); need not be normalised.
    symbols
        Shape (*X, M).

    Returns
    -------
    rows
        Shape (*T, *X, M, w, d).

    Notes
    -----
    Eq. 60.  Right contexts (Eq. 61): ``row_contexts(mirrored(tensors), right, symbols[..., ::-1])`` with
    cells in reversed order.
    """
    batch, length = tensors.shape[:-3], symbols.shape[-1]
    sequences = symbols.reshape(-1, length)
    far, bond = edge.shape[-2:]
    rows = np.empty((*batch, sequences.shape[0], length, far, bond))
    state = np.broadcast_to(unit_rows(edge)[..., None, :, :], (*batch, sequences.shape[0], far, bond))
    rows[..., 0, :, :] = state
    matrices = scaled(tensors)
    for cell in range(1, length):
        both = times_both(state, matrices)
        plus = (sequences[:, cell - 1] == 1)[:, None, None]
        state = unit_rows(np.where(plus, both[..., 1, :], both[..., 0, :]))
        rows[..., cell, :, :] = state
    return rows.reshape(*batch, *symbols.shape, far, bond)


def features(left: FloatArray, right: FloatArray, symbols: Symbols) -> FloatArray:
    """Feature tensors z (Eq. 66) from the rows of both sides.

    Parameters
    ----------
    left, right
        Rows, shape (*T, *X, M, w, d).
    symbols
        Shape (*X, M).

    Returns
    -------
    features
        Shape (*T, *X, M, 2, d, d), indices (spin, left bond, right bond): zero but for the cell's own spin.
    """
    outer = np.swapaxes(left, -1, -2) @ right
    own = symbols[..., None] == np.arange(2)
    return np.where(own[..., None, None], outer[..., None, :, :], 0.0)


def scores(left: FloatArray, right: FloatArray, symbols: Symbols, classifier: FloatArray) -> FloatArray:
    """Scores ŷ (Eqs. 62, 63) from the rows of both sides.

    Parameters
    ----------
    left, right
        Rows, shape (*T, *X, M, w, d).
    symbols
        Shape (*X, M).
    classifier
        Shape (*C, 2, d, d); *C broadcasts with *T.

    Returns
    -------
    scores
        Shape (*broadcast(T, C), *X, M).
    """
    far, bond = left.shape[-2:]
    batch = left.shape[: left.ndim - symbols.ndim - 2]
    flat = left.reshape(*batch, symbols.size, far, bond)
    both = times_both(flat, classifier)
    own = np.where((symbols.reshape(-1) == 1)[:, None, None], both[..., 1, :], both[..., 0, :])
    contracted = np.einsum("...wd,...wd->...", own, right.reshape(flat.shape))
    return contracted.reshape(*contracted.shape[:-1], *symbols.shape)
