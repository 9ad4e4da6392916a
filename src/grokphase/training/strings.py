r"""All strings of one length in the orders the kernels use, their targets, and how strings are cropped.

Object.  A kernel scores all 2^M strings of a length M at once and numbers them in an order of its own, given
here as an array of symbols (2^M, M), 0 for spin −1 and 1 for +1:

- *natural*: string n is n in binary, first cell most significant (:func:`grokphase.student.all_inputs`);
- *halves*: n = u·2^{M−h} + v, with u the first h = M//2 cells, first cell most significant, and v the other
  cells, *last* cell most significant, as a tree grown from the right end numbers them.

A minibatch is a set of the 2^L strings of the longest length L, cropped to M cells at an offset.  Ordered by
their crops, the strings are a table (offset, crop, rest): row n holds the 2^{L−M} strings whose crop is
string n, so the counts of a minibatch are sums of its indicator along the rows.

Everything here is exact and made once, in NumPy.

References: Žunkovič & Ilievski 2024, Sec. 4.1.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from grokphase.rules import CellularAutomaton

__all__ = ["Order", "crops", "half_lengths", "labels", "split_targets", "symbols_in_order"]

Order = Literal["natural", "halves"]
_Symbols = NDArray[np.int64]


def half_lengths(length: int) -> tuple[int, int]:
    """Cells of the left and of the right half."""
    return length // 2, length - length // 2


def symbols_in_order(length: int, order: Order) -> _Symbols:
    """Every string of a length, shape (2**length, length), in a kernel's order."""
    numbers = np.arange(2**length)
    natural = (numbers[:, None] >> np.arange(length - 1, -1, -1)) & 1
    if order == "natural":
        return natural
    left, _ = half_lengths(length)
    return np.concatenate([natural[:, :left], natural[:, left:][:, ::-1]], axis=1)


def labels(rule: CellularAutomaton, symbols: _Symbols) -> NDArray[np.float64]:
    """The rule's outputs −1/+1 on strings with cells −1 outside; shape of ``symbols``."""
    return rule(2 * symbols - 1).astype(np.float64)


def split_targets(rule: CellularAutomaton, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets −1/+1 as the halves kernel holds its scores, for the cells of the left and of the right half.

    Shapes (h, 2, 2^{M−1}): cell of the half counted from its outer end; spin of that cell; all other cells,
    those of the own half first.
    """
    left, right = half_lengths(length)
    by_cell = labels(rule, symbols_in_order(length, "halves")).T.reshape(length, 2**left, 2**right)
    first = [_own_spin_first(by_cell[cell], cell, left) for cell in range(left)]
    second = [_own_spin_first(by_cell[length - 1 - cell].T, cell, right) for cell in range(right)]
    return np.stack(first), np.stack(second)


def _own_spin_first(values: NDArray[np.float64], cell: int, half: int) -> NDArray[np.float64]:
    parts = values.reshape(2**cell, 2, 2 ** (half - 1 - cell), -1)
    return np.moveaxis(parts, 1, 0).reshape(2, -1)


def crops(length: int, longest: int, order: Order) -> NDArray[np.int32]:
    """Numbers of the strings of length L ``longest``, by what their crop to M ``length`` cells is.

    Returns
    -------
    numbers
        Shape (L − M + 1, 2**M, 2**(L−M)): [offset, n, :] are the strings (in natural order) whose cells from
        ``offset`` on are string n of the kernel's order.
    """
    crop = symbols_in_order(length, order)
    rest = symbols_in_order(longest - length, "natural")
    tables = []
    for offset in range(longest - length + 1):
        cells = np.empty((len(crop), len(rest), longest), dtype=np.int64)
        cells[:, :, offset : offset + length] = crop[:, None]
        cells[:, :, :offset] = rest[:, :offset]
        cells[:, :, offset + length :] = rest[:, offset:]
        tables.append(cells @ (1 << np.arange(longest - 1, -1, -1)))
    return np.stack(tables).astype(np.int32)
