"""Parameters and arguments that may be arrays: how they broadcast, and how a frozen record keeps them."""

import numpy as np
from numpy.typing import ArrayLike

from grokphase._checks import FloatArray, integers

__all__ = ["common_shape", "full_shape", "store_parameters"]


def common_shape(**arrays: ArrayLike) -> tuple[int, ...]:
    """Broadcast shape of arguments given by name, or a ``ValueError`` that lists their shapes."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listing = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} must have shapes that broadcast, got {listing}") from None


def full_shape(size: int | tuple[int, ...] | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """``size`` as a shape that holds the parameters' ``shape``; None is that shape itself."""
    if size is None:
        return shape
    sizes = integers("size", np.atleast_1d(size))
    if sizes.ndim > 1:
        raise ValueError(f"size must be an integer or a tuple of integers, got {size!r}")
    full = tuple(sizes.tolist())
    try:
        fits = np.broadcast_shapes(full, shape) == full
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"size must end in the shape of the parameters {shape}, got {size!r}")
    return full


def store_parameters(record: object, **arrays: FloatArray) -> None:
    """Set attributes of a frozen record: floats, or read-only arrays whose shapes broadcast."""
    common_shape(**arrays)
    for name, array in arrays.items():
        array = np.asarray(array + 0.0)  # no -0.0: equal records have equal bytes
        array.setflags(write=False)
        object.__setattr__(record, name, array if array.ndim else float(array))
