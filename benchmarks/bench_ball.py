"""Ball model: stationary solutions and grokking probabilities against the naive way."""

import warnings

import numpy as np
from scipy import integrate, special, stats

from _timing import best_time, print_table
from grokphase.solvable.ball import BallModel

DIMENSION, NUM, GAP, L2 = 10, 10, 1.01, 0.1


def model(l1: float = 0.0, gap: float | np.ndarray = GAP) -> BallModel:
    return BallModel(dimension=DIMENSION, class_gap=gap, l1=l1, l2=L2)


def probability_one_set_at_a_time(trials: int) -> None:
    inputs, labels = model().sample(NUM, 0, size=trials)
    for x, y in zip(inputs, labels, strict=True):
        weights = np.linalg.solve(x.T @ x / len(y) + L2 * np.eye(DIMENSION), x.T @ y / len(y))
        model().test_error(weights)


def probability_with_scikit_learn(trials: int, l1: float) -> None:
    from sklearn.linear_model import ElasticNet

    student = ElasticNet(alpha=l1 + L2, l1_ratio=l1 / (l1 + L2), fit_intercept=False, tol=1e-10, max_iter=100_000)
    inputs, labels = model().sample(NUM, 0, size=trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, y in zip(inputs, labels, strict=True):
            model().test_error(student.fit(x, y).coef_)


def first_order_by_quad(gaps: np.ndarray) -> None:
    for gap in gaps:  # Eq. 86 corrected
        ridge = L2 + 1 / (DIMENSION + 2)
        weight = gap / (ridge + gap**2)
        one = 1 / (2 * NUM * (DIMENSION + 2))
        sigma = np.sqrt(one * ((1 - 2 * gap * weight) ** 2 + 2 * weight**2 * 11 / (12 * 14)))
        unit = one * ((1 - gap * weight) ** 2 + weight**2 / 14)
        slope = (gap**2 - 1) * (ridge * weight / gap) ** 2 / unit
        integrate.quad(
            lambda w, slope=slope: stats.norm.pdf(w, gap, sigma) * special.gammainc(4.5, slope * w**2 / 2),  # noqa: B023
            0,
            gap + 10 * sigma,
        )


def first_order_by_sampling(gaps: np.ndarray) -> None:
    """First-order law with L1 by 10⁶ draws a gap: three digits, no tails."""
    rng = np.random.default_rng(0)
    for _ in gaps:
        excess = np.maximum(np.abs(rng.standard_normal((10**6, DIMENSION - 1))) - 0.5, 0)
        np.mean((excess**2).sum(axis=1) <= rng.standard_normal(10**6) ** 2)


def main() -> None:
    many, some = np.linspace(1.0, 1.5, 100_000), np.linspace(1.0, 1.5, 100)
    weights = np.random.default_rng(0).standard_normal((10**6, DIMENSION))
    rows = [
        (
            "10^5 stationary solutions, D = N = 10 (naive: 2000 one by one)",
            best_time(lambda: model().grokking_probability(NUM, "monte-carlo", trials=100_000, rng=0)),
            2.0,
            50 * best_time(lambda: probability_one_set_at_a_time(2000), 2),
        ),
        (
            "the same with L1 = 0.05 (naive: scikit-learn, 1000 sets)",
            best_time(lambda: model(0.05).grokking_probability(NUM, "monte-carlo", trials=100_000, rng=0)),
            20.0,
            100 * best_time(lambda: probability_with_scikit_learn(1000, 0.05), 2),
        ),
        (
            "first-order probability, 10^5 gaps (naive: quad, 200 gaps)",
            best_time(lambda: model(gap=many).grokking_probability(NUM), 2),
            None,
            500 * best_time(lambda: first_order_by_quad(many[::500]), 2),
        ),
        (
            "first-order probability with L1, 100 gaps (naive: 10^6 draws, 2 gaps)",
            best_time(lambda: model(0.03, some).grokking_probability(NUM)),
            None,
            50 * best_time(lambda: first_order_by_sampling(some[:2]), 2),
        ),
        (
            "test error of 10^6 weight vectors, D = 10",
            best_time(lambda: model().test_error(weights)),
            None,
            None,
        ),
    ]
    print_table("Ball model (naive times are scaled from the size in brackets)", rows)


if __name__ == "__main__":
    main()
