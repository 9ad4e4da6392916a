r"""Minimisers of the regularised quadratic loss (elastic net), batched over data sets.

The stationary weights minimise ½ w·Gw − a·w + λ₁|w|₁, where G = XᵀX/n + λ₂ (``gram``, the ridge is already in it)
and a = Xᵀy/n (``correlation``): the loss of Eq. 19 up to a constant.  They are where the gradient flow of Eq. 20, read
as a differential inclusion, comes to rest.

Optimality: with the residual r = a − Gw, every coordinate is in one of three states σ ∈ {−1, 0, +1},

    σ = ±1 (active):   r = λ₁σ  and  σw ≥ 0,
    σ =  0 (resting):  w = 0    and  |r| ≤ λ₁.

Without L1 this is one linear system (the solution of least norm where G is singular).  With L1 the states are found
by block principal pivoting: solve for given states, flip every coordinate that violates its condition, repeat; if the
number of violations stops falling, flip only the one with the largest index, which terminates for every positive
definite G (Murty's rule, here for the boxed problem −λ₁ ≤ r ≤ λ₁).  A singular or nearly singular G is reached by
proximal-point iterations, each of which is a well-conditioned problem of the first kind; where the minimiser is not
unique they end in one of the minimisers.

Exact up to rounding: the error in the gradient is a small multiple of 1e-16 |a|.  Eigenvalues of G below
``RANK_TOLERANCE`` times the largest count as zero.

References: Žunkovič & Ilievski 2024, Eqs. 19–21, with ERRATA (the limit under L1 is the elastic net; for singular G
the pseudo-inverse is only the part without memory of the initial weights).  Júdice & Pires (1994) and Kim & Park
(2011) for block principal pivoting.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, real_array

__all__ = ["RANK_TOLERANCE", "stationary"]

RANK_TOLERANCE = 1e-13
"""Eigenvalues of G below this fraction of the largest one are rounding, not data."""

_BLOCK = 2**21  # matrix elements handled at a time
_SLACK = 1e-13  # a violation smaller than this fraction of the largest gradient is rounding
_PATIENCE = 3  # full flips allowed without progress before single flips take over
_PROXIMAL = 1e-6  # ridge of one proximal step, as a fraction of the largest diagonal element of G
_PROXIMAL_PATIENCE = 50  # steps before it is made smaller, four times
_MAX_PROXIMAL_STEPS = 10_000
_ILL_CONDITIONED = 1e9  # from this condition number on, proximal steps are taken


def stationary(gram: ArrayLike, correlation: ArrayLike, l1: ArrayLike = 0.0) -> FloatArray:
    """Minimiser of the quadratic loss with an L1 penalty, for every data set of a batch.

    Parameters
    ----------
    gram
        G, shape (..., D, D), symmetric, positive semi-definite; contains the ridge λ₂.
    correlation
        a, shape (..., D); must lie in the range of G where G is singular (as Xᵀy always does).
    l1
        λ₁ ≥ 0; one number or one for every data set.

    Returns
    -------
    weights
        Shape (..., D).  Resting coordinates are exactly zero.

    Raises
    ------
    ValueError
        If shapes do not fit, or a value is not finite, or ``l1`` is negative.

    Notes
    -----
    Eq. 21 with λ₁ = 0: w = G⁻¹a, or G⁺a where G is singular.

    Examples
    --------
    >>> gram = [[2.0, 0.5], [0.5, 1.0]]
    >>> stationary(gram, [1.0, 0.3]).round(4)
    array([0.4857, 0.0571])
    >>> stationary(gram, [1.0, 0.3], l1=0.2).round(4)
    array([0.4, 0. ])
    """
    gram = real_array("gram", gram, ndim=2)
    correlation = real_array("correlation", correlation, ndim=1)
    l1 = real_array("l1", l1, minimum=0.0)
    dimension = correlation.shape[-1]
    if gram.shape[-2:] != (dimension, dimension):
        raise ValueError(f"gram must have shape (..., {dimension}, {dimension}) to fit correlation, got {gram.shape}")
    try:
        batch = np.broadcast_shapes(gram.shape[:-2], correlation.shape[:-1], l1.shape)
    except ValueError:
        raise ValueError(
            f"gram {gram.shape}, correlation {correlation.shape} and l1 {l1.shape} must have leading "
            "dimensions that broadcast"
        ) from None
    count = int(np.prod(batch, dtype=np.int64))
    grams = np.broadcast_to(gram, (*batch, dimension, dimension)).reshape(count, dimension, dimension)
    correlations = np.broadcast_to(correlation, (*batch, dimension)).reshape(count, dimension)
    penalties = np.broadcast_to(l1, batch).reshape(count)

    weights = np.empty((count, dimension))
    step = max(1, _BLOCK // max(1, dimension**2))
    for start in range(0, count, step):
        block = slice(start, start + step)
        weights[block] = _stationary(grams[block], correlations[block], penalties[block])
    return weights.reshape(*batch, dimension)


def _stationary(gram: FloatArray, correlation: FloatArray, l1: FloatArray) -> FloatArray:
    weights = np.empty_like(correlation)
    condition = _condition(gram)
    free = l1 == 0
    for rows, solve in (
        (free & (condition < _ILL_CONDITIONED), lambda g, a, _: _solve(g, a)),
        (free & (condition >= _ILL_CONDITIONED), lambda g, a, _: _least_norm(g, a)),
        (~free & (condition < _ILL_CONDITIONED), _pivot),
        (~free & (condition >= _ILL_CONDITIONED), _proximal),
    ):
        if rows.all():
            return solve(gram, correlation, l1)
        if rows.any():
            weights[rows] = solve(gram[rows], correlation[rows], l1[rows])
    return weights


def _condition(gram: FloatArray) -> FloatArray:
    """Condition number of every matrix, within a factor D."""
    try:
        return np.linalg.norm(gram, axis=(1, 2)) * np.linalg.norm(np.linalg.inv(gram), axis=(1, 2))
    except np.linalg.LinAlgError:  # LAPACK met a zero pivot somewhere in the batch
        size = np.abs(np.linalg.eigvalsh(gram))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(size.max(axis=1) / size.min(axis=1), nan=np.inf, posinf=np.inf)


def _solve(matrix: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0], dtype=np.float64)


def _least_norm(gram: FloatArray, correlation: FloatArray) -> FloatArray:
    """G⁺a through the eigenvalues: the solution of least norm."""
    rates, modes = np.linalg.eigh(gram)
    kept = rates > RANK_TOLERANCE * rates[:, -1:]
    amplitude = np.einsum("bij,bi->bj", modes, correlation)
    amplitude = np.where(kept, amplitude, 0.0) / np.where(kept, rates, 1.0)
    return np.einsum("bij,bj->bi", modes, amplitude)


def _pivot(gram: FloatArray, correlation: FloatArray, l1: FloatArray) -> FloatArray:
    """Block principal pivoting for positive definite ``gram``."""
    return _pivot_from(gram, correlation, l1, np.zeros(correlation.shape, dtype=np.int8))[0]


def _pivot_from(
    gram: FloatArray, correlation: FloatArray, l1: FloatArray, states: NDArray[np.int8]
) -> tuple[FloatArray, NDArray[np.int8]]:
    """Weights and states σ at the minimum, starting from the given states."""
    count, dimension = correlation.shape
    weights, states = np.zeros_like(correlation), states.copy()
    slack = _SLACK * np.maximum(np.abs(correlation).max(axis=1), l1)
    fewest = np.full(count, dimension + 1)
    patience = np.full(count, _PATIENCE)
    live = np.arange(count)
    while live.size:
        whole = live.size == count  # spares the copy of all matrices in the first rounds
        g, a, penalty = (x if whole else x[live] for x in (gram, correlation, l1))
        sigma = states[live]
        w, residual = _given_states(g, a, penalty, sigma)
        scaled = w * np.einsum("bii->bi", g)  # in units of the gradient, as the residual
        wrong_sign = scaled * sigma < -slack[live, None]
        too_large = (sigma == 0) & (np.abs(residual) > (penalty + slack[live])[:, None])
        wrong = wrong_sign | too_large
        violations = wrong.sum(axis=1)

        better = violations < fewest[live]
        fewest[live] = np.where(better, violations, fewest[live])
        patience[live] = np.where(better, _PATIENCE, patience[live] - 1)
        last = dimension - 1 - wrong[:, ::-1].argmax(axis=1)
        single = np.arange(dimension) == last[:, None]
        flip = wrong & (single | (patience[live] >= 0)[:, None])
        states[live] = np.where(flip, np.where(sigma == 0, np.sign(residual), 0), sigma)

        done = violations == 0
        weights[live[done]] = np.where(w[done] * sigma[done] > 0, w[done], 0.0)
        live = live[~done]
    return weights, states


def _given_states(
    gram: FloatArray, correlation: FloatArray, l1: FloatArray, sigma: NDArray[np.int8]
) -> tuple[FloatArray, FloatArray]:
    """Weights w (zero where σ = 0) that put the residual of the active coordinates at λ₁σ; and the residual."""
    active = sigma != 0
    coupled = active[:, :, None] & active[:, None, :]
    matrix = np.where(coupled, gram, np.eye(gram.shape[-1]))
    w = _solve(matrix, np.where(active, correlation - l1[:, None] * sigma, 0.0))
    return w, correlation - np.einsum("bij,bj->bi", gram, w)


def _polished(gram: FloatArray, correlation: FloatArray, l1: FloatArray, weights: FloatArray) -> FloatArray:
    """One Newton step on the active coordinates: turns a small gradient into a small error of the weights."""
    sigma = np.sign(weights)
    coupled = (sigma[:, :, None] * sigma[:, None, :]) != 0
    residual = correlation - np.einsum("bij,bj->bi", gram, weights)
    step = _least_norm(np.where(coupled, gram, 0.0), np.where(sigma != 0, residual - l1[:, None] * sigma, 0.0))
    keeps_states = (np.sign(weights + step) == sigma).all(axis=1, keepdims=True)
    return np.where(keeps_states, weights + step, weights)


def _proximal(gram: FloatArray, correlation: FloatArray, l1: FloatArray) -> FloatArray:
    """Minimise with the extra term δ/2 |w − w_k|² again and again: reaches a minimiser of any convex problem.

    The states are handed on, so that all steps but the first cost one linear solve.  The error falls by a factor
    δ / (δ + smallest non-zero curvature) a step, and along directions without curvature a step is λ₁/δ long; problems
    that do not settle are given a smaller δ.
    """
    dimension = correlation.shape[-1]
    delta = _PROXIMAL * np.einsum("bii->bi", gram).max(axis=1)
    delta = np.where(delta > 0, delta, 1.0)  # G = 0: then a = 0, and any ridge does
    weights, states = np.zeros_like(correlation), np.zeros(correlation.shape, dtype=np.int8)
    live = np.arange(len(correlation))
    for count in range(1, _MAX_PROXIMAL_STEPS):
        pull = correlation[live] + delta[live, None] * weights[live]
        ridged = gram[live] + delta[live, None, None] * np.eye(dimension)
        moved, states[live] = _pivot_from(ridged, pull, l1[live], states[live])
        step = np.abs(moved - weights[live]).max(axis=1)
        weights[live] = moved
        # δ·step is what the gradient is still wrong by.
        live = live[delta[live] * step > _SLACK * np.maximum(np.abs(correlation[live]).max(axis=1), l1[live])]
        if not live.size:
            return _polished(gram, correlation, l1, weights)
        if count % _PROXIMAL_PATIENCE == 0 and count <= 4 * _PROXIMAL_PATIENCE:
            delta[live] *= 0.1
    raise RuntimeError(f"{live.size} of {len(weights)} stationary problems did not settle")
