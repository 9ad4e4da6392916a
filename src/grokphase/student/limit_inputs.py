r"""Finite inputs around one cell: their contexts, the rule's answer, counterexamples and the exact error.

Object.  A *site* is a cell with the letters on its left and on its right; each letter is 0 (spin −1) or 1.  Both
sides are treated alike: words run from the far end to the cell, so the word of the right side is the input
read backwards, and its contexts are left contexts of the mirrored attention.  A word is numbered in binary,
the nearest letter least significant; a branch is a word of the K nearest letters, those beyond the end of the
input being 0.  The rule becomes a table ``targets[left branch, letter, right branch]`` of ±1.

Everything is exact up to rounding.  A site is a counterexample if the attention itself, scoring the whole
input, gives its cell the wrong sign, by more than rounding, or exactly zero.

References: Žunkovič & Ilievski 2024, Eqs. 51, 58-67.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.student.attention import Attention
from grokphase.student.contexts import mirrored, scaled
from grokphase.student.limit_results import Certificate, Counterexample
from grokphase.student.prefix_tree import prefix_rows

__all__ = [
    "STATIONARY",
    "Letters",
    "Side",
    "backwards",
    "both_sides",
    "counterexample_among",
    "exact_error",
    "letters_of",
    "refuted",
    "short_lengths",
    "shortest_counterexample",
    "spins_of",
    "targets",
    "verified",
]

Letters = tuple[int, ...]

_EPS = float(np.finfo(np.float64).eps)
STATIONARY = 32 * _EPS
"""A boundary vector this close to its own image counts as the context of a row of −1."""
_SHORT = 7  # lengths of which all inputs are looked at first
_BLOCK = 2**21  # scores held at a time


@dataclass(frozen=True)
class Side:
    """Contexts of one side: tensors (*T, 2, d, d) that act on rows, and the boundary vector (*T, d)."""

    tensors: FloatArray
    start: FloatArray

    @property
    def stationary(self) -> NDArray[np.bool_]:
        """Whether a letter 0 leaves the boundary vector as it is: then an input may be padded with −1."""
        image = (self.start[..., None, :] @ self.tensors[..., 0, :, :])[..., 0, :]
        norm = np.linalg.norm(image, axis=-1, keepdims=True)
        change = np.abs(image / np.where(norm > 0, norm, 1.0) - self.start).max(axis=-1)
        return np.asarray(change < STATIONARY)

    def rows(self, depth: int) -> list[FloatArray]:
        """Contexts behind all words of 0, 1, ..., ``depth`` letters: element n has shape (*T, 2**n, d)."""
        return [rows[..., 0, :] for rows in prefix_rows(self.tensors, self.start[..., None, :], depth)]

    def context(self, word: Letters) -> FloatArray:
        """Context (*T, d) behind one word."""
        row = self.start
        for letter in word:
            row = (row[..., None, :] @ self.tensors[..., letter, :, :])[..., 0, :]
            norm = np.linalg.norm(row, axis=-1, keepdims=True)
            row = row / np.where(norm > 0, norm, 1.0)
        return row


def both_sides(attention: Attention) -> tuple[Side, Side]:
    """Left side, and right side as the left side of the mirrored attention."""
    tensors = scaled(attention.tensors)
    return Side(tensors, attention.left), Side(mirrored(tensors), attention.right)


def targets(rule: CellularAutomaton) -> FloatArray:
    """The rule's outputs by left branch, own letter and right branch, shape (2**K, 2, 2**K)."""
    branches = 2**rule.reach
    return rule.table.reshape(branches, 2, branches).astype(np.float64)[:, :, backwards(rule.reach)]


def backwards(length: int) -> NDArray[np.int64]:
    """The numbers of all words of a length, read from the other end."""
    codes = np.arange(2**length)
    read = np.zeros_like(codes)
    for bit in range(length):
        read |= ((codes >> bit) & 1) << (length - 1 - bit)
    return read


def spins_of(letters: Letters) -> tuple[int, ...]:
    """Letters as spins −1/+1."""
    return tuple(2 * letter - 1 for letter in letters)


def letters_of(code: int, length: int) -> Letters:
    """The word with that number, far letter first."""
    return tuple((code >> bit) & 1 for bit in range(length - 1, -1, -1))


def verified(
    attention: Attention, rule: CellularAutomaton, classifier: FloatArray, left: Letters, letter: int, right: Letters
) -> Counterexample | None:
    """The site as an input, if the attention gets its cell wrong; both words run from the far end to the cell."""
    spins = (2 * np.array([*left, letter, *right[::-1]]) - 1).astype(np.int8)
    score = float(attention.scores(spins, classifier)[len(left)]) * int(rule(spins)[len(left)])
    rounding = 64 * attention.bond * _EPS * float(np.linalg.norm(classifier[letter]))
    return (spins, len(left)) if score == 0 or score < -rounding else None


