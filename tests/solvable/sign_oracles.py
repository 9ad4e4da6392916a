"""Oracles for the times at which functions change sign, and the judge of an answer.

:class:`Exact` isolates all zeros of a sum of exponentials by Rolle's theorem, at the precision that mpmath is set to:
divide by the slowest exponential, differentiate (which removes a term), find the zeros of that recursively; between two
neighbours of them the function is monotone.

The judges look at the backward error, as zeros of nearly cancelling sums may be ill-conditioned: wherever the exact
functions contradict an answer, they must do so by no more than a few times the rounding error of evaluating them.

:func:`grid_times` is the naive way: a dense grid, and brentq.
"""

from itertools import pairwise

import mpmath as mp
import numpy as np
from scipy.optimize import brentq

EPS = mp.mpf(2) ** -52
# The package calls values within 2 of its rounding errors zero and answers by one Newton step from there, which misses
# by one or two more; a few on top for its own evaluation.
ROUNDINGS = 8
# To leave zero upwards it steps to where slope or curvature alone give 8: a window lower than 2 + 8 + 8 may be missed.
ENTRY_ROUNDINGS = 20
# An exit may be late by the room given to functions at zero, 3 of the value and 6 of the slope, and their own error.
EXIT_ROUNDINGS = 30


class Exact:
    """Σ c e^{−rt} with the given doubles as exact numbers.

    Without a rounding error of its own, ``noise(t)``, the slowest rate is subtracted (the signs are the same).
    """

    def __init__(self, coefficients, rates, noise=None):
        terms = {}
        for c, r in zip(map(mp.mpf, coefficients), map(mp.mpf, rates), strict=True):
            terms[r] = terms.get(r, mp.mpf(0)) + c
        present = sorted((r, c) for r, c in terms.items() if c != 0)
        slowest = present[0][0] if present and noise is None else mp.mpf(0)
        self.terms = [(c, r - slowest) for r, c in present]
        self.count = len(coefficients)
        self.given_noise = noise

    def __call__(self, t):
        return mp.fsum(c * mp.exp(-r * t) for c, r in self.terms)

    def slope(self, t):
        """First derivative."""
        return mp.fsum(-r * c * mp.exp(-r * t) for c, r in self.terms)

    def noise(self, t):
        """Rounding error of the value in double precision."""
        if self.given_noise is not None:
            return self.given_noise(t)
        parts = [(abs(c) * mp.exp(-r * t), r) for c, r in self.terms]
        return EPS * mp.fsum(((self.count + 2) + 2 * r * t) * part for part, r in parts)

    def ratio(self, t):
        """Value in units of its rounding error."""
        noise = self.noise(t)
        return self(t) / noise if noise else mp.mpf(0)

    def horizon(self):
        """A time after which the slowest term decides."""
        if len(self.terms) < 2:
            return mp.mpf(1)
        lead, gap = abs(self.terms[0][0]), self.terms[1][1]
        others = mp.fsum(abs(c) for c, _ in self.terms[1:])
        return max(mp.mpf(1), mp.log(4 * others / lead) / gap)

    def zeros(self, end):
        """All zeros in (0, end)."""
        return _zeros(self.terms, end)


def _zeros(terms, end):
    terms = [(c, r) for c, r in terms if c != 0]
    if len(terms) < 2:
        return []
    slowest = min(r for _, r in terms)
    terms = [(c, r - slowest) for c, r in terms]
    derivative = [(-c * r, r) for c, r in terms if r != 0]

    def f(t):
        return mp.fsum(c * mp.exp(-r * t) for c, r in terms)

    def value(t):
        """Zero where only the rounding of the oracle is left."""
        exact = f(t)
        return exact if abs(exact) > 100 * mp.eps * mp.fsum(abs(c) * mp.exp(-r * t) for c, r in terms) else mp.mpf(0)

    found = []
    points = [mp.mpf(0), *_zeros(derivative, end), end]
    values = [value(t) for t in points]
    for a, b, fa, fb in zip(points, points[1:], values, values[1:], strict=False):
        if fa * fb < 0:
            found.append(_ridder(f, a, b, fa, fb))
        elif fb == 0 and b < end:
            found.append(b)
    return sorted(found)


