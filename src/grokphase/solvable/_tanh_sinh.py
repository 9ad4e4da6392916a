"""Tanh-sinh quadrature of many integrals at once, on the unit interval.

    ∫₀¹ f(x) dx = Σ_k h x'(kh) f(x(kh)),    x(s) = 1/(1 + exp(−π sinh s)),

with the step h halved until nothing changes.  The nodes crowd doubly exponentially at both ends, so algebraic and
logarithmic behaviour there, or just beyond, does no harm; inside the interval f must be analytic, otherwise the
error falls only like h.  The distance to *both* ends is handed to f, since 1 − x alone loses all digits.

Reference: Takahasi & Mori, Publ. RIMS 9 (1974) 721.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from grokphase._checks import FloatArray

__all__ = ["integrate_unit"]

# Nodes come within exp(−π sinh 3.7) = 4e-28 of the ends.
_REACH = 3.7
_COARSEST, _FINEST = 3, 9  # h = 2^−level
# Changes of integrals this small are rounding in the subnormal range.
_TINY = 1e-290


def integrate_unit(
    integrand: Callable[[FloatArray, FloatArray], FloatArray], rtol: float = 1e-11, atol: float | FloatArray = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Integrals over (0, 1) of a function that returns one row per integral.

    Parameters
    ----------
    integrand
        Maps the nodes x and 1 − x, both of shape (nodes,), to values of shape (..., nodes).
    rtol
        Refine until no integral changes by more than this fraction of itself.  The error decreases quadratically
        with each refinement, so that of the result is usually at rounding.
    atol
        Changes below this do not matter; broadcasts with the integrals.

    Returns
    -------
    integral, change
        Shape (...); ``change`` is the relative change in the last refinement, above ``rtol`` if the finest step
        (2⁻⁹, some 3800 nodes) did not suffice.
    """
    total = value = change = np.zeros(())
    for level in range(_COARSEST, _FINEST + 1):
        left, right, weights = _new_nodes(level)
        total = total + integrand(left, right) @ weights
        previous, value = value, np.asarray(total * 0.5**level)
        if level > _COARSEST:
            step = np.abs(value - previous)
            change = step / np.maximum(np.abs(value), _TINY)
            if ((change <= rtol) | (step <= atol)).all():
                break
    return value, change


@cache
def _new_nodes(level: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Nodes that the step 2^−level adds to those of twice that step: x, 1 − x, x'."""
    count = int(_REACH * 2**level)
    steps = np.arange(-count, count + 1)
    if level > _COARSEST:
        steps = steps[steps % 2 != 0]
    s = steps * 0.5**level
    with np.errstate(under="ignore"):
        tail = np.exp(-np.pi * np.sinh(np.abs(s)))
    near, far = tail / (1 + tail), 1 / (1 + tail)
    left, right = np.where(s < 0, near, far), np.where(s < 0, far, near)
    return left, right, np.pi * np.cosh(s) * near * far