def refuted(
    attention: Attention, rule: CellularAutomaton, classifier: FloatArray, found: Counterexample
) -> Certificate:
    """The certificate that a counterexample is."""
    spins, cell = found
    norm = float(np.linalg.norm(classifier)) or 1.0
    score = float(attention.scores(spins, classifier)[cell]) * int(rule(spins)[cell])
    return Certificate(False, score / norm, found, f"an input of length {len(spins)} is wrong at position {cell}")


def counterexample_among(
    attention: Attention,
    rule: CellularAutomaton,
    classifier: FloatArray,
    sides: tuple[Side, Side],
    which: int,
    words: list[Letters],
    shortest: int,
) -> Counterexample | None:
    """The most wrong of the inputs in which one of the words, K letters and 2K or more letters surround a cell.

    ``which`` is the side (0 left, 1 right) of the words; ``shortest`` is the least length of an input, from 2K+1.
    """
    reach, near, far = rule.reach, sides[which], sides[1 - which]
    forms = classifier if which == 0 else np.swapaxes(classifier, -1, -2)
    answers = targets(rule) if which == 0 else targets(rule).transpose(2, 1, 0)
    away = max(2 * reach, shortest - 1 - reach)
    others = far.rows(away)[away]
    sites: list[tuple[float, Letters, int, Letters]] = []
    for branch in range(2**reach):
        ends = letters_of(branch, reach)
        contexts = np.array([near.context((*word, *ends)) for word in words])
        target = answers[branch][:, np.arange(len(others)) & (2**reach - 1)]  # (letter, word)
        scores = (contexts @ forms @ others.T) * target[:, None, :]
        letter, word, rest = (int(n) for n in np.unravel_index(int(scores.argmin()), scores.shape))
        sites.append((float(scores[letter, word, rest]), (*words[word], *ends), letter, letters_of(rest, away)))
    for _, one, letter, other in sorted(sites):
        left, right = (one, other) if which == 0 else (other, one)
        found = verified(attention, rule, classifier, left, letter, right)
        if found is not None:
            return found
    return None


def short_lengths(shortest: int) -> range:
    """The lengths among which a counterexample is a shortest one."""
    return range(shortest, shortest + _SHORT)


def shortest_counterexample(
    attention: Attention, rule: CellularAutomaton, classifier: FloatArray, lengths: range
) -> Counterexample | None:
    """A shortest counterexample among all inputs of some lengths, from 2K+1 on."""
    reach, sides, table = rule.reach, both_sides(attention), targets(rule)
    left, right = (side.rows(lengths.stop - 2) for side in sides)
    mask = 2**reach - 1
    for others in range(lengths.start - 1, lengths.stop - 1):
        worst: tuple[float, Letters, int, Letters] | None = None
        for count in range(others + 1):
            lefts, rights = left[count], right[others - count]
            scores = lefts @ classifier @ rights.T  # (letter, left word, right word)
            codes = np.arange(len(lefts)) & mask, np.arange(len(rights)) & mask
            scores *= table[codes[0][:, None], :, codes[1][None, :]].transpose(2, 0, 1)
            where = np.unravel_index(int(scores.argmin()), scores.shape)
            lowest = float(scores[where])
            if lowest <= 0 and (worst is None or lowest < worst[0]):
                words = letters_of(int(where[1]), count), letters_of(int(where[2]), others - count)
                worst = lowest, words[0], int(where[0]), words[1]
        if worst is not None:
            found = verified(attention, rule, classifier, *worst[1:])
            if found is not None:
                return found
    return None


def exact_error(attention: Attention, rule: CellularAutomaton, classifier: FloatArray, length: int) -> float:
    """Fraction of wrong cells over all inputs of a length; a score of zero is wrong."""
    left, right = (side.rows(length - 1) for side in both_sides(attention))
    table, mask = targets(rule), 2**rule.reach - 1
    wrong = 0
    for cell in range(length):
        lefts, rights = left[cell], right[length - 1 - cell]
        far = classifier @ rights.T  # (letter, d, right word)
        block = max(1, _BLOCK // (2 * len(rights)))
        for begin in range(0, len(lefts), block):
            rows = lefts[begin : begin + block]
            codes = np.arange(begin, begin + len(rows)) & mask, np.arange(len(rights)) & mask
            for letter in range(2):
                answer = table[:, letter][codes[0][:, None], codes[1][None, :]]
                wrong += int(np.count_nonzero(answer * (rows @ far[letter]) <= 0))
    return wrong / (length * 2**length)
