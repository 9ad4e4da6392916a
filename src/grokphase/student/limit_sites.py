r"""Inputs of bond-2 attention among which a counterexample is if there is one: a few long words for each attention.

Object.  With an invariant cone the extreme contexts are those behind endless words; their finite repetitions come
as close as one likes, so if a corner is clearly wrong, one of the inputs made of them is.  Without a cone some
words have contexts that no open half plane holds; behind any K letters one of them is wrong for every
classifier.  Both give a *pool*: a list of left words and one of right words, all pairs of which are inputs.

Conventions: words from the far end to the cell, the right side being the left side of the mirrored attention.
The contexts are those of the finite words, to rounding.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.student.limit_cones import CANDIDATES, unpointed_words
from grokphase.student.limit_corners import PlanarSide
from grokphase.student.limit_inputs import Letters, Side, letters_of, targets

__all__ = ["LONGEST_WORD", "Pool", "pools_of"]

LONGEST_WORD = 4096
"""Repetitions of a word in a constructed counterexample."""

_SEEDS: tuple[Letters, ...] = ((), (1,), (0,))  # before the repetitions, where the boundary vector is no help


@dataclass(frozen=True)
class _Words:
    """Words of one side: their contexts (n, 2), lengths (n,) and branches (n,), and what they are made of."""

    contexts: FloatArray
    lengths: NDArray[np.int64]
    branches: NDArray[np.int64]
    parts: list[tuple[Letters, Letters, int, Letters]]
    """(seed, repeated word, repetitions, letters behind)."""

    def word(self, number: int) -> Letters:
        seed, repeated, times, behind = self.parts[number]
        return (*seed, *(repeated * times), *behind)


@dataclass(frozen=True)
class Pool:
    """All pairs of left and right words as inputs; ``target`` (n_left, 2, n_right) is 0 where they are too short."""

    left: _Words
    right: _Words
    target: FloatArray

    def scores(self, classifier: FloatArray) -> FloatArray:
        """Scores times output of all sites for classifiers (n, 2, 2, 2); infinite where an input is too short."""
        target = self.target.transpose(1, 0, 2)
        scores = self.left.contexts @ classifier @ self.right.contexts.T * target  # (n, letter, left, right)
        scores[:, target == 0] = np.inf
        return scores.reshape(len(classifier), -1)

    def shortest(self, wrong: NDArray[np.bool_]) -> int | None:
        """The shortest of the sites marked, if any is."""
        lengths = np.add.outer(self.left.lengths, self.right.lengths)
        total = np.where(wrong, np.broadcast_to(lengths, (2, *lengths.shape)).reshape(-1), np.inf)
        return int(total.argmin()) if wrong.any() else None

    def site(self, where: int) -> tuple[Letters, int, Letters]:
        """Left word, letter and right word of a site."""
        shape = (2, len(self.left.contexts), len(self.right.contexts))
        letter, i, j = (int(n) for n in np.unravel_index(where, shape))
        return self.left.word(i), letter, self.right.word(j)


def pools_of(sides: tuple[PlanarSide, PlanarSide], rule: CellularAutomaton) -> list[Pool]:
    """The pools of one attention: one with an invariant cone, up to two without."""
    reach = rule.reach
    if all(side.reachable.status == 1 for side in sides):
        return [_pool(_corner_words(sides[0], reach), _corner_words(sides[1], reach), rule)]
    pools = []
    for which, planar in enumerate(sides):
        found = unpointed_words(planar.side.tensors, planar.side.start)
        if found is None:
            continue
        ends = [letters_of(code, reach) for code in range(2**reach)]
        near = _words(planar.side, [((), (), 0, (*word, *end)) for word in found for end in ends], reach)
        far_words = [letters_of(code, 2 * reach) for code in range(4**reach)]
        far = _words(sides[1 - which].side, [((), (), 0, word) for word in far_words], reach)
        pools.append(_pool(near, far, rule) if which == 0 else _pool(far, near, rule))
    return pools


def _pool(left: _Words, right: _Words, rule: CellularAutomaton) -> Pool:
    target = targets(rule)[left.branches][:, :, right.branches]
    long_enough = left.lengths[:, None] + right.lengths[None, :] >= 2 * rule.reach
    return Pool(left, right, target * long_enough[:, None, :])


def _corner_words(side: PlanarSide, reach: int) -> _Words:
    """Words that end like the extreme rays of every branch, and those too short to have a branch."""
    ends = [letters_of(code, reach) for code in range(2**reach)]
    parts: list[tuple[Letters, Letters, int, Letters]] = [
        ((), (), 0, letters_of(code, count)) for count in range(reach) for code in range(2**count)
    ]
    for source in side.reachable.source:
        word, behind = CANDIDATES[int(source)]
        if word is None:
            parts += [((), (), 0, (*behind, *end)) for end in ends]
            continue
        repeats = [2**power for power in range(LONGEST_WORD.bit_length())]
        parts += [(seed, word, times, (*behind, *end)) for seed in _SEEDS for times in repeats for end in ends]
    return _words(side.side, parts, reach)


def _words(side: Side, parts: list[tuple[Letters, Letters, int, Letters]], reach: int) -> _Words:
    contexts = []
    powers: dict[tuple[Letters, int], FloatArray] = {}
    for seed, word, times, behind in parts:
        row = _behind(side, side.start, seed)
        if times:
            if (word, times) not in powers:
                powers[word, times] = _power(side.tensors, word, times, powers)
            row = row @ powers[word, times]
        contexts.append(_behind(side, row, behind))
    nearest = [(*seed, *(word * min(times, reach + 1)), *behind)[::-1][:reach] for seed, word, times, behind in parts]
    return _Words(
        np.array(contexts),
        np.array([len(seed) + len(word) * times + len(behind) for seed, word, times, behind in parts]),
        np.array([sum(bit << k for k, bit in enumerate(letters)) for letters in nearest]),
        parts,
    )


def _power(tensors: FloatArray, word: Letters, times: int, known: dict[tuple[Letters, int], FloatArray]) -> FloatArray:
    """Matrix of a word repeated 2^k times, of norm 1, by squaring the last one."""
    if times > 1 and (word, times // 2) in known:
        matrix = known[word, times // 2] @ known[word, times // 2]
    else:
        matrix = np.eye(2)
        for letter in word * times:
            matrix = matrix @ tensors[letter]
    return matrix / np.linalg.norm(matrix)


def _behind(side: Side, row: FloatArray, word: Letters) -> FloatArray:
    """Context behind a word, of unit norm."""
    for letter in word:
        row = row @ side.tensors[letter]
    return row / np.linalg.norm(row)
