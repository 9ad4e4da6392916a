"""Checks of what an attention is given, and its default boundary vectors.

Each function returns the value in the form the kernels trust, or raises a ``ValueError`` that names the
argument. Boundary vectors are unit vectors; those left out are eigenvectors (Sec. 4.2.2 of Žunkovič &
Ilievski 2024).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, integer, labels_pm1, real_array
from grokphase.student.contexts import Symbols
from grokphase.student.prefix_tree import MAX_LENGTH
from grokphase.student.spectrum import leading_eigenvectors, nilpotent

__all__ = ["boundary_vectors", "checked_length", "checked_symbols", "checked_tensors", "refuse_nilpotent"]

# A Jordan block of two splits by about √(machine precision); eigenvalues closer than that leave their
# eigenvectors undetermined.
_UNRESOLVED = 1e-8


def checked_tensors(name: str, value: ArrayLike) -> FloatArray:
    """Attention tensors or classifiers, shape (..., 2, bond, bond)."""
    tensors = real_array(name, value, ndim=3)
    if tensors.shape[-3] != 2 or tensors.shape[-2] != tensors.shape[-1] or tensors.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., 2, bond, bond), got {tensors.shape}")
    return tensors


def checked_symbols(x: ArrayLike) -> Symbols:
    """Spins −1/+1 of shape (..., M) as symbols 0/1."""
    spins = labels_pm1("x", x)
    if spins.shape[-1] == 0:
        raise ValueError(f"x must have at least one cell, got shape {spins.shape}")
    return (spins > 0).astype(np.int8)


def checked_length(length: int) -> int:
    """A length of which all inputs can be listed."""
    return integer("length", length, minimum=1, maximum=MAX_LENGTH)


def boundary_vectors(
    tensors: FloatArray, left: ArrayLike | None, right: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """The given vectors, or the leading eigenvectors of ``tensors[0]``, as unit vectors."""
    shape = (*tensors.shape[:-3], tensors.shape[-1])
    if left is not None and right is not None:
        return _unit_vector("left", left, shape), _unit_vector("right", right, shape)
    pair = leading_eigenvectors(tensors[..., 0, :, :])
    if not pair.real.all():
        raise ValueError(
            "left and right must be given where the leading eigenvalues of tensors[0] are a complex pair, "
            f"got none for {_count(~pair.real)} (grokphase.student.spectrum.leading_eigenvectors tells which)"
        )
    unresolved = pair.isolation < _UNRESOLVED
    if unresolved.any():
        raise ValueError(
            "left and right must be given where the leading eigenvalue of tensors[0] is degenerate, "
            f"got none for {_count(unresolved)}"
        )
    return (
        pair.left if left is None else _unit_vector("left", left, shape),
        pair.right if right is None else _unit_vector("right", right, shape),
    )


def _unit_vector(name: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    vector = real_array(name, value, ndim=1)
    if vector.shape not in (shape, shape[-1:]):
        raise ValueError(f"{name} must have shape {shape}, got {vector.shape}")
    largest = np.abs(vector).max(axis=-1, keepdims=True)
    if (largest == 0).any():
        raise ValueError(f"{name} must not be a zero vector")
    scaled = vector / largest  # so that the squares below neither overflow nor underflow
    return np.broadcast_to(scaled / np.linalg.norm(scaled, axis=-1, keepdims=True), shape).copy()


def _count(mask: NDArray[np.bool_]) -> str:
    return "it" if mask.ndim == 0 else f"{np.count_nonzero(mask)} of {mask.size} attentions"


def refuse_nilpotent(tensors: FloatArray) -> None:
    """Raise if some power of a tensor vanishes: contexts behind that many equal spins have no direction."""
    found = np.argwhere(nilpotent(tensors))
    if found.size:
        *where, symbol = found[0]
        which = f" (attention {tuple(map(int, where))} of the batch)" if where else ""
        raise ValueError(f"tensors[{symbol}] must not be nilpotent, contexts vanish behind its spin{which}")
