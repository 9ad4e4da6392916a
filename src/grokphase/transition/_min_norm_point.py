r"""Point of least norm of a polytope, by Wolfe's active-set method.

The polytope is known only through a function that returns the vertex of least scalar product with a given
vector.  The method keeps an affinely independent set of vertices with the point of least norm of their convex
hull, adds the vertex furthest beyond the supporting plane, and drops vertices until the point of least norm of
the affine hull lies within the convex hull.  The norm falls strictly, so no set recurs: it ends after finitely
many steps, in practice a few times the dimension.

Optimality.  z is the point of least norm iff z·v ≥ z·z for every vertex v; in any case the distance d of the
polytope from the origin satisfies

    min_v z·v / |z|  ≤  d  ≤  |z|.

Exact up to rounding: the affine step is an orthogonal factorisation, without squaring the condition number.

References: P. Wolfe, Math. Program. 11 (1976) 128-149.
"""

from collections.abc import Callable

import numpy as np

from grokphase._checks import FloatArray

__all__ = ["min_norm_point"]

_RESOLUTION = 1e-14  # certificates are evaluated with this error, relative to the largest vertex
_DROPPED = 1e-13  # convex weights below this are zero
_STEPS_PER_DIMENSION = 200  # far more than ever seen; a guard, not a tuning knob


def min_norm_point(
    vertex_along: Callable[[FloatArray], FloatArray], start: FloatArray, size: float
) -> tuple[float, FloatArray]:
    """Norm of the polytope's point nearest to the origin, and the unit vector towards it.

    The polytope is the one whose vertex of least v·z is ``vertex_along(z)``; ``start`` is any vertex, ``size`` the
    largest norm of a vertex.  The direction is zero if the polytope contains the origin.
    """
    vertices, weights, point = start[None, :], np.ones(1), start
    for _ in range(_STEPS_PER_DIMENSION * (start.size + 1)):
        norm = float(np.linalg.norm(point))
        if norm <= _RESOLUTION * size:
            break
        vertex = vertex_along(point)
        if norm - float(point @ vertex) / norm <= _RESOLUTION * size or (vertices == vertex).all(axis=1).any():
            break
        grown, weights_of_grown = _nearest(np.vstack([vertices, vertex]), np.append(weights, 0.0))
        moved = weights_of_grown @ grown
        if float(np.linalg.norm(moved)) >= norm:  # the rest is rounding
            break
        vertices, weights, point = grown, weights_of_grown, moved
    else:
        raise RuntimeError("the nearest point of the polytope was not found")
    norm = float(np.linalg.norm(point))
    if norm <= _RESOLUTION * size:
        return norm, np.zeros_like(point)
    # All vertices of the set have the same z·v: solved for, this gives the direction to 1e-16 of itself, while the
    # point, a difference of large numbers where it is near the origin, has it to 1e-16 of ``size`` only.
    direction = np.linalg.lstsq(vertices, np.ones(len(vertices)), rcond=_DROPPED)[0]
    return norm, direction / np.linalg.norm(direction)


def _nearest(vertices: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Move to the nearest point of the affine hull; where that leaves the convex hull, drop what it leaves behind."""
    while True:
        # Least |v_0 + Σ b_i (v_i − v_0)|; directions that are dependent up to rounding get no weight.
        shift = np.linalg.lstsq((vertices[1:] - vertices[0]).T, -vertices[0], rcond=_DROPPED)[0]
        target = np.append(1 - shift.sum(), shift)
        outside = target <= _DROPPED
        if not outside.any():
            return vertices, target
        # One of them has positive weight: the newest vertex may have none yet, but the target gives it some.
        ratio = weights[outside] / np.maximum(weights[outside] - target[outside], np.finfo(float).tiny)
        step = min(1.0, float(ratio.min()))
        weights = (1 - step) * weights + step * target
        kept = weights > _DROPPED
        kept[np.flatnonzero(outside)[ratio.argmin()]] = False
        vertices, weights = vertices[kept], weights[kept] / weights[kept].sum()
