"""Slow, readable twins of the thermodynamic limit: plain enumeration of all words, and a few attentions to try."""

from functools import cache

import numpy as np

from grokphase.rules import CellularAutomaton
from grokphase.solvable.gradient_flow import GradientFlow
from grokphase.student import Attention, ThermodynamicLimit, all_inputs, paper_examples

RULE = CellularAutomaton(30)


def contexts(tensors, start, depth):
    """Left contexts behind all words of 0 .. depth letters, in the order of all_inputs."""
    levels = [np.array([start])]
    for _ in range(depth):
        rows = np.stack([levels[-1] @ tensors[0], levels[-1] @ tensors[1]], axis=1).reshape(-1, len(start))
        levels.append(rows / np.linalg.norm(rows, axis=-1, keepdims=True))
    return levels


def both_contexts(attention, depth):
    """Left contexts by word, right contexts by word in reading order."""
    left = contexts(attention.tensors, attention.left, depth)
    mirrored = contexts(np.swapaxes(attention.tensors, -1, -2), attention.right, depth)
    right = []
    for n, rows in enumerate(mirrored):  # number of a word with its letters reversed
        axes = [*range(n - 1, -1, -1), n]
        right.append(rows.reshape((2,) * n + (-1,)).transpose(axes).reshape(2**n, -1))
    return left, right


def lowest_scores(attention, rule, classifiers, length):
    """Smallest score times the rule's output over all cells of all inputs of a length, for each classifier."""
    left, right = both_contexts(attention, length - 1)
    outputs = rule(all_inputs(length)).astype(float)
    lowest = np.full(len(classifiers), np.inf)
    step = max(1, 2**17 // 2**length)  # so many classifiers stay in the cache
    for start in range(0, len(classifiers), step):
        part = classifiers[start : start + step]
        for cell in range(length):
            target = outputs[:, cell].reshape(2**cell, 2, -1)
            for letter in range(2):
                scores = left[cell] @ part[:, letter] @ right[length - 1 - cell].T
                scores *= target[:, letter]
                lowest[start : start + step] = np.minimum(lowest[start : start + step], scores.min(axis=(1, 2)))
    return lowest


def score_of(attention, x, cell, classifier):
    """Score of one cell, contexts by plain products, brought back to unit norm after each."""
    left, right = attention.left, attention.right
    for spin in x[:cell]:
        left = left @ attention.tensors[(spin + 1) // 2]
        left = left / np.linalg.norm(left)
    for spin in x[:cell:-1]:
        right = attention.tensors[(spin + 1) // 2] @ right
        right = right / np.linalg.norm(right)
    return left @ classifier[(x[cell] + 1) // 2] @ right


def error_by_cell(attention, rule, classifier, length):
    """Fraction of wrong inputs at each cell, all inputs of a length."""
    left, right = both_contexts(attention, length - 1)
    outputs = rule(all_inputs(length)).astype(float)
    errors = []
    for cell in range(length):
        target = outputs[:, cell].reshape(2**cell, 2, -1)
        scores = np.stack([left[cell] @ classifier[x] @ right[length - 1 - cell].T for x in range(2)], axis=1)
        errors.append(float((scores * target <= 0).mean()))
    return np.array(errors)


def trained(attention, rule=RULE, length=3, **penalties):
    """The classifier after endless training on all inputs of a length."""
    features = attention.features_of_all(length).reshape(-1, attention.dimension)
    flow = GradientFlow(features, rule(all_inputs(length)).reshape(-1), **penalties)
    return flow, flow.stationary().reshape(attention.tensors.shape)


def good_classifier(attention, rule=RULE):
    """A trained classifier that generalises (the first published example needs some regularisation)."""
    for l2 in (1e-5, 1e-3, 0.01):
        classifier = trained(attention, rule, l2=l2)[1]
        if ThermodynamicLimit(attention, rule).certify(classifier).generalises:
            return classifier
    raise AssertionError("this attention should be solvable")


@cache
def solvable_attentions(count=6):
    """The published examples, and Gaussian tensors that solve rule 30 after training."""
    rng = np.random.default_rng(7)
    found = list(paper_examples)
    while len(found) < 3 + count:
        tensors = rng.normal(size=(400, 2, 2, 2))
        discriminant = (tensors[:, 0, 0, 0] - tensors[:, 0, 1, 1]) ** 2 + 4 * tensors[:, 0, 0, 1] * tensors[:, 0, 1, 0]
        batch = Attention(tensors[discriminant > 0.01])
        features = batch.features_of_all(3).reshape(len(batch.tensors), 24, 8)
        flow = GradientFlow(features, RULE(all_inputs(3)).reshape(-1), l2=1e-5)
        classifiers = flow.stationary().reshape(-1, 2, 2, 2)
        good = ThermodynamicLimit(batch, RULE).certify_many(classifiers).generalises
        found += [Attention(one) for one in batch.tensors[good]]
    return tuple(found[: 3 + count])
