r"""Test error of a linear student on isotropic data in the unit ball, and its critical exponent (Sec. 3.3.4).

Object: an input lies at the depth r = 1 − |x| below the surface of its class's unit ball, in a direction that is
uniform on the sphere; r has the density ρ on (0, 1).  A plane at the distance h from the centre cuts off a cap of the
depth δ = 1 − h, and with it the fraction

    E(δ) = ∫₀^δ ρ(r) ½ I_z((D−1)/2, ½) dr,    z = 1 − ((1−δ)/(1−r))²,

of the inputs, I being the regularised incomplete beta function.  If ρ ≈ A r^−ξ at the surface, ξ < 1, then

    E ≈ C δ^ν,    ν = (D+1)/2 − ξ,    C = 2^((D−1)/2) A B(1−ξ, (D+1)/2) / (D B((D+1)/2, ½)).

Conventions: the ball model has ρ = D (1−r)^(D−1) and δ = 1 − ε w₁/|w|.  ξ < 0 is a density that vanishes at the
surface.  D = 1 is allowed: half of the inputs at each depth lie on either side.

Exact: E, to the accuracy of a quadrature that adds only positive terms, 1e-10 relative or an error; ν and C.

Differs from the print: Eq. 48 takes I_z out of the integral at r = 0, and writes δ^−2 for δ²; this makes C too large by
the factor 1/((1−ξ) B(1−ξ, (D+1)/2)), at ξ = 0 by (D+1)/2; the term ρ₁ of Eq. 49 has the exponent (D+3)/2.

Reference: Žunkovič & Ilievski 2024, Eqs. 48–50.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from grokphase._checks import FloatArray, integer, real, real_array
from grokphase.solvable._tanh_sinh import integrate_unit
from grokphase.solvable.ball import cap_fraction

__all__ = ["IsotropicModel"]

Density = Callable[[FloatArray], ArrayLike]
# Fraction of the sphere beyond the plane, from r, from δ − r and from δ.
Share = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]

_BLOCK = 512  # depths integrated together
_MASS_TOLERANCE = 1e-9
_RTOL = 1e-10
_LEAST_DIVERGENCE = -100.0  # beyond that the density underflows where its slope would show
_DECADES = 250  # the surface is looked at from r = 0.1 to 1e-250
_SETTLED, _UNSETTLED = 1e-13, 1e-6  # change of the slope over a decade: rounding; too much for a power law
_SHALLOWEST = 1e-300


@dataclass(frozen=True, kw_only=True, eq=False)
class IsotropicModel:
    """Isotropic data in a unit ball, given by the density of the depth below its surface.

    Parameters
    ----------
    dimension
        D ≥ 1.
    density
        ρ, a function of an array of depths r = 1 − |x| in (0, 1) that returns as many values ≥ 0, with the integral 1
        to 1e-9.  It may diverge at r = 0; elsewhere, the centre included, it must be smooth but for ``breakpoints``.
    divergence
        ξ < 1 of ρ ≈ A r^−ξ; negative where ρ vanishes.  ``None``: read off the density, to twelve decimals.  It stays
        ``None`` if ρ is no power there (a logarithm, say, or zero near the surface).
    breakpoints
        Depths at which ρ has a jump or a kink.

    Raises
    ------
    ValueError
        If an argument is out of range, the density is not one, or it contradicts ``divergence``.

    Examples
    --------
    >>> model = IsotropicModel(dimension=3, density=lambda r: 2 * (1 - r))
    >>> model.exponent, round(model.prefactor, 6)
    (2.0, 0.5)
    >>> model.test_error([0.0, 0.5, 1.0, 2.0])
    array([0.   , 0.125, 0.5  , 1.   ])
    """

    dimension: int
    density: Density
    divergence: float | None = None
    breakpoints: tuple[float, ...] = ()
    amplitude: float | None = field(init=False, default=None, repr=False)
    """A of ρ ≈ A r^−ξ; ``None`` together with ``divergence``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", integer("dimension", self.dimension, minimum=1))
        if not callable(self.density):
            raise ValueError(f"density must be a function of the depth, got {type(self.density).__name__}")
        points = real_array("breakpoints", self.breakpoints, minimum=0.0, maximum=1.0, exclusive=True)
        object.__setattr__(self, "breakpoints", tuple(np.unique(points).tolist()))
        divergence, amplitude = self._read_surface()
        object.__setattr__(self, "divergence", divergence)
        object.__setattr__(self, "amplitude", amplitude)
        mass = float(self._integral(np.ones((1, 1)), lambda r, below, depth: np.ones_like(r))[0])
        if abs(mass - 1) > _MASS_TOLERANCE:
            raise ValueError(
                f"density must have the integral 1 over 0 < r < 1, got {mass:.10g}: divide it by that, or, if it has a "
                "jump or a kink, name the place in breakpoints"
            )

    @classmethod
    def power_law(cls, *, dimension: int, divergence: float) -> "IsotropicModel":
        """The density (1−ξ) r^−ξ.

        Parameters
        ----------
        dimension
            D ≥ 1.
        divergence
            ξ < 1.

        Returns
        -------
        model

        Raises
        ------
        ValueError
            If an argument is out of range.

        Examples
        --------
        >>> model = IsotropicModel.power_law(dimension=3, divergence=0.5)
        >>> model.exponent, round(model.prefactor, 6)
        (1.5, 0.333333)
        """
        xi = _divergence(divergence)
        return cls(dimension=dimension, density=lambda r: (1 - xi) * r**-xi, divergence=xi)

    @property
    def exponent(self) -> float:
        """Critical exponent ν = (D+1)/2 − ξ of the test error (Eq. 50).

        Raises
        ------
        ValueError
            If the density is no power of r at the surface.
        """
        return (self.dimension + 1) / 2 - self._surface[0]

    @property
    def prefactor(self) -> float:
        """C of E ≈ C δ^ν (Eq. 49 corrected); infinite where it exceeds the floating-point range, D > 2000.

        Raises
        ------
        ValueError
            If the density is no power of r at the surface.
        """
        xi, amplitude = self._surface
        half = (self.dimension + 1) / 2
        log_sphere = np.log(self.dimension) + special.betaln(half, 0.5)
        log_rest = (half - 1) * np.log(2) + special.betaln(1 - xi, half) - log_sphere
        with np.errstate(over="ignore"):
            return float(amplitude * np.exp(log_rest))

    def test_error(self, depth: ArrayLike) -> FloatArray:
        """Fraction of the inputs beyond a plane at the distance 1 − δ from the centre (Eq. 48, exact).

        Parameters
        ----------
        depth
            δ, any shape, any real number: no error up to 0; past the centre E(δ) = 1 − E(2−δ); all wrong from 2 on.

        Returns
        -------
        error
            Shape of ``depth``; relative accuracy 1e-10 for δ ≤ 1.

        Raises
        ------
        ValueError
            If ``depth`` is not real, or the density is not smooth enough to be integrated.

        Examples
        --------
        >>> IsotropicModel.power_law(dimension=1, divergence=0.5).test_error([0.04, 0.25, 1.0])
        array([0.1 , 0.25, 0.5 ])
        """
        depth = real_array("depth", depth, infinite=True)
        from_surface = np.clip(np.minimum(depth, 2 - depth), 0.0, 1.0)
        cap = self._integral(from_surface.reshape(-1, 1), self._share).reshape(depth.shape)
        return np.where(depth > 1, 1 - cap, cap)[()]

    # --- private ---

    @property
    def _surface(self) -> tuple[float, float]:
        """ξ and A."""
        if self.divergence is None or self.amplitude is None:
            raise ValueError(
                "density must be a power of r near r = 0 to have an exponent, but its logarithmic slope does not "
                f"settle between r = 0.1 and 1e-{_DECADES}"
            )
        return self.divergence, self.amplitude

    def _read_surface(self) -> tuple[float | None, float | None]:
        """ξ and A from the first decades of r, going down, over which log ρ keeps its slope."""
        wanted = None if self.divergence is None else _divergence(self.divergence)
        r = 10.0 ** -np.arange(1.0, _DECADES + 1)
        with np.errstate(all="ignore"):
            values = self._call(r)
            usable = np.isfinite(values) & (values > 0)
            log_density = np.where(usable, np.log10(np.where(usable, values, 1.0)), np.nan)
        slopes = np.diff(log_density)
        change = np.abs(np.diff(slopes) if wanted is None else slopes[1:] - wanted)
        unrest = np.nan_to_num(np.maximum(change[:-1], change[1:]), nan=np.inf)
        settled = int(np.argmin(np.maximum(unrest, _SETTLED)))
        if unrest[settled] > _UNSETTLED:
            if wanted is not None:
                raise ValueError(
                    f"divergence must be that of the density at r = 0, which does not grow as r^-{wanted:g}"
                )
            return None, None
        at = settled + 2
        divergence = float(np.round(slopes[at], 12)) + 0.0 if wanted is None else wanted
        if divergence >= 1:
            raise ValueError(f"density must be integrable, but it grows as r^-{divergence:g} at r = 0")
        return divergence, float(values[at] * r[at] ** divergence)

    def _share(self, r: FloatArray, below: FloatArray, depth: FloatArray) -> FloatArray:
        """Fraction of the sphere of radius 1 − r that lies beyond the plane at 1 − δ; ``below`` is δ − r."""
        if self.dimension == 1:
            return np.full_like(r, 0.5)
        plane, radius = 1 - depth, (1 - depth) + below
        complement = np.minimum(below * (plane + radius) / radius**2, 1.0)
        return cap_fraction((self.dimension - 1) / 2, (plane / radius) ** 2, complement)

    def _integral(self, depths: FloatArray, share: Share) -> FloatArray:
        """∫₀^δ ρ(r) share dr for depths of shape (n, 1)."""
        total = np.zeros(len(depths))
        edges = (0.0, *self.breakpoints, 1.0)
        for start in range(0, len(depths), _BLOCK):
            rows = slice(start, start + _BLOCK)
            depth = depths[rows]

            def integrand(y: FloatArray, rest: FloatArray, depth: FloatArray = depth) -> FloatArray:
                pieces = [self._piece(low, high, y, rest, depth, share) for low, high in pairwise(edges)]
                return np.sum(pieces, axis=0)

            total[rows], change = integrate_unit(integrand, rtol=_RTOL)
            if (change > _RTOL).any():
                raise ValueError(
                    "density must be smooth between r = 0 and 1: its integral does not converge to 1e-10; "
                    "name jumps and kinks in breakpoints"
                )
        return total

    def _piece(
        self, low: float, high: float, y: FloatArray, rest: FloatArray, depth: FloatArray, share: Share
    ) -> FloatArray:
        """Integrand of low < r < min(high, δ) in the variable 0 < y < 1 that takes r^−ξ away; ``rest`` is 1 − y."""
        xi = max(self.divergence or 0.0, 0.0) if low == 0 else 0.0
        length = np.maximum(np.minimum(depth, high) - low, 0.0)
        log_y = np.where(rest < 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log(y)) / (1 - xi)
        # No node may round to an end: the density may jump there.
        first, last = max(np.nextafter(low, 1), _SHALLOWEST), np.nextafter(high, 0)
        r = np.clip(low + length * np.exp(log_y), first, last)
        below = np.maximum(depth - high, 0.0) - length * np.expm1(log_y)
        return length ** (1 - xi) / (1 - xi) * self._values(r) * r**xi * share(r, below, depth)

    def _values(self, r: FloatArray) -> FloatArray:
        values = self._call(r)
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            raise ValueError(f"density must be finite and ≥ 0, got {values[bad][0]:g} at r = {r[bad][0]:.6g}")
        return values

    def _call(self, r: FloatArray) -> FloatArray:
        """The density with the shape of r."""
        try:
            values = np.asarray(self.density(r))
        except (TypeError, ValueError) as error:
            raise ValueError(f"density must accept an array of depths, but raised {error!r}") from error
        if values.shape not in ((), r.shape) or values.dtype.kind not in "biuf":
            raise ValueError(
                f"density must return one real number for each depth, got shape {values.shape}, type {values.dtype} "
                f"for depths of shape {r.shape}"
            )
        return np.broadcast_to(values, r.shape).astype(np.float64)


def _divergence(value: float) -> float:
    xi = real("divergence", value, minimum=_LEAST_DIVERGENCE)
    if xi >= 1:
        raise ValueError(f"divergence must be < 1 for an integrable density, got {value!r}")
    return xi
