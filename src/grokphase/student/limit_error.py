r"""Error per cell of bond-2 attention on infinite uniform inputs, between certified bounds.

Object.  Deep inside a uniform random input the two contexts of a cell are independent given its neighbours,
each distributed by the stationary measure of its iterated function system: every further letter halves it.
Let the rows of E be the extreme rays of the invariant cone.  Since the cone is mapped into itself,

    E A_s = P_s E,        P_s ≥ 0        (2×2),

and contexts whose nearest letters are s w lie in the cone over the rows E A_s A_w = P_s (E A_w).  So the four
scores at the corners of a *cell* (a pair of such cones)

    S = (E A_w) B_x (E' A'_v)ᵀ

are all it takes: the score, bilinear, has one sign in the whole cell if it has at its corners, and halving a
cell is S → P_s S or S → S P'_sᵀ.  Cells with one sign are counted, the others halved, until what is undecided
weighs less than the tolerance.

Exact: weights are powers of two; a cell counts as decided only if its corners exceed the error of the rays
and of the arithmetic.  A cell whose corners all vanish within that error can never be decided and stays in
the interval.  The number of undecided cells of size ρ grows like ρ^{1−δ−δ'} with the dimensions δ, δ' of the
two attractors: not at all for most rules that can be solved, but like 1/ρ if contexts fill an interval.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1 (which samples this measure).
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["CellErrors", "planar_error"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class CellErrors:
    """Certified parts of the measure: wrong, undecided."""

    wrong: float
    undecided: float
    halvings: int


@dataclass(frozen=True)
class _Cells:
    """n cells; the last axis of every array.

    Attributes
    ----------
    score
        Corner scores times the target, shape (2, 2, n): rays of the left side, rays of the right.
    left, right
        Bounds of the norms of the rays, shape (2, n).
    error
        Error of the scores in units of those norms, shape (n,).
    weight
        Measure, shape (n,).
    """

    score: FloatArray
    left: FloatArray
    right: FloatArray
    error: FloatArray
    weight: FloatArray

    def take(self, rows: NDArray[np.generic]) -> "_Cells":
        return _Cells(*(getattr(self, field.name)[..., rows] for field in fields(self)))


def planar_error(
    left: tuple[FloatArray, FloatArray],
    right: tuple[FloatArray, FloatArray],
    classifier: FloatArray,
    targets: FloatArray,
    *,
    slack: float,
    tolerance: tuple[float, float],
    max_cells: int,
) -> CellErrors:
    """Measure of the cells in which the sign of the score is not the target's.

    Parameters
    ----------
    left, right
        Rows E A_a of every branch, shape (2**K, 2, 2), and the matrices P_s, shape (2, 2, 2).
    classifier
        Shape (2, 2, 2).
    targets
        ±1, shape (2**K, 2, 2**K): left branch, spin, right branch.
    slack
        Bound of the relative error of the corners' scores, in units of the rays' norms and |B_x|.
    tolerance
        Absolute and relative: stop when less than the first, or than the second times what is wrong, is undecided.
    max_cells
        Stop when more cells than this are undecided.
    """
    size = np.sqrt((classifier**2).sum(axis=(-2, -1)))
    unit = classifier / np.where(size > 0, size, 1.0)[:, None, None]
    score = np.einsum("aip,xpq,bjq,axb->ijaxb", left[0], unit, right[0], targets).reshape(2, 2, -1)
    shape = targets.shape
    norms = [np.linalg.norm(side[0], axis=-1) for side in (left, right)]
    cells = _Cells(
        score,
        np.broadcast_to(norms[0].T[:, :, None, None], (2, *shape)).reshape(2, -1),
        np.broadcast_to(norms[1].T[:, None, None, :], (2, *shape)).reshape(2, -1),
        np.full(targets.size, slack + 8 * _EPS),
        np.full(targets.size, 1.0 / targets.size),
    )
    # Where B_x vanishes no score has a sign: the student errs for certain.
    silent = np.broadcast_to((unit == 0).all(axis=(-2, -1))[None, :, None], shape).reshape(-1)
    wrong, lost = float(cells.weight[silent].sum()), 0.0
    cells = cells.take(~silent)
    halvings = 0
    while True:
        error = cells.error * cells.left[:, None] * cells.right[None, :]
        above, below = cells.score > error, cells.score < -error
        is_wrong = below.all(axis=(0, 1))
        hopeless = ~(above | below).any(axis=(0, 1))
        wrong += float(cells.weight[is_wrong].sum())
        lost += float(cells.weight[hopeless].sum())
        cells = cells.take(np.flatnonzero(~(above.all(axis=(0, 1)) | is_wrong | hopeless)))
        undecided = lost + float(cells.weight.sum())
        if (
            undecided <= max(tolerance[0], tolerance[1] * wrong)
            or not cells.weight.size
            or cells.weight.size > max_cells
        ):
            return CellErrors(wrong, undecided, halvings)
        cells = _halved(cells, left[1], right[1])
        halvings += 1


def _halved(cells: _Cells, left: FloatArray, right: FloatArray) -> _Cells:
    """Each cell cut in two along the side on which its normalised scores vary more."""
    normalised = cells.score / (cells.left[:, None] * cells.right[None, :])
    along_left = np.abs(normalised[0] - normalised[1]).max(axis=0)
    along_right = np.abs(normalised[:, 0] - normalised[:, 1]).max(axis=0)
    by_left = along_left >= along_right
    # Rounding of P and of the products is relative to the scores, which are small where the sign is open: so the
    # error hardly grows with depth.
    error = cells.error + 16 * _EPS * np.abs(normalised).max(axis=(0, 1))
    cells = replace(cells, error=error)
    parts = []
    rows = np.flatnonzero(by_left)
    if rows.size:
        one = cells.take(rows)
        score = np.moveaxis(np.tensordot(left, one.score, axes=(2, 0)), 0, 2).reshape(2, 2, -1)
        norm = np.moveaxis(left @ one.left, 0, 1).reshape(2, -1)
        parts.append(_Cells(score, norm, _twice(one.right), _twice(one.error), _twice(one.weight / 2)))
    rows = np.flatnonzero(~by_left)
    if rows.size:
        one = cells.take(rows)
        product = np.tensordot(right, one.score, axes=(2, 1))  # (letter, ray of the right, ray of the left, n)
        score = np.moveaxis(product, (0, 1, 2), (2, 1, 0)).reshape(2, 2, -1)
        norm = np.moveaxis(right @ one.right, 0, 1).reshape(2, -1)
        parts.append(_Cells(score, _twice(one.left), norm, _twice(one.error), _twice(one.weight / 2)))
    if len(parts) == 1:
        return parts[0]
    return _Cells(*(np.concatenate([getattr(p, field.name) for p in parts], axis=-1) for field in fields(_Cells)))


def _twice(values: FloatArray) -> FloatArray:
    return np.concatenate([values, values], axis=-1)