def _ridder(f, a, b, fa, fb):
    """The zero in a bracket, by Ridder's method, which halves it at least."""
    while b - a > mp.mpf(10) ** -45 * b:
        middle = (a + b) / 2
        fm = f(middle)
        point = middle + (middle - a) * mp.sign(fa) * fm / mp.sqrt(fm**2 - fa * fb)
        for x, fx in sorted([(middle, fm), (point, f(point))]):
            if fx == 0:
                return x
            if a < x < b:
                a, fa, b, fb = (x, fx, b, fb) if fx * fa > 0 else (a, fa, x, fx)
    return (a + b) / 2


def probes(functions, end, extra=()):
    """Times that see every interval between neighbouring zeros of all functions, several times each."""
    marks = sorted({mp.mpf(0), end, *extra, *(z for f in functions for z in f.zeros(end))})
    inner = [mp.mpf(k) / 8 for k in range(1, 8)]
    return [a + (b - a) * x for a, b in pairwise(marks) for x in inner]


def check_last_violation(functions, time, index, stop):
    end = mp.mpf(stop) if np.isfinite(stop) else max(f.horizon() for f in functions)
    if np.isinf(time):
        assert np.isinf(stop)
        assert functions[index].ratio(2 * end) <= ROUNDINGS
        return
    t = mp.mpf(float(time))
    later = [s for s in probes(functions, max(end, 2 * t), [t]) if t < s < end]
    worst = min((f.ratio(s) for f in functions for s in later), default=0)
    assert worst >= -ROUNDINGS, f"violated by {float(worst):.3g} roundings after {time}"
    if index >= 0:
        assert functions[index].ratio(t) <= ROUNDINGS, "not violated at the time given"
    else:
        assert time == 0


def check_first_entry(functions, time, stop):
    end = mp.mpf(stop) if np.isfinite(stop) else 2 * max(f.horizon() for f in functions)
    t = mp.mpf(float(time)) if np.isfinite(time) else end
    times = probes(functions, max(end, 2 * t), [t])
    inside = [(s, min(f.ratio(s) for f in functions)) for s in times]
    early = max((r for s, r in inside if s < min(t, end)), default=0)
    assert early <= ENTRY_ROUNDINGS, f"all positive by {float(early):.3g} roundings before {time}"
    if np.isfinite(time):
        # (if nothing ever is positive, it must be zero within rounding to the end)
        entered = next((s for s, r in inside if s > t and r > 0), inside[-1][0])
        assert min((r for s, r in inside if t < s <= entered), default=0) >= -ROUNDINGS


def check_first_exit(functions, time, exits, stop):
    end = mp.mpf(stop) if np.isfinite(stop) else 2 * max(f.horizon() for f in functions)
    t = mp.mpf(float(time)) if np.isfinite(time) else end
    times = probes(functions, max(end, 2 * t), [t])
    worst = min((f.ratio(s) for f in functions for s in times if s < min(t, end)), default=0)
    assert worst >= -EXIT_ROUNDINGS, f"negative by {float(worst):.3g} roundings before {time}"
    assert exits.any() == np.isfinite(time)
    for f, out in zip(functions, exits, strict=True):
        if out:
            assert f.ratio(t) <= ROUNDINGS
            # what leaves at 0 is within rounding there; once it is beyond rounding it must be negative
            assert t or next(r for r in map(f.ratio, (s for s in times if s > t)) if abs(r) > ROUNDINGS) < 0


def grid_times(f, grid):
    """First and final time at which all functions f(t) -> (..., F) are positive: dense grid, then brentq."""
    inside = (f(grid) > 0).all(axis=-1)

    def refine(k):
        """The crossing between grid points k − 1 and k."""
        worst = f(grid[[k - 1, k]])[0 if inside[k] else 1].argmin()
        return brentq(lambda t: f(np.array([t]))[0, worst], grid[k - 1], grid[k], xtol=1e-14, rtol=1e-14)

    if inside.all():
        return 0.0, 0.0
    if not inside.any():
        return np.inf, np.inf
    k = inside.argmax()
    first = 0.0 if k <= 1 else refine(k)
    final = refine(len(grid) - inside[::-1].argmin()) if inside[-1] else np.inf
    return first, final
