"""Checks of user input: each returns the value in its canonical form or raises a ``ValueError``.

The message always names the argument, what was given and what is allowed. Public functions check once, at the
boundary; everything inside may rely on it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FloatArray", "choice", "generator", "integer", "integers", "labels_pm1", "real", "real_array"]

FloatArray = NDArray[np.float64]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def real_array(
    name: str,
    value: ArrayLike,
    *,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    exclusive: bool = False,
    infinite: bool = False,
    ndim: int | None = None,
) -> FloatArray:
    """Real numbers of any shape as a float64 array, within [minimum, maximum] (open if ``exclusive``).

    NaN is never allowed, infinity only with ``infinite``; ``ndim`` is the smallest number of dimensions.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be real numbers, got {_shown(value)}") from None
    if ndim is not None and array.ndim < ndim:
        raise ValueError(f"{name} must have at least {ndim} dimension(s), got shape {array.shape}")
    if np.isnan(array).any() or (not infinite and np.isinf(array).any()):
        raise ValueError(f"{name} must be finite, got {_shown(value)}")
    low = array <= minimum if exclusive else array < minimum
    high = array >= maximum if exclusive else array > maximum
    if low.any() or high.any():
        raise ValueError(f"{name} must be {_range(minimum, maximum, exclusive)}, got {_shown(value)}")
    return array


def _range(minimum: float, maximum: float, exclusive: bool) -> str:
    if np.isinf(maximum):
        return f"{'>' if exclusive else '≥'} {minimum:g}"
    if np.isinf(minimum):
        return f"{'<' if exclusive else '≤'} {maximum:g}"
    return f"between {minimum:g} and {maximum:g}" + (" (exclusive)" if exclusive else "")


def real(name: str, value: Any, **limits: Any) -> float:
    """One real number; limits as in :func:`real_array`."""
    array = real_array(name, value, **limits)
    if array.ndim:
        raise ValueError(f"{name} must be a single number, got an array of shape {array.shape}")
    return float(array)


def integers(name: str, value: ArrayLike, *, minimum: int = 0, maximum: int = 10**9) -> NDArray[np.int64]:
    """Integers of any shape (floats with integer values are accepted) within [minimum, maximum]."""
    array = real_array(name, value)
    if (array != np.round(array)).any() or (array < minimum).any() or (array > maximum).any():
        raise ValueError(f"{name} must be integer, from {minimum} to {maximum}, got {_shown(value)}")
    return array.astype(np.int64)


def integer(name: str, value: Any, *, minimum: int = 0, maximum: int = 10**9) -> int:
    """One integer within [minimum, maximum]."""
    array = integers(name, value, minimum=minimum, maximum=maximum)
    if array.ndim:
        raise ValueError(f"{name} must be a single integer, got an array of shape {array.shape}")
    return int(array)


def choice(name: str, value: Any, options: Iterable[Any]) -> Any:
    """One of the given options."""
    options = list(options)
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {_shown(value)}")
    return value


def generator(name: str, value: Any) -> np.random.Generator:
    """A NumPy ``Generator``; an integer seed is accepted and becomes ``default_rng(seed)``."""
    if isinstance(value, np.random.Generator):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0:
        return np.random.default_rng(int(value))
    raise ValueError(f"{name} must be a numpy.random.Generator or a seed ≥ 0, got {_shown(value)}")


def labels_pm1(name: str, value: ArrayLike) -> FloatArray:
    """Class labels −1 or +1 as float64."""
    array = real_array(name, value, ndim=1)
    if (np.abs(array) != 1).any():
        raise ValueError(f"{name} must hold only -1 and +1, got {_shown(value)}")
    return array
