"""A slow, readable twin of the training engine: one string, one cell at a time, in double precision."""

import numpy as np

from grokphase.student import Attention


def unit(vector):
    return vector / np.linalg.norm(vector)


def outputs(parameters, string, *, normalise):
    """Outputs ŷ of every cell of one string of spins, contexts brought to unit norm at every cell."""
    attention, classifier, scale, left_edge, right_edge = parameters
    cells = [(spin + 1) // 2 for spin in string]
    lefts = [unit(left_edge)]
    for cell in cells[:-1]:
        lefts.append(unit(lefts[-1] @ attention[cell]))
    rights = [unit(right_edge)]
    for cell in cells[:0:-1]:
        rights.insert(0, unit(attention[cell] @ rights[0]))
    found = []
    for cell, left, right in zip(cells, lefts, rights, strict=True):
        pair = np.array([left @ classifier[symbol] @ right for symbol in range(2)])
        found.append(scale * (unit(pair) if normalise else pair)[cell])
    return np.array(found)


def loss_and_error(parameters, rule, strings, *, normalise=True):
    """Mean of (σ(ŷ) − target)² and part of wrong cells over the cells of some strings of one length."""
    losses, wrong = [], []
    for string in strings:
        score, label = outputs(parameters, string, normalise=normalise), rule(string)
        losses.append((1 / (1 + np.exp(-score)) - (label + 1) / 2) ** 2)
        wrong.append(score * label <= 0)
    return np.mean(losses), np.mean(wrong)


def domain_size(parameters, rule, strings, *, normalise=True):
    """Mean of [1 + equal/(unequal + 1)]/length over strings, of the neighbours of the error indicator."""
    sizes = []
    for string in strings:
        wrong = outputs(parameters, string, normalise=normalise) * rule(string) <= 0
        unequal = np.count_nonzero(wrong[1:] != wrong[:-1])
        equal = len(string) - 1 - unequal
        sizes.append((1 + equal / (unequal + 1)) / len(string))
    return np.mean(sizes)


def gradient(function, parameters, step=1e-6):
    """Central differences of a function of the parameters, as one row."""
    row = np.concatenate([np.ravel(part) for part in parameters])
    shapes = [np.shape(part) for part in parameters]

    def at(values):
        parts, start = [], 0
        for shape in shapes:
            size = int(np.prod(shape))
            parts.append(values[start : start + size].reshape(shape))
            start += size
        return function(parts)

    slopes = []
    for index in range(row.size):
        ahead, behind = row.copy(), row.copy()
        ahead[index] += step
        behind[index] -= step
        slopes.append((at(ahead) - at(behind)) / (2 * step))
    return np.array(slopes)


def random_parameters(seed, bond, scale=1.3):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(2, bond, bond)),
        rng.normal(size=(2, bond, bond)),
        np.array(scale),
        unit(rng.normal(size=bond)),
        unit(rng.normal(size=bond)),
    ]


def attention_of(parameters):
    return Attention(parameters[0], left=parameters[3], right=parameters[4])
