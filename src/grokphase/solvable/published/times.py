r"""The paper's formulas for the grokking time of the ball model, as printed and corrected.

A flow groks on the fast path, while w₁ relaxes to 1/ε at frozen w_⊥, or on the slow one, while w_⊥ decays at
w₁ = 1/ε. With ρ = |w_⊥(0)|, ρ² ~ χ²_{D−1}, and L = λ₂ + 1/(D+2),

========  ======================================  =============================================================
equation  what it gives                           what ``corrected=True`` changes
========  ======================================  =============================================================
43, 44    density of t_G on the fast path         density of t_G > 0 of the flow of Eqs. 38, 39 started there
45        Pr(ρ² < 1 − 1/ε²) to start there        nothing
47        t_G = ln(ε⁴/(ε⁴−1))/(2L) on the slow    ε² for both ε⁴: Eq. 46 lacks a factor ξ
          path
========  ======================================  =============================================================

The printed Eq. 43 integrates to Eq. 45.  That is too much, for t_G = 0 where there is no test error at the start,
w₁(0) > ρ/√(ε²−1); and its tail reaches to t = ∞, while the flow, whose w_⊥ is not frozen, ends before the corrected
Eq. 47.  The paper puts the rest, 1 − (Eq. 45), into an atom at Eq. 47; a part of it groks earlier, see
:mod:`grokphase.solvable.two_mode`, from which predictions should come.

Exact: the formulas, to rounding; Eq. 43 corrected to 1e-11.
Reference: Žunkovič & Ilievski 2024, Sec. 3.3.3, Eqs. 38–47, Fig. 9.
"""

import numpy as np
from numpy.typing import ArrayLike

from grokphase._checks import FloatArray, real_array
from grokphase.solvable._parameters import common_shape
from grokphase.solvable.ball import BallModel
from grokphase.solvable.two_mode import TwoModeLaw, chi_density

__all__ = ["fast_time_density", "fast_weight", "slow_time"]


def fast_time_density(model: BallModel, time: ArrayLike, corrected: bool = True) -> FloatArray:
    """Density of the grokking time on the fast path (Eqs. 43, 44).

    Parameters
    ----------
    model
        The ball model: D ≥ 2, ε > 1, λ₁ = 0 and L < ε².
    time
        t_G, any shape that broadcasts with the model's parameters.
    corrected
        ``False``: as printed; integrates to :func:`fast_weight` over all times.  ``True``: the density of
        t_G > 0 of the flow of Eqs. 38, 39 whose start obeys Eq. 40; it depends on λ₂.

    Returns
    -------
    density
        0 for t < 0.

    Raises
    ------
    ValueError
        If an argument is out of range or ``time`` does not broadcast.

    Notes
    -----
    With u = e^{−ε² t} and s = √(ε²−1), Eq. 44 is the square of ρ = s (1−u)/(ε − s u).

    Examples
    --------
    >>> model = BallModel(dimension=5, class_gap=2.0, l2=0.01)
    >>> for corrected in (False, True):
    ...     print(fast_time_density(model, [0.05, 0.5], corrected).round(4))
    [0.3047 0.0172]
    [0.2798 0.    ]
    """
    law = _law(model)
    if corrected:
        return law.fast_pdf(time)
    t = real_array("time", time, infinite=True)
    common_shape(time=t, class_gap=law.class_gap)
    eps = np.asarray(law.class_gap)
    s = np.sqrt((eps - 1) * (eps + 1))
    rest = 1 / (eps + s)  # ε − s
    risen = -np.expm1(-(eps**2) * np.maximum(t, 0.0))  # 1 − u
    rho = s * risen / (rest + s * risen)
    speed = s * rest * eps**2 * np.exp(-(eps**2) * np.maximum(t, 0.0)) / (rest + s * risen) ** 2
    return np.where(t < 0, 0.0, chi_density(rho, law.dimension - 1) * speed)[()]


def fast_weight(model: BallModel, corrected: bool = True) -> FloatArray:
    """Probability p_fast to start where the error vanishes on the fast path (Eq. 45).

    Parameters
    ----------
    model
        As in :func:`fast_time_density`.
    corrected
        Changes nothing: Eq. 45 is right.

    Returns
    -------
    probability
        Flows without any test error at the start included.

    Raises
    ------
    ValueError
        If ``model`` is out of range.

    Examples
    --------
    >>> print(round(float(fast_weight(BallModel(dimension=5, class_gap=2.0))), 4))
    0.055
    """
    return _law(model).fast_weight


def slow_time(model: BallModel, corrected: bool = True) -> FloatArray:
    """Grokking time on the slow path, the same for every start (Eq. 47).

    Parameters
    ----------
    model
        As in :func:`fast_time_density`.
    corrected
        ``False``: as printed, ln(ε⁴/(ε⁴−1))/(2L).  ``True``: ln(ε²/(ε²−1))/(2L), which follows once Eq. 46
        reads ln(ξ|w_⊥(0)|/(√(1−ξ²) w₁))/L.

    Returns
    -------
    time

    Raises
    ------
    ValueError
        If ``model`` is out of range.

    Examples
    --------
    >>> model = BallModel(dimension=5, class_gap=2.0, l2=0.01)
    >>> print(round(float(slow_time(model, corrected=False)), 4), round(float(slow_time(model)), 4))
    0.2111 0.941
    """
    law = _law(model)
    position, _ = law.atom
    if corrected:
        return position
    eps = np.asarray(law.class_gap)
    slow = np.asarray(law.l2) + 1 / (law.dimension + 2)
    return (np.log1p(1 / ((eps - 1) * (eps + 1) * (eps**2 + 1))) / (2 * slow))[()]


def _law(model: BallModel) -> TwoModeLaw:
    if not isinstance(model, BallModel):
        raise ValueError(f"model must be a BallModel, got {type(model).__name__}")
    return model.grokking_time()
