"""Thermodynamic limit: certificates, certified errors and zero-error times against sampling one sequence at a time.

Run ``python benchmarks/bench_limit.py``.  Naive times are measured on a part and scaled: per-sequence loops over
random strings, as the paper samples its test sets, and a time grid along the flow.  On a machine with other work
to do, set OMP_NUM_THREADS=1: the products are small.
"""

import numpy as np

from _timing import Row, best_time, print_table
from grokphase.rules import CellularAutomaton
from grokphase.solvable.gradient_flow import GradientFlow
from grokphase.student import Attention, ThermodynamicLimit, all_inputs, paper_examples
from grokphase.student.spectrum import leading_eigenvectors

RULE = CellularAutomaton(30)
TENSORS, STRENGTHS = 20_000, 22
RUNS = 10**6
STRINGS, CELLS = 50, 100  # a sampled test set: 5000 cells, as in Fig. 12


def naive_error(attention: Attention, strings: np.ndarray, classifier: np.ndarray) -> float:
    """Fraction of wrong cells, one sequence and one cell after the other."""
    wrong = 0
    for x in strings:
        symbols = (x + 1) // 2
        lefts, rights = [attention.left], [attention.right]
        for symbol in symbols[:-1]:
            context = lefts[-1] @ attention.tensors[symbol]
            lefts.append(context / np.linalg.norm(context))
        for symbol in symbols[:0:-1]:
            context = attention.tensors[symbol] @ rights[-1]
            rights.append(context / np.linalg.norm(context))
        scores = [
            left @ classifier[symbol] @ right
            for left, symbol, right in zip(lefts, symbols, reversed(rights), strict=True)
        ]
        wrong += int((np.sign(scores) != RULE(x)).sum())
    return wrong / strings.size


def naive_time(flow: GradientFlow, normals: np.ndarray, initial: np.ndarray, times: np.ndarray) -> float:
    """Last time of a grid at which some condition is violated."""
    violated = [t for t in times if (normals @ flow.weights(t, initial) <= 0).any()]
    return max(violated, default=0.0)


def trained(attention: Attention, l2: float, length: int = 3) -> GradientFlow:
    features = attention.features_of_all(length)
    batch = attention.batch_shape
    features = features.reshape(*batch, -1, attention.dimension)
    return GradientFlow(features, RULE(all_inputs(length)).reshape(-1), l2=l2)


def fig14_rows(strings: np.ndarray) -> list[Row]:
    rng = np.random.default_rng(0)
    gaussian = rng.normal(size=(TENSORS, 2, 2, 2))
    many = Attention(gaussian[leading_eigenvectors(gaussian[:, 0]).real])
    strengths = np.linspace(1e-6, 0.02, STRENGTHS)
    classifiers = np.array([trained(many, l2).stationary().reshape(-1, 2, 2, 2) for l2 in strengths])
    few = [(Attention(tensors), classifier) for tensors, classifier in zip(many.tensors, classifiers[0], strict=True)]
    sampled = best_time(lambda: [naive_error(*one[:1], strings, one[1]) for one in few[:5]]) / 5
    count = len(many.tensors) * STRENGTHS
    return [
        (
            f"certificates, {len(many.tensors)} bond-2 attentions x {STRENGTHS} classifiers",
            best_time(lambda: ThermodynamicLimit(many, RULE).certify_many(classifiers)),
            20.0,
            sampled * count,
        )
    ]


def example_rows(strings: np.ndarray) -> list[Row]:
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    for number, attention in enumerate(paper_examples, 1):
        limit = ThermodynamicLimit(attention, RULE)
        flow = trained(attention, 0.01)
        good = flow.stationary().reshape(2, 2, 2)
        mixed = [good + np.abs(good).mean() * rng.normal(size=(2, 2, 2)) for _ in range(20)]
        sampled = best_time(lambda a=attention, c=mixed: naive_error(a, strings, c[0]))
        limit.test_error(good)  # the cones, once
        slowest = max(best_time(lambda c=c, one=limit: one.test_error(c), repeats=7) for c in mixed)
        rows.append((f"certified error to 1e-9, example {number}, slowest of 20", slowest, 0.010, sampled))
        certify = best_time(lambda one=limit, c=good: one.certify(c), repeats=7)
        rows.append((f"one certificate, example {number}", certify, None, sampled))
    return rows


def run_rows() -> list[Row]:
    attention = paper_examples[0]
    limit, flow = ThermodynamicLimit(attention, RULE), trained(attention, 0.01)
    initial = np.random.default_rng(2).normal(size=(RUNS, 8))
    normals = np.array([corner.normal for corner in limit.exponents()])
    grid = np.linspace(0, 200, 200)
    a_run = best_time(lambda: [naive_time(flow, normals, start, grid) for start in initial[:3]]) / 3
    test = best_time(lambda: limit.zero_test_time(flow, initial), repeats=1)
    train = best_time(lambda: flow.zero_train_time(initial), repeats=1)
    return [
        (f"zero-test times of {RUNS} runs, example 1", test, None, a_run * RUNS),
        (f"zero-train times of {RUNS} runs, example 1", train, None, a_run * RUNS),
        ("both", test + train, 10.0, 2 * a_run * RUNS),
    ]


def larger_bond_rows(strings: np.ndarray) -> list[Row]:
    rng = np.random.default_rng(3)
    tensors = 0.03 * rng.normal(size=(2, 6, 6))
    tensors[:, :4, :4] += Attention.exact(1).tensors
    attention = Attention(tensors)
    good = trained(attention, 1e-4, length=4).stationary().reshape(2, 6, 6)
    mixed = good + np.abs(good).mean() * rng.normal(size=good.shape)
    sampled = best_time(lambda: naive_error(attention, strings, mixed))
    return [
        (
            "cover, certificate, bond 6",
            best_time(lambda: ThermodynamicLimit(attention, RULE).certify(good)),
            None,
            sampled,
        ),
        (
            "cover, certified error to 1e-4, bond 6",
            best_time(lambda: ThermodynamicLimit(attention, RULE).test_error(mixed, 1e-4)),
            None,
            sampled,
        ),
    ]


def rows() -> list[Row]:
    strings = np.random.default_rng(4).choice([-1, 1], size=(STRINGS, CELLS))
    return [*fig14_rows(strings), *example_rows(strings), *larger_bond_rows(strings), *run_rows()]


if __name__ == "__main__":
    print_table("Thermodynamic limit", rows())
