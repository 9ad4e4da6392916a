r"""Class gap: half the distance between two classes of features.

Object.  The gap of a linearly separable labelled sample is half the width of the widest slab between the classes,

    ε = max over unit vectors w and b of  min_i y_i (w·x_i − b)  =  ½ |conv X₊ − conv X₋|:

the hard margin of a support vector machine and half the distance between the convex hulls, by duality.  A student
without bias, as the perceptron of Eq. 18 or a tensor-network classifier, can only use planes through the origin;
its margin is ε₀ = max_w min_i y_i w·x_i = |conv{y_i x_i}|, the distance of that hull from the origin
(``through_origin``).  ε₀ ≤ ε, and ε₀ = ε if the classes are mirror images.

Conventions.  The spread of the classes is the root of the mean squared distance of a sample from the mean of its
own class (all samples weigh the same); for uniform balls of radius 1 it is √(D/(D+2)).  In the ball model the class
gap is the shift of the centres, a radius more than the gap between samples measured here.  Classes whose hulls
meet, or are nearer than 1e-13 of the largest feature, have gap 0 and no normal.

Exact up to rounding; every result is checked by its duality gap: ``gap`` is what the reported plane achieves, and no
plane does better than ``gap + duality_gap``.

References: Žunkovič & Ilievski 2024, Secs. 3.3 and 4.3.1, Table 1.  P. Wolfe, Math. Program. 11 (1976) 128-149.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from grokphase._checks import FloatArray, labels_pm1, real_array
from grokphase.transition._min_norm_point import min_norm_point

__all__ = ["ClassGap", "class_gap"]

_TOUCHING = 1e-13  # margins below this fraction of the largest feature are rounding


@dataclass(frozen=True)
class ClassGap:
    """Gap between two classes; see :func:`class_gap`."""

    gap: float
    spread: float
    separable: bool
    normal: FloatArray | None
    offset: float | None
    duality_gap: float

    @property
    def relative_gap(self) -> float:
        """Gap in units of the spread; infinite for point-like classes, 0 for inseparable ones."""
        if self.spread > 0:
            return self.gap / self.spread
        return np.inf if self.separable else 0.0


def class_gap(features: ArrayLike, labels: ArrayLike, *, through_origin: bool = False) -> ClassGap:
    """Hard-margin half distance between two classes, absolute and in units of the intra-class spread.

    Parameters
    ----------
    features
        Shape (samples, dims).
    labels
        −1 or +1, shape (samples,); both must occur, unless ``through_origin``.
    through_origin
        Whether only planes through the origin are allowed (a student without bias).

    Returns
    -------
    gap
        ε ≥ 0: every sample is at least this far on its side of the plane; 0 if the classes cannot be separated.
    spread
        Root of the mean squared distance of a sample from its class's mean.
    relative_gap
        gap/spread.
    separable
        Whether a plane separates the classes.
    normal, offset
        The plane normal·x = offset, with normal of unit length towards the positive class; None if there is none.
    duality_gap
        Bound on how much the best plane can exceed ``gap``.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, a label is not ±1, or a class is empty.

    Examples
    --------
    >>> result = class_gap([[0.0, 1.0], [2.0, 3.0], [0.0, -1.0], [1.0, -2.0]], [1, 1, -1, -1])
    >>> result.gap, result.normal.round(12) + 0.0, round(result.spread, 4)
    (1.0, array([0., 1.]), 1.118)
    >>> class_gap([[0.0], [1.0], [2.0]], [1, -1, 1]).separable
    False
    """
    samples = real_array("features", features, ndim=2)
    if samples.ndim != 2 or not samples.size:
        raise ValueError(f"features must have shape (samples, dims), neither of them 0; got shape {samples.shape}")
    sides = labels_pm1("labels", labels)
    if sides.shape != samples.shape[:1]:
        raise ValueError(f"labels must have shape ({len(samples)},), one a sample; got shape {sides.shape}")
    positive, negative = samples[sides > 0], samples[sides < 0]
    if not through_origin and not (len(positive) and len(negative)):
        raise ValueError("labels must hold both -1 and +1: one class alone has no gap")

    scale = float(np.abs(samples).max()) or 1.0
    positive, negative = positive / scale, negative / scale
    spread = np.sqrt(sum(((part - part.mean(axis=0)) ** 2).sum() for part in (positive, negative) if len(part)))
    spread = float(spread / np.sqrt(len(samples)))
    if through_origin:
        normal, margin, best = _plane_through_origin(np.concatenate([positive, -negative]))
        offset = 0.0
    else:
        middle = (positive.mean(axis=0) + negative.mean(axis=0)) / 2  # rounding is then that of the cloud's size
        normal, margin, offset, best = _plane(positive - middle, negative - middle)
        offset += float(middle @ normal)
    if margin <= _TOUCHING:
        return ClassGap(0.0, spread * scale, False, None, None, max(best, 0.0) * scale)
    return ClassGap(margin * scale, spread * scale, True, normal, offset * scale, max(best - margin, 0.0) * scale)


def _plane(positive: FloatArray, negative: FloatArray) -> tuple[FloatArray, float, float, float]:
    """Normal, margin and offset of the best plane, and an upper bound on any plane's margin."""

    def difference(direction: FloatArray) -> FloatArray:
        return positive[(positive @ direction).argmin()] - negative[(negative @ direction).argmax()]

    start = difference(positive.mean(axis=0) - negative.mean(axis=0))
    size = float(np.sqrt(max((positive**2).sum(axis=1).max(), (negative**2).sum(axis=1).max())))
    distance, normal = min_norm_point(difference, start, 2 * size)
    low, high = float((positive @ normal).min()), float((negative @ normal).max())
    return normal, (low - high) / 2, (low + high) / 2, distance / 2


def _plane_through_origin(signed: FloatArray) -> tuple[FloatArray, float, float]:
    """The same for samples multiplied by their labels and planes through the origin."""
    start = signed[(signed @ signed.mean(axis=0)).argmin()]
    size = float(np.sqrt((signed**2).sum(axis=1).max()))
    distance, normal = min_norm_point(lambda direction: signed[(signed @ direction).argmin()], start, size)
    return normal, float((signed @ normal).min()), distance
