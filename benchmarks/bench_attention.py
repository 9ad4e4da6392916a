"""Rules and fixed attention: all inputs at once by the prefix tree against one sequence after the other.

Run ``python benchmarks/bench_attention.py``.  Naive times are measured on a part of the sequences
and scaled.  On a machine with other work to do, set OMP_NUM_THREADS=1: the products are small.
"""

import numpy as np

from _timing import Row, best_time, print_table
from grokphase.rules import CellularAutomaton
from grokphase.student import Attention, all_inputs
from grokphase.student.spectrum import leading_eigenvectors

SAMPLE = 100
LENGTH, BOND = 16, 10


def naive_scores(attention: Attention, x: np.ndarray, classifier: np.ndarray) -> list[float]:
    """One sequence, one cell after the other, contexts carried along."""
    symbols = (x + 1) // 2
    lefts, rights = [attention.left], [attention.right]
    for symbol in symbols[:-1]:
        context = lefts[-1] @ attention.tensors[symbol]
        lefts.append(context / np.linalg.norm(context))
    for symbol in symbols[:0:-1]:
        context = attention.tensors[symbol] @ rights[-1]
        rights.append(context / np.linalg.norm(context))
    return [
        left @ classifier[symbol] @ right for left, symbol, right in zip(lefts, symbols, reversed(rights), strict=True)
    ]


def naive_rule(table: np.ndarray, x: np.ndarray) -> list[int]:
    padded = [-1, *x, -1]
    return [table[2 * (padded[i] + 1) + (padded[i + 1] + 1) + (padded[i + 2] + 1) // 2] for i in range(len(x))]


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    attention = Attention(rng.normal(size=(2, BOND, BOND)), left=rng.normal(size=BOND), right=rng.normal(size=BOND))
    classifier = rng.normal(size=(2, BOND, BOND))
    inputs = all_inputs(LENGTH)
    sample = inputs[rng.integers(len(inputs), size=SAMPLE)]
    a_sequence = best_time(lambda: [naive_scores(attention, x, classifier) for x in sample]) / SAMPLE
    strings = rng.choice([-1, 1], size=(1000, 1000))
    a_string = best_time(lambda: [naive_scores(attention, x, classifier) for x in strings[:5]]) / 5

    gaussian = rng.normal(size=(20_000, 2, 2, 2))
    real = leading_eigenvectors(gaussian[:, 0]).real
    many, few = gaussian[real], gaussian[real][:SAMPLE]
    an_attention = best_time(lambda: [Attention(tensors).features_of_all(3) for tensors in few]) / SAMPLE

    rule = CellularAutomaton(30)
    a_rule = best_time(lambda: [naive_rule(rule.table, x) for x in sample]) / SAMPLE
    return [
        (
            f"scores of all 2^{LENGTH} inputs, bond {BOND}",
            best_time(lambda: attention.scores_of_all(LENGTH, classifier), repeats=7),
            0.050,
            a_sequence * len(inputs),
        ),
        (
            "scores of 1000 strings of 1000 cells, bond 10",
            best_time(lambda: attention.scores(strings, classifier)),
            None,
            a_string * len(strings),
        ),
        (
            "20 000 Gaussian bond-2 tensors: leading pairs, mask",
            best_time(lambda: leading_eigenvectors(gaussian[:, 0])),
            None,
            None,
        ),
        (
            f"features of all inputs of length 3, {len(many)} attentions",
            best_time(lambda: Attention(many).features_of_all(3)),
            1.0,
            an_attention * len(many),
        ),
        (
            f"rule 30 on all 2^{LENGTH} inputs",
            best_time(lambda: rule(inputs)),
            None,
            a_rule * len(inputs),
        ),
        (
            "table of rule 30 iterated ten times (2^21 entries)",
            best_time(lambda: rule.iterate(10)),
            None,
            None,
        ),
    ]


if __name__ == "__main__":
    print_table("Rules and fixed attention", rows())
