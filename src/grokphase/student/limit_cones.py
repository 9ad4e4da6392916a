r"""Contexts of bond 2: the smallest convex cones that hold them, by their extreme rays.

Object.  The left contexts of ever longer inputs are the orbit of an iterated function system,

    l ↦ l A_s / |l A_s|,        s = −1, +1,

on the unit circle.  Their closure is a compact set; what matters for the sign of a score is the smallest
closed convex cone C that holds it, and whether C is *pointed* (narrower than a half plane).  C is mapped into
itself by both matrices: it is an *invariant cone*.  In the plane it has two extreme rays, and each is a start
vector or the image of an extreme ray, so that after two steps one is back.  Hence the rays are among

    e(0), e(1), e(0)A_1, e(1)A_0, e(01), e(10),        start, start·A_0, start·A_1,

where e(u) is the leading left eigenvector of A_u = A_{u_1} A_{u_2}..., the context behind endless repetitions
of the word u.  The first six make the *attractor*, all nine whatever an input of any length can *reach*.  If
the cone over these candidates is mapped into itself it is C; if not, there is no pointed invariant cone.

    start = boundary vector          (transients of short inputs)
    start = e(0), the default        (then both cones agree: outside an input are cells −1, a context like any)

Conventions.  One side at a time, as rows: the right contexts are the left ones of the mirrored attention.
Words run from the far end to the cell; the letters are 0 (spin −1) and 1.  Branches are numbered by their
nearest K letters, the nearest least significant.  Leading axes ``*T`` number attentions.

Exact up to rounding, which is accounted for: every ray comes with a ``slack``, a bound of its error as an
angle, and ``status`` is 1 only if the cone widened by it is provably mapped into itself.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1; Hutchinson (1981) for attractors of such systems.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.student.limit_inputs import Letters

__all__ = ["CANDIDATES", "PlanarCone", "images", "planar_cones", "unpointed_words"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CANDIDATES: tuple[tuple[Letters | None, Letters], ...] = (
    ((0,), ()),
    ((1,), ()),
    ((0,), (1,)),
    ((1,), (0,)),
    ((0, 1), ()),
    ((1, 0), ()),
    (None, ()),
    (None, (0,)),
    (None, (1,)),
)
"""Candidates for extreme rays: (word repeated for ever, letters behind it); None is the start vector."""

_EPS = float(np.finfo(np.float64).eps)
_CLEAR = 1e-9  # beyond this, no rounding explains why a cone is not pointed or not invariant


@dataclass(frozen=True)
class PlanarCone:
    """Smallest invariant cone of one side, for a batch.

    Attributes
    ----------
    rays
        Extreme rays, unit vectors, shape (*T, 2, 2): counterclockwise from the first to the second.
    source
        Index into ``CANDIDATES`` of each ray, shape (*T, 2).
    slack
        Bounds of the error of each ray, as an angle, shape (*T, 2); infinite where nothing is proven.
    width
        Opening angle, shape (*T,).
    status
        Shape (*T,): 1 where the cone is proven to be pointed and invariant, −1 where there is clearly none, 0
        where rounding decides.
    """

    rays: FloatArray
    source: IntArray
    slack: FloatArray
    width: FloatArray
    status: IntArray

    def member(self, number: int) -> "PlanarCone":
        """The cone of one attention of a batch along one axis."""
        return PlanarCone(**{field.name: getattr(self, field.name)[number] for field in fields(self)})


def planar_cones(tensors: FloatArray, start: FloatArray) -> tuple[PlanarCone, PlanarCone]:
    """The cones of the attractor and of everything that can be reached from ``start``.

    Parameters
    ----------
    tensors
        Shape (*T, 2, 2, 2).
    start
        Boundary vector, unit, shape (*T, 2).

    Returns
    -------
    attractor, reachable
        The attractor's sign is that of the contexts which ``start`` leads to behind a row of −1.
    """
    matrices = tensors / np.abs(tensors).max(axis=(-2, -1), keepdims=True)
    zero, one = matrices[..., 0, :, :], matrices[..., 1, :, :]
    start = np.broadcast_to(start, (*matrices.shape[:-3], 2))
    words = [zero, one, zero @ one, one @ zero]
    fixed = [_fixed_point(word) for word in words]
    seeds = np.stack([start, _times(start, zero), _times(start, one)], axis=-2)
    first = _signed(fixed[0], seeds)
    seeds = np.stack([first, _times(first, one), _times(first, zero)], axis=-2)
    second, third, fourth = (_signed(point, seeds) for point in fixed[1:])
    candidates = [first, second, _unit(_times(first, one)), _unit(_times(second, zero)), third, fourth]
    dominant = np.stack([point.dominance for point in fixed], axis=-1)
    attractor = _hull(matrices, np.stack(candidates, axis=-2), dominant)
    edges = [start, _unit(_times(start, zero)), _unit(_times(start, one))]
    reachable = _hull(matrices, np.stack(candidates + edges, axis=-2), dominant)
    return attractor, _first_where(_holds(attractor, start), attractor, reachable)


def _holds(cone: PlanarCone, vector: FloatArray) -> BoolArray:
    """Whether the vector lies in the cone, widened by its slack, so that its orbit does as well."""
    angle = _angles(cone.rays[..., 0, :], vector)
    slack = np.where(np.isfinite(cone.slack), cone.slack, 0.0)
    inside = (angle >= -slack[..., 0]) & (angle <= cone.width + slack[..., 1])
    return np.asarray(inside & (cone.status == 1))


def _first_where(mask: BoolArray, first: PlanarCone, second: PlanarCone) -> PlanarCone:
    chosen = {}
    for field in fields(PlanarCone):
        one, other = getattr(first, field.name), getattr(second, field.name)
        chosen[field.name] = np.where(mask.reshape(mask.shape + (1,) * (one.ndim - mask.ndim)), one, other)
    return PlanarCone(**chosen)


@dataclass(frozen=True)
class _FixedPoint:
    direction: FloatArray
    """Leading left eigenvector, unit, sign open, shape (*T, 2)."""
    functional: FloatArray
    """v·functional has the sign of the limit of v Aⁿ relative to ``direction``, shape (*T, 2)."""
    dominance: FloatArray
    """Shape (*T,): (λ₁ − |λ₂|)/|A| if the leading eigenvalue is real and positive, else negative."""


def _fixed_point(matrix: FloatArray) -> _FixedPoint:
    """From the spectral projector: every row of A − λ₂ is a left eigenvector for λ₁."""
    half_trace = (matrix[..., 0, 0] + matrix[..., 1, 1]) / 2
    half_difference = (matrix[..., 0, 0] - matrix[..., 1, 1]) / 2
    discriminant = half_difference**2 + matrix[..., 0, 1] * matrix[..., 1, 0]
    root = np.sqrt(np.maximum(discriminant, 0.0))
    size = np.sqrt((matrix**2).sum(axis=(-2, -1)))
    size = np.where(size > 0, size, 1.0)
    other = half_trace - root
    # A − λ₂ without cancellation: λ₂ = trace/2 − root, so its diagonal is ± half difference + root.
    projector = matrix.copy()
    projector[..., 0, 0] = root + half_difference
    projector[..., 1, 1] = root - half_difference
    norms = (projector**2).sum(axis=-1)
    row = np.take_along_axis(projector, norms.argmax(axis=-1)[..., None, None], axis=-2)[..., 0, :]
    direction = _unit(row)
    functional = np.einsum("...ij,...j->...i", projector, direction)
    gap = (half_trace + root) - np.abs(other)  # = 2 root or trace, whichever is smaller
    complex_pair = discriminant < 0
    dominance = np.where(complex_pair, -np.sqrt(np.abs(discriminant)), gap) / size
    return _FixedPoint(direction, functional, dominance)


def _signed(point: _FixedPoint, seeds: FloatArray) -> FloatArray:
    """The limit of v Aⁿ for that seed v (..., n, 2) which feels it most."""
    pull = np.einsum("...nj,...j->...n", seeds, point.functional)
    strongest = np.take_along_axis(pull, np.abs(pull).argmax(axis=-1)[..., None], axis=-1)
    return np.where(strongest < 0, -1.0, 1.0) * point.direction


def _hull(matrices: FloatArray, candidates: FloatArray, dominance: FloatArray) -> PlanarCone:
    """Cone over the candidates (*T, n, 2), and whether both matrices map it into itself."""
    reference = candidates[..., 0, :]
    angle = _angles(reference[..., None, :], candidates)
    source = np.stack([angle.argmin(axis=-1), angle.argmax(axis=-1)], axis=-1)
    low, high = np.moveaxis(np.take_along_axis(angle, source, axis=-1), -1, 0)
    rays = np.take_along_axis(candidates, source[..., None], axis=-2)

    images = rays[..., None, :, :] @ matrices  # (*T, letter, ray, 2)
    norms = np.linalg.norm(images, axis=-1)
    image_angle = _angles(reference[..., None, None, :], images)
    # One step turns a small error of a ray by the factor |det A|/|l A|², and adds the rounding of the product.
    determinant = np.abs(
        matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0]
    )  # (*T, letter)
    safe = np.where(norms > 0, norms, np.inf)
    stretch = determinant[..., None] / safe**2
    rounding = _step_rounding(matrices, norms).max(axis=(-2, -1))
    # (*T, target ray, letter, ray): how close an image comes to the boundary ray it must not pass
    inward = np.stack([image_angle - low[..., None, None], high[..., None, None] - image_angle], axis=-3)
    slack = _slack(inward, stretch, rounding)

    width = high - low
    largest = slack.max(axis=-1)
    handed_on = stretch[..., None, :, :] * slack[..., None, None, :] + rounding[..., None, None, None]
    inside = (inward + slack[..., :, None, None] > handed_on).all(axis=(-3, -2, -1))
    dominant = (dominance > 64 * _EPS).all(axis=-1)
    linear = largest < 1e-2 * np.minimum(norms.min(axis=(-2, -1)), 1e-4)  # the stretch is that of the ray itself
    proven = inside & dominant & (width + 2 * largest < np.pi - _CLEAR) & linear
    none = (dominance < -_CLEAR).any(axis=-1) | (width > np.pi + _CLEAR)
    none |= (dominance > _CLEAR).all(axis=-1) & (inward < -_CLEAR).any(axis=(-3, -2, -1))
    status = np.where(none, -1, proven.astype(np.int64))
    return PlanarCone(rays, source, np.where(proven[..., None], slack, np.inf), width, status)


def _slack(inward: FloatArray, stretch: FloatArray, rounding: FloatArray) -> FloatArray:
    """Angles η by which the two rays must be widened for rounding r not to matter: η_i = r + max_j (stretch_ij η_j).

    The solution is the largest of those in which the maximum is taken by a fixed j for each i.
    """
    near = inward < 1e-5  # only images that end next to a ray hand their error on to it
    step = np.where(near, stretch[..., None, :, :], 0.0).max(axis=-2)  # (*T, target, ray)
    first, second = step[..., 0, 0], step[..., 1, 1]
    out, back = step[..., 0, 1], step[..., 1, 0]
    with np.errstate(divide="ignore"):
        own = [np.where(loop < 1, 1 / np.abs(1 - loop), np.inf) for loop in (first, second)]
        cycle = np.where(out * back < 1, 1 / np.abs(1 - out * back), np.inf)
    units = [
        np.maximum(np.maximum(own[0], (1 + out) * cycle), 1 + _product(out, own[1])),
        np.maximum(np.maximum(own[1], (1 + back) * cycle), 1 + _product(back, own[0])),
    ]
    # Twice that: the candidates themselves are only accurate to r.
    return 2 * rounding[..., None] * np.stack(units, axis=-1)


def _product(factor: FloatArray, other: FloatArray) -> FloatArray:
    """Product in which zero times infinity is zero."""
    return np.where(factor > 0, factor * np.where(factor > 0, other, 0.0), 0.0)


def _step_rounding(matrices: FloatArray, norms: FloatArray) -> FloatArray:
    """Error, as an angle, of the image l A_s of a unit vector l: shape of its norms (*T, letter, ray).

    Scaling of the matrix (1 unit in the last place of each element), product (2), both times |A|/|l A|;
    normalisation, and the angles that are compared afterwards, a few more.
    """
    size = np.sqrt((matrices**2).sum(axis=(-2, -1)))[..., None]
    return np.where(norms > 0, _EPS * (4 * size / np.where(norms > 0, norms, 1.0) + 12), np.inf)


def images(
    tensors: FloatArray, rays: FloatArray, slack: FloatArray | float, letters: int
) -> tuple[FloatArray, FloatArray]:
    """Images of contexts behind each word of so many letters, and their errors.

    Parameters
    ----------
    tensors
        Shape (*T, 2, 2, 2).
    rays
        Unit vectors, shape (*T, r, 2).
    slack
        Bounds of their errors, as angles, shape (*T, r).
    letters
        Length of the words.

    Returns
    -------
    rays
        Unit vectors, shape (*T, 2**letters, r, 2): branch, ray, component.
    slack
        Shape (*T, 2**letters, r).
    """
    matrices = tensors / np.abs(tensors).max(axis=(-2, -1), keepdims=True)
    determinant = np.abs(matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0])
    slack = np.broadcast_to(slack, rays.shape[:-1])[..., None, :]
    rays = rays[..., None, :, :]
    for _ in range(letters):
        products = rays[..., :, None, :, :] @ matrices[..., None, :, :, :]  # (*T, branch, letter, ray, 2)
        norms = np.linalg.norm(products, axis=-1)
        safe = np.where(norms > 0, norms, np.inf)
        slack = slack[..., :, None, :] * determinant[..., None, :, None] / safe**2
        slack = slack + _step_rounding(matrices[..., None, :, :, :], norms)
        rays = products / np.where(norms > 0, norms, 1.0)[..., None]
        rays = rays.reshape(*rays.shape[:-4], -1, *rays.shape[-2:])
        slack = slack.reshape(*slack.shape[:-3], -1, slack.shape[-1])
    return rays, slack


def unpointed_words(tensors: FloatArray, start: FloatArray, *, steps: int = 2000) -> list[Letters] | None:
    """Words whose contexts lie in no open half plane: some of them is on the wrong side of every line.

    Parameters
    ----------
    tensors
        One attention, shape (2, 2, 2).
    start
        Boundary vector, shape (2,).
    steps
        Longest word tried.

    Returns
    -------
    words
        At most five words, far letter first; None if the contexts stay within a half plane, or if rounding
        cannot tell.

    Notes
    -----
    The hull of all contexts of at most n letters has two extreme rays as long as it is pointed, and the hull
    for n + 1 letters is spanned by the start vector and the four images of those two rays.
    """
    matrices = tensors / np.abs(tensors).max(axis=(-2, -1), keepdims=True)
    rays: list[tuple[FloatArray, Letters]] = [(start, ()), (start, ())]
    settled = 0
    for _ in range(steps):
        grown: list[tuple[FloatArray, Letters]] = [(start, ())]
        for ray, word in rays[: 1 if rays[0][1] == rays[1][1] else 2]:
            for letter in range(2):
                image = ray @ matrices[letter]
                size = float(np.hypot(*image))
                if size == 0:
                    return None
                grown.append((image / size, (*word, letter)))
        vectors = np.array([vector for vector, _ in grown])
        angle = _angles(start, vectors)
        if angle.max() - angle.min() > np.pi - _EPS:
            return [word for _, word in grown]
        chosen = [grown[int(angle.argmin())], grown[int(angle.argmax())]]
        change = max(float(np.abs(new[0] - old[0]).max()) for new, old in zip(chosen, rays, strict=True))
        rays = chosen
        settled = settled + 1 if change < 4 * _EPS else 0
        if settled > 4:
            return None
    return None


def _angles(reference: FloatArray, vectors: FloatArray) -> FloatArray:
    """Angle from the reference to each vector, counterclockwise, in (−π, π]."""
    cross = reference[..., 0] * vectors[..., 1] - reference[..., 1] * vectors[..., 0]
    return np.arctan2(cross, (reference * vectors).sum(axis=-1))


def _times(rows: FloatArray, matrix: FloatArray) -> FloatArray:
    return np.einsum("...i,...ij->...j", rows, matrix)


def _unit(rows: FloatArray) -> FloatArray:
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norm > 0, norm, 1.0)
