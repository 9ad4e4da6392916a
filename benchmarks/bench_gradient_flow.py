"""Exact gradient flows: L1 flows and zero-error times, batched, against Euler steps and scikit-learn set by set."""

import warnings

import numpy as np

from _timing import best_time, print_table
from grokphase.solvable.ball import BallModel
from grokphase.solvable.gradient_flow import GradientFlow

DIMENSION, NUM, GAP, L1, L2 = 8, 10, 1.2, 0.05, 0.01
MANY, FEW = 10_000, 20
TIMES = np.linspace(0.0, 10.0, 10)
MODEL = BallModel(dimension=DIMENSION, class_gap=GAP, l1=L1, l2=L2)
INPUTS, LABELS = MODEL.sample(NUM, 0, size=MANY)
INITIAL = np.random.default_rng(1).standard_normal((MANY, DIMENSION))


def flow(l1: float, count: int = MANY) -> GradientFlow:
    return GradientFlow(INPUTS[:count], LABELS[:count], l1=l1, l2=L2)


def euler_one_at_a_time(l1: float, count: int = FEW, step: float = 1e-3, end: float = 20.0) -> None:
    """Forward-backward Euler to three digits in the times; both errors noted on the way."""
    for x, y, start in zip(INPUTS[:count], LABELS[:count], INITIAL, strict=False):
        gram, correlation, w = x.T @ x / len(y) + L2 * np.eye(DIMENSION), x.T @ y / len(y), start.copy()
        normals, train, test = y[:, None] * x, 0.0, 0.0
        for k in range(int(end / step)):
            w = w + step * (correlation - gram @ w)
            w = np.sign(w) * np.maximum(np.abs(w) - step * l1, 0.0)
            if (normals @ w).min() <= 0:
                train = k * step
            if GAP * w[0] < np.linalg.norm(w):
                test = k * step
        assert max(train, test) <= end


def scikit_learn_one_at_a_time(count: int) -> None:
    from sklearn.linear_model import ElasticNet

    student = ElasticNet(alpha=L1 + L2, l1_ratio=L1 / (L1 + L2), fit_intercept=False, tol=1e-10, max_iter=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for x, y in zip(INPUTS[:count], LABELS[:count], strict=True):
            student.fit(x, y)


def everything(l1: float) -> None:
    """Weights at ten times, zero-train and zero-test time of every flow."""
    flows = flow(l1)
    flows.weights(TIMES, INITIAL)
    flows.zero_train_time(INITIAL)
    flows.zero_test_time(INITIAL, MODEL)


def main() -> None:
    euler = best_time(lambda: euler_one_at_a_time(L1), 1) * MANY / FEW
    euler_free = best_time(lambda: euler_one_at_a_time(0.0), 1) * MANY / FEW
    rows = [
        ("with L1: weights at ten times", best_time(lambda: flow(L1).weights(TIMES, INITIAL)), 1.0, euler),
        ("with L1: zero-train time", best_time(lambda: flow(L1).zero_train_time(INITIAL)), 1.0, euler),
        ("with L1: zero-test time", best_time(lambda: flow(L1).zero_test_time(INITIAL, MODEL)), 1.0, euler),
        ("with L1: all three", best_time(lambda: everything(L1)), None, euler),
        ("no L1: weights at ten times", best_time(lambda: flow(0.0).weights(TIMES, INITIAL)), None, euler_free),
        ("no L1: zero-train time, final", best_time(lambda: flow(0.0).zero_train_time(INITIAL)), None, euler_free),
        (
            "no L1: zero-test time, first",
            best_time(lambda: flow(0.0).zero_test_time(INITIAL, MODEL, "first")),
            None,
            euler_free,
        ),
        ("no L1: zero-test time, final", best_time(lambda: flow(0.0).zero_test_time(INITIAL, MODEL)), None, euler_free),
        (
            "with L1: stationary weights (naive: scikit-learn, 500 sets)",
            best_time(lambda: flow(L1).stationary()),
            None,
            MANY / 500 * best_time(lambda: scikit_learn_one_at_a_time(500), 2),
        ),
    ]
    print_table(f"{MANY} gradient flows, D = {DIMENSION}, N = {NUM} (naive: {FEW} flows by Euler steps, scaled)", rows)


if __name__ == "__main__":
    main()
