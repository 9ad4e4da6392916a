"""Fixed attention: Fig. 14 at paper scale, and a million exact times, against one sequence after the other.

Run ``python benchmarks/bench_fixed_attention.py``.  Naive times are measured on a part of the work and scaled.  On a
machine with other work to do, set OMP_NUM_THREADS=1: the products are small.
"""

import numpy as np

from _timing import Row, best_time, print_table
from grokphase import Attention, CellularAutomaton, GradientFlow, ThermodynamicLimit, paper_examples
from grokphase.student import all_inputs
from grokphase.student.spectrum import leading_eigenvectors

RULE = CellularAutomaton(30)
TENSORS, STRENGTHS, SCALE = 20_000, np.linspace(0.0, 0.02, 11), 6
RUNS = 10**6
LABELS = RULE(all_inputs(3)).reshape(24).astype(float)
TEST_STRINGS, TEST_LENGTH = 100, 50  # the 5000 test outputs of Fig. 12
SAMPLE = 20


def figure_14(tensors: np.ndarray) -> np.ndarray:
    """Certified numbers of solved tensors, shape (2, 11), from the drawn tensors on."""
    real = leading_eigenvectors(tensors[:, 0]).real
    limit = ThermodynamicLimit(Attention(tensors[real]), RULE)
    attention = Attention(tensors[real][limit.invariant_cone >= 0])  # all others are proven not to generalise
    limit = ThermodynamicLimit(attention, RULE)
    features = attention.features_of_all(3).reshape(-1, 24, 8)
    counts = np.zeros((2, len(STRENGTHS)), dtype=int)
    for column, strength in enumerate(STRENGTHS / SCALE):
        for row, penalty in enumerate(({"l1": strength, "l2": 0.0}, {"l1": 0.0, "l2": strength})):
            classifiers = GradientFlow(features, LABELS, **penalty).stationary().reshape(-1, 2, 2, 2)
            counts[row, column] = limit.certify_many(classifiers).generalises.sum()
    return counts


def naive_features(attention: Attention, x: np.ndarray) -> list[np.ndarray]:
    """Feature vectors of one sequence, one cell after the other."""
    symbols = (x + 1) // 2
    lefts, rights = [attention.left], [attention.right]
    for symbol in symbols[:-1]:
        context = lefts[-1] @ attention.tensors[symbol]
        lefts.append(context / np.linalg.norm(context))
    for symbol in symbols[:0:-1]:
        context = attention.tensors[symbol] @ rights[-1]
        rights.append(context / np.linalg.norm(context))
    out = []
    for left, symbol, right in zip(lefts, symbols, reversed(rights), strict=True):
        feature = np.zeros((2, 2, 2))
        feature[symbol] = np.outer(left, right)
        out.append(feature.ravel())
    return out


def naive_strength(attention: Attention, strings: np.ndarray, strength: float) -> bool:
    """One tensor at one strength (L2 only): train sequence by sequence, test on sampled strings until one is wrong."""
    inputs = np.array([feature for x in all_inputs(3) for feature in naive_features(attention, x)])
    weights = np.linalg.lstsq(inputs.T @ inputs / 24 + strength * np.eye(8), inputs.T @ LABELS / 24, rcond=None)[0]
    for x, y in zip(strings, RULE(strings), strict=True):
        for feature, target in zip(naive_features(attention, x), y, strict=True):
            if feature @ weights * target <= 0:
                return False
    return True


def naive_times(flow: GradientFlow, attention: Attention, strings: np.ndarray, initial: np.ndarray) -> int:
    """One run: the flow in steps of 0.1, training and test error sequence by sequence, until both vanish."""
    rates, modes = np.linalg.eigh(flow.gram)
    limit = flow.stationary()
    test = [(np.array(naive_features(attention, x)), y) for x, y in zip(strings, RULE(strings), strict=True)]
    step = 0
    while True:
        weights = limit + modes @ (np.exp(-rates * 0.1 * step) * (modes.T @ (initial - limit)))
        trained = (flow.inputs @ weights * flow.labels > 0).all()
        if trained and all((features @ weights * y > 0).all() for features, y in test):
            return step
        step += 1


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    tensors = rng.standard_normal((TENSORS, 2, 2, 2))
    real = tensors[leading_eigenvectors(tensors[:, 0]).real]
    strings = rng.choice([-1, 1], size=(TEST_STRINGS, TEST_LENGTH))
    few = [Attention(each) for each in real[: 10 * SAMPLE]]
    a_case = best_time(lambda: [naive_strength(attention, strings, 0.001) for attention in few], 1) / len(few)

    attention = paper_examples[2]
    flow = GradientFlow(attention.features_of_all(3).reshape(24, 8), LABELS, l2=0.01)
    limit = ThermodynamicLimit(attention, RULE)
    initial = rng.standard_normal((RUNS, 8))
    a_run = best_time(lambda: [naive_times(flow, attention, strings, start) for start in initial[:SAMPLE]], 1) / SAMPLE

    def million() -> None:
        flow.zero_train_time(initial)
        limit.zero_test_time(flow, initial)

    return [
        (
            f"Fig. 14: {TENSORS} tensors, 11 values of each strength, certified",
            best_time(lambda: figure_14(tensors)),
            20.0,
            a_case * len(real) * 2 * len(STRENGTHS),
        ),
        ("10^6 exact zero-train and zero-test times, example 3", best_time(million, 1), 10.0, a_run * RUNS),
        ("  of these zero-test", best_time(lambda: limit.zero_test_time(flow, initial), 1), None, None),
    ]


if __name__ == "__main__":
    print_table("Fixed attention", rows())
