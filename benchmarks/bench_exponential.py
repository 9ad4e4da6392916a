"""Exponential model: probability and grokking-time law against the naive way.

The naive ways are the paper's formulas evaluated as they stand: SciPy's quad on Eq. 13, the hypergeometric functions of
Eq. 14 in mpmath (printed (B ε_λ)^2N and Γ(Nd), read with B = N, d = 1, and with the digits they need to keep twelve),
and quad over x̄ for Eq. 16. Beside the times stands the largest relative difference from our values.
"""

from collections.abc import Callable

import mpmath as mp
import numpy as np
from scipy import integrate, special

from _timing import best_time, print_table
from grokphase.solvable.exponential import ExponentialModel

GAPS = np.linspace(0.01, 2.0, 100_000)
L2 = 0.1


def probability_by_quad(n: int, gap: float) -> float:
    """Eq. 13 in the variable u = 2N|x̄|: ∫ u^{N−1/2} K_{N−1/2}(u) du."""
    order = n - 0.5
    log_norm = 0.5 * np.log(np.pi) + special.gammaln(n) + (order - 1) * np.log(2)
    value, _ = integrate.quad(
        lambda u: np.exp(order * np.log(u) - u - log_norm) * special.kve(order, u), 0, 2 * n * gap, epsrel=1e-12
    )
    return value


def probability_by_eq_14(n: int, gap: float, digits: int) -> float:
    with mp.workdps(digits):
        half, size, eps = mp.mpf(1) / 2, mp.mpf(n), mp.mpf(gap)
        x = (size * eps) ** 2
        first = mp.hyp1f2(size, size + half, size + 1, x) / (mp.gamma(size + half) * mp.gamma(size + 1))
        second = mp.hyp1f2(half, 3 * half, 3 * half - size, x) / (mp.gamma(3 * half) * mp.gamma(3 * half - size))
        sum_of_both = mp.sqrt(mp.pi) * x**size * first - mp.pi * size * eps * second / mp.gamma(size)
        return float((-1) ** n * sum_of_both)


def density_by_quad(n: int, gap: float, times: np.ndarray) -> np.ndarray:
    """Density of Eq. 16 for λ₂ = L2: quad over z = 2N x̄ − N x_min, with g = density of Gamma(N−1) − Gamma(N)."""
    e, order = 2 * n * gap, n - 0.5
    log_norm = 0.5 * np.log(np.pi) + special.gammaln(n) + order * np.log(2)

    def g(z: float) -> float:
        u = abs(z)
        return np.exp(order * np.log(u) - u - log_norm) * (
            special.kve(order, u) - np.sign(z) * special.kve(order - 1, u)
        )

    def one(time: float) -> float:
        c = np.expm1((1 + L2) * time) / (1 + L2)

        def integrand(z: float) -> float:
            return (e - z) * np.exp(-c / (2 + c) * (e - z)) * g(z)

        sides = (max(-(1 + c) * e, -12 * np.sqrt(2 * n)), -0.1), (0.1, min(e, 12 * np.sqrt(2 * n)))
        parts = [integrate.quad(integrand, low, high, epsrel=1e-10, limit=200)[0] for low, high in sides]
        middle = 0.1 * (integrand(-0.1) + integrand(0.1))  # K overflows nearer to 0
        return 2 * np.exp((1 + L2) * time) / (2 + c) ** 2 * (sum(parts) + middle)

    return np.array([one(time) for time in times]) / probability_by_quad(n, gap)


def difference(ours: Callable[[], np.ndarray | float], naive: Callable[[], np.ndarray | float]) -> float:
    return float(np.max(np.abs(np.asarray(naive()) / ours() - 1)))


def main() -> None:
    many = ExponentialModel(class_gap=GAPS)
    one = ExponentialModel(class_gap=0.001)
    gap = 0.4
    law = ExponentialModel(class_gap=gap / (1 + L2), l2=L2).grokking_time(100)
    times = np.linspace(0.0, 0.2, 1000)
    few_gaps, few_times = GAPS[::500], times[::50]
    digits = 60

    def by_quad() -> np.ndarray:
        return np.array([probability_by_quad(10, g) for g in few_gaps])

    def by_eq_14() -> np.ndarray:
        return np.array([probability_by_eq_14(10, g, digits) for g in few_gaps])

    few = ExponentialModel(class_gap=few_gaps)
    large = ExponentialModel(class_gap=gap / (1 + L2), l2=L2).grokking_time(10**6)
    rows = [
        (
            "probability, N = 10, 10^5 gaps (naive: quad of Eq. 13, 200)",
            best_time(lambda: many.grokking_probability(10)),
            0.2,
            500 * best_time(by_quad, 2),
        ),
        (
            f"the same (naive: Eq. 14 in mpmath, {digits} digits, 200)",
            best_time(lambda: many.grokking_probability(10)),
            0.2,
            500 * best_time(by_eq_14, 2),
        ),
        (
            "probability, N = 10^6, once (naive: K_N of Eq. 13 overflows)",
            best_time(lambda: one.grokking_probability(10**6)),
            0.1,
            None,
        ),
        (
            "time density, N = 100, 1000 points (naive: quad of Eq. 16, 20)",
            best_time(lambda: law.pdf(times)),
            1.0,
            50 * best_time(lambda: density_by_quad(100, gap, few_times), 2),
        ),
        ("time density, N = 10^6, 1000 points", best_time(lambda: large.pdf(times / 1e4), 1), None, None),
        ("mean and spread of t_G, N = 100", best_time(lambda: _fresh_moments(100)), None, None),
        ("10^6 grokking times drawn, N = 100", best_time(lambda: law.rvs(10**6, 0)), None, None),
    ]
    print_table("Exponential model (naive times are scaled from the number in brackets)", rows)
    print(
        "largest relative difference: "
        f"Eq. 13 by quad {difference(lambda: few.grokking_probability(10), by_quad):.1g}, "
        f"Eq. 14 with {digits} digits {difference(lambda: few.grokking_probability(10), by_eq_14):.1g}, "
        f"with 16 digits {_eq_14_in_double_precision():.1g}, "
        f"Eq. 16 by quad {difference(lambda: law.pdf(few_times), lambda: density_by_quad(100, gap, few_times)):.1g}"
    )


def _fresh_moments(n: int) -> tuple[float, float]:
    law = ExponentialModel(class_gap=0.4, l2=L2).grokking_time(n)
    return law.mean(), law.std()


def _eq_14_in_double_precision() -> float:
    """Error of Eq. 14 with 16 digits at N = 20, ε_λ = 1."""
    exact = ExponentialModel(class_gap=1.0).grokking_probability(20)
    return abs(probability_by_eq_14(20, 1.0, 16) / exact - 1)


if __name__ == "__main__":
    main()
