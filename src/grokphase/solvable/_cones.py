"""Which normals of a polyhedral cone matter.

The cone {w : n_k · w > 0 for all k} is unchanged by leaving out a normal that is a non-negative combination of the
others: where all those are positive, so is it.  Training sets and sets of extreme functions have many such normals.

Exact up to rounding: a normal is implied if non-negative least squares leaves less than ``_RESIDUAL`` of it.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from grokphase._checks import FloatArray

__all__ = ["essential_normals"]

_RESIDUAL = 1e-13  # of a unit normal


def essential_normals(normals: FloatArray) -> NDArray[np.int64]:
    """Numbers of a smallest set of normals (F, D) with the same cone, ascending; of equal normals the last is kept."""
    size = np.linalg.norm(normals, axis=1)
    if (size == 0).any():  # 0 > 0 never holds: this one alone decides
        return np.flatnonzero(size == 0)[:1]
    units = normals / size[:, None]
    kept = np.ones(len(units), dtype=bool)
    for number, unit in enumerate(units):
        kept[number] = False
        if not kept.any() or nnls(units[kept].T, unit)[1] > _RESIDUAL:
            kept[number] = True
    return np.flatnonzero(kept)
