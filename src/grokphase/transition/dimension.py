r"""Effective dimension of a cloud of features.

Object (Sec. 4.3.1).  With σ_k the fraction of the variance along the k-th principal component of the features,

    D_eff = exp(−Σ_k σ_k ln σ_k),

the number of equally important directions with the same entropy: D for an isotropic cloud in D dimensions,
1 for a cloud on a line, and any number between.

Conventions.  Variance is about the mean (``centred``), or about the origin, which counts the mean as a
direction.  D_eff is unchanged by rotations and by a common scale, and by shifts if centred.

Exact up to rounding: the eigenvalues of the covariance carry an error of a few 1e-16 of the largest, ln D_eff one of
about 1e-14 times the number of dimensions.  A cloud whose spread is at the rounding level of its own elements has
no D_eff and is refused.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1, Table 1, Fig. 20.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from grokphase._checks import FloatArray, real_array

__all__ = ["effective_dimension"]

_ROUNDING_STEPS = 8  # a cloud smaller than this many units in the last place is rounding


def effective_dimension(features: ArrayLike, centred: bool = True) -> FloatArray:
    """Exponential of the entropy of the explained-variance fractions.

    Parameters
    ----------
    features
        Shape (..., samples, dims): one cloud of samples, or a batch of them.
    centred
        Whether variance is about the mean of the cloud or about the origin.

    Returns
    -------
    effective_dimension
        Shape (...), between 1 and min(samples − 1, dims) (min(samples, dims) if not ``centred``).

    Raises
    ------
    ValueError
        If a value is not finite, or all samples of a cloud agree up to rounding (vanish, if not ``centred``).

    Notes
    -----
    Sec. 4.3.1: D_eff = e^S with S = −Σ σ_k log σ_k.

    Examples
    --------
    >>> print(effective_dimension([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).round(6))
    2.0
    >>> on_a_line = [[1.0, 3.0], [2.0, 3.0], [5.0, 3.0]]
    >>> print(effective_dimension(on_a_line).round(6), effective_dimension(on_a_line, centred=False).round(6))
    1.0 1.315436
    """
    given = np.asarray(features)
    precision = np.finfo(given.dtype).eps if given.dtype.kind == "f" else np.finfo(float).eps
    cloud = real_array("features", given, ndim=2)
    samples, dims = cloud.shape[-2:]
    if not samples or not dims:
        raise ValueError(f"features must have at least one sample and one dimension, got shape {cloud.shape}")
    largest = np.abs(cloud).max(axis=(-2, -1), keepdims=True)
    cloud = cloud / np.where(largest > 0, largest, 1.0)
    if centred:
        cloud = cloud - cloud.mean(axis=-2, keepdims=True)
    flat = np.abs(cloud).max(axis=(-2, -1), initial=0.0) <= (_ROUNDING_STEPS * precision if centred else 0.0)
    if flat.any():
        which = "" if flat.ndim == 0 else f" in {np.count_nonzero(flat)} of {flat.size} clouds"
        raise ValueError(f"features must differ between samples, got the same values up to rounding{which}")
    transposed = np.swapaxes(cloud, -1, -2)
    gram = transposed @ cloud if dims <= samples else cloud @ transposed
    variances = np.clip(np.linalg.eigvalsh(gram), 0.0, None)
    fractions = variances / variances.sum(axis=-1, keepdims=True)
    return np.asarray(np.exp(entr(fractions).sum(axis=-1)))
