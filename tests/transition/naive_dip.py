"""The dip from its definition: a linear program for every position of the mode."""

from itertools import pairwise

import numpy as np
from scipy.optimize import linprog


def naive_dip(values):
    """Least d for which some unimodal distribution function lies within d of the empirical one, everywhere.

    Modes are tried at every value and at three places of every gap.  Unknown: U at all values up to the mode
    (its limit from the left there), U from the mode on (its limit from the right), and d.
    """
    x, counts = np.unique(np.asarray(values, dtype=float), return_counts=True)
    steps = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    gaps = [a + (b - a) * share for a, b in pairwise(x) for share in (0.001, 0.5, 0.999)]
    return min(_least_distance(x, steps, mode) for mode in (*x, *gaps))


def _least_distance(x, steps, mode):
    knots = np.unique(np.append(x, mode))
    k = int(np.searchsorted(knots, mode))
    before, upto = (steps[np.searchsorted(x, knots, side=side)] for side in ("left", "right"))
    left, right = knots[: k + 1], knots[k:]
    size = left.size + right.size + 1
    rows, limits = [], []

    def at_most(terms, limit):
        row = np.zeros(size)
        for index, factor in terms:
            row[index] += factor
        rows.append(row)
        limits.append(limit)

    def near(index, target):
        at_most([(index, 1), (-1, -1)], target)
        at_most([(index, -1), (-1, -1)], -target)

    for i in range(left.size):
        near(i, before[i])
        if i < k:
            near(i, upto[i])
    for i in range(right.size):
        near(left.size + i, upto[k + i])
        if i > 0:
            near(left.size + i, before[k + i])
    at_most([(left.size - 1, 1), (left.size, -1)], 0)  # a jump at the mode goes up
    for part, offset, convex in ((left, 0, 1), (right, left.size, -1)):
        for i in range(part.size - 1):
            at_most([(offset + i, 1), (offset + i + 1, -1)], 0)
        for i in range(part.size - 2):
            first, second = 1 / (part[i + 1] - part[i]), 1 / (part[i + 2] - part[i + 1])
            bend = [(offset + i, -first), (offset + i + 1, first + second), (offset + i + 2, -second)]
            at_most([(index, convex * factor) for index, factor in bend], 0)
    cost = np.zeros(size)
    cost[-1] = 1
    solution = linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * size)
    return solution.fun if solution.status == 0 else np.inf
