r"""Spectral properties of attention matrices: leading eigenvectors, and whether some power vanishes.

Object.  The open boundary's vectors are the left and right eigenvectors of A_0 for its eigenvalue of largest
modulus (Sec. 4.2.2): the directions to which contexts behind a long row of −1 converge, if that eigenvalue is
real.  A nilpotent matrix has no such direction: contexts behind enough equal spins vanish.

Conventions: vectors have unit norm and their element of largest modulus positive, so that non-negative
matrices have non-negative eigenvectors.  Leading axes make a batch.

Eigenvectors are exact up to rounding divided by the ``isolation`` of the eigenvalue.  A matrix
counts as nilpotent if changes of relative size ``NILPOTENT_TOLERANCE`` in every stage of a staircase
reduction make it so: contexts would lose all but a few digits.  Exactly triangular ones are recognised at
any size; dense ones that are large (d > 10) and far from normal can escape.

References: Žunkovič & Ilievski 2024, Sec. 4.2.2.  Golub & Van Loan, Sec. 7.6, for the staircase.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["NILPOTENT_TOLERANCE", "LeadingPair", "leading_eigenvectors", "nilpotent"]

NILPOTENT_TOLERANCE = 1e-10
"""In the test for nilpotency, singular values below this fraction of the largest element count as zero."""

_TIE = 1e-12  # eigenvalues, or vector elements, of equal modulus up to this count as tied
_SMALL_POWER = 1e-6  # below this the d-th power of a matrix of unit norm calls for a closer look


class LeadingPair(NamedTuple):
    """Leading eigenvalue of each matrix and its eigenvectors; see :func:`leading_eigenvectors`."""

    value: NDArray[np.complex128]
    left: FloatArray
    right: FloatArray
    real: NDArray[np.bool_]
    isolation: FloatArray


def leading_eigenvectors(matrices: FloatArray) -> LeadingPair:
    r"""Left and right eigenvectors of the eigenvalue of largest modulus, for every matrix of a batch.

    Parameters
    ----------
    matrices
        Real, shape (*T, d, d).

    Returns
    -------
    value
        The leading eigenvalues, shape (*T,), complex.  Of several of equal modulus, that of largest real
        part.
    left, right
        lA = λl and Ar = λr, shape (*T, d), of unit norm; the element of largest modulus (the first if several
        tie) is positive.  NaN where the leading eigenvalue is one of a complex pair.
    real
        Mask (*T,): where the leading eigenvalue is real.
    isolation
        |λ − λ'|/|λ| for the eigenvalue λ' nearest to λ (infinite if d = 1, zero if λ = 0): where it is at the
        level of rounding the eigenvectors are not determined.

    Examples
    --------
    >>> pair = leading_eigenvectors(np.array([[[2.0, 1.0], [0.0, 1.0]], [[0.0, -1.0], [1.0, 0.0]]]))
    >>> pair.real
    array([ True, False])
    >>> pair.left[0].round(4), pair.right[0].round(4)
    (array([0.7071, 0.7071]), array([1., 0.]))
    """
    values, right = np.linalg.eig(matrices)
    chosen = _leading(values)
    value = np.take_along_axis(values, chosen, axis=-1)
    transposed_values, left = np.linalg.eig(np.swapaxes(matrices, -1, -2))
    real = value[..., 0].imag == 0
    distances = np.abs(values - value)
    np.put_along_axis(distances, chosen, np.inf, axis=-1)
    size, nearest = np.abs(value[..., 0]), distances.min(axis=-1)
    return LeadingPair(
        value=value[..., 0].astype(np.complex128),
        left=_real_vector(left, _leading(transposed_values), real),
        right=_real_vector(right, chosen, real),
        real=real,
        isolation=np.divide(nearest, size, out=np.zeros_like(nearest), where=size > 0),
    )


def _leading(values: NDArray[np.complex128] | FloatArray) -> NDArray[np.intp]:
    """Index of the eigenvalue of largest modulus, the one furthest to the right among those that tie."""
    size = np.abs(values)
    tied = size >= (1 - _TIE) * size.max(axis=-1, keepdims=True)
    return np.where(tied, values.real, -np.inf).argmax(axis=-1)[..., None]


def _real_vector(
    vectors: NDArray[np.complex128] | FloatArray, chosen: NDArray[np.intp], real: NDArray[np.bool_]
) -> FloatArray:
    """The chosen columns with unit norm and their largest element positive, NaN where not ``real``."""
    vector = np.take_along_axis(vectors, chosen[..., None, :], axis=-1)[..., 0].real
    size = np.abs(vector)
    first_largest = (size >= (1 - _TIE) * size.max(axis=-1, keepdims=True)).argmax(axis=-1)[..., None]
    sign = np.where(np.take_along_axis(vector, first_largest, axis=-1) < 0, -1.0, 1.0)
    return np.where(real[..., None], sign * vector, np.nan)


def nilpotent(matrices: FloatArray) -> NDArray[np.bool_]:
    """Whether some power of the matrix vanishes, for every matrix of a batch.

    Parameters
    ----------
    matrices
        Shape (..., d, d).

    Returns
    -------
    mask
        Shape (...).

    Examples
    --------
    >>> nilpotent(np.array([[[0.0, 1.0], [0.0, 0.0]], [[0.0, 1.0], [1e-8, 0.0]]]))
    array([ True, False])
    """
    power, _ = _rescaled(matrices)
    log_size = np.zeros(matrices.shape[:-2])
    for _ in range((matrices.shape[-1] - 1).bit_length()):
        power, log_growth = _rescaled(power @ power)
        log_size = 2 * log_size + log_growth
    mask = np.asarray((power == 0).all(axis=(-2, -1)))
    # A power that is small but not zero only makes a suspect: the staircase tells a small spectrum from none.
    for suspect in map(tuple, np.argwhere(~mask & (log_size <= np.log(_SMALL_POWER)))):
        mask[suspect] = _staircase_ends(matrices[suspect])
    return mask


def _rescaled(matrices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Matrices of Frobenius norm 1 (or zero) and the logarithm of what they were divided by."""
    largest = np.abs(matrices).max(axis=(-2, -1), keepdims=True)
    scaled = matrices / np.where(largest > 0, largest, 1.0)  # so that squares neither overflow nor vanish
    norm = np.linalg.norm(scaled, axis=(-2, -1), keepdims=True)
    size = np.where(largest > 0, largest * norm, 1.0)[..., 0, 0]
    return scaled / np.where(largest > 0, norm, 1.0), np.log(size)


def _staircase_ends(matrix: FloatArray) -> bool:
    """Restrict the matrix to its range until nothing is left (nilpotent) or the range no longer shrinks."""
    tolerance = NILPOTENT_TOLERANCE * np.abs(matrix).max()
    while matrix.shape[0]:
        directions, sizes, _ = np.linalg.svd(matrix)
        rank = int(np.count_nonzero(sizes > tolerance))
        if rank == matrix.shape[0]:
            return False
        matrix = directions[:, :rank].T @ matrix @ directions[:, :rank]
    return True
