r"""Contexts of any bond: balls that provably hold all contexts behind a word.

Object.  A *node* is a word of n letters, the nearest n of a cell.  Its ball is a cap on the unit sphere around
the context c = start·A_word of the input that has just these letters, and it holds the contexts of all inputs
that have these and any letters farther away.

One map.  Let l be within the angle arctan t of c, and f ∝ cA.  Then lA is within the angle arctan t' of f with

    t' = N t / (g − h t),     g = |cA|,   h = |Q_c A f|,   N = ‖Q_c A Q_f‖_F,      Q_v = 1 − v vᵀ,

as long as g > h t: exact in the direction of f, and a contraction as soon as the product of several matrices
is close to rank one.

The coarse cover.  For words of n letters look for radii such that m more letters map every ball into the balls
of the words one then has.  Contexts of all longer inputs lie in these balls then, by induction; inputs of n to
n + m − 1 letters are looked at one by one.  The smallest n, m for which such radii exist are taken.

Refinement.  A node of n + k letters is the image of a coarse ball under the matrix of its k nearest letters.
Nodes are made where they are needed; a child has one more letter at the far end.

Conventions: one side at a time (right contexts are left contexts of the mirrored attention); words in binary, the
nearest letter least significant.

Rounding: every ball is widened by the error of its centre; ``noise`` adds a few units in the last place for
every product, times what the product shrinks.  Short inputs from a stationary boundary vector count as
padded with −1 (off by ``STATIONARY`` at most, which every ball is wider than).

References: Žunkovič & Ilievski 2024, Sec. 4.3.1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.student.limit_inputs import STATIONARY, Letters, Side, letters_of

__all__ = ["Cover", "Nodes", "find_cover"]

IntArray = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
_MAX_MAPS = 2**13  # words of the coarse cover and the letters behind them
_MAX_NUMBERS = 2**24  # numbers in their matrices
_PASSES = 300
MAX_LETTERS = 60
"""Longest word of a node: its number must fit into 64 bits."""


@dataclass(frozen=True)
class Cover:
    """The coarse cover of one side: words of ``letters`` letters."""

    side: Side
    letters: int
    centres: FloatArray
    """(2**letters, d)"""
    tangents: FloatArray
    """Tangents of the radii, (2**letters,)."""
    noise: float
    """Relative rounding error of one product."""


def find_cover(side: Side) -> Cover | None:
    """The coarsest cover that proves itself, or None."""
    bond = side.start.shape[-1]
    longest = 1
    while 2 ** (longest + 1) <= _MAX_MAPS and 2 ** (longest + 1) * bond**2 <= _MAX_NUMBERS:
        longest += 1
    rows = side.rows(longest)
    words = [np.eye(bond)[None]]
    for total in range(1, longest + 1):
        words.append(_lengthened(words[-1], side.tensors))
        # More steps than letters: contraction is what it takes.
        for letters in sorted({total // 2, total // 3, total // 4, min(total - 1, 1)}):
            cover = _attempt(side, rows, words[total - letters], letters, total - letters)
            if cover is not None:
                return cover
    return None


def _lengthened(words: FloatArray, tensors: FloatArray) -> FloatArray:
    """Products behind words of one more letter, at the near end, of Frobenius norm 1 (or 0)."""
    product = (words[:, None] @ tensors[None]).reshape(-1, *tensors.shape[1:])
    norm = np.linalg.norm(product, axis=(-2, -1), keepdims=True)
    return product / np.where(norm > 0, norm, 1.0)


def _attempt(side: Side, rows: list[FloatArray], words: FloatArray, letters: int, steps: int) -> Cover | None:
    """Radii for words of so many letters that as many steps map into themselves."""
    centres = rows[letters]
    last = 2**letters - 1
    target = ((np.arange(len(centres))[:, None] << steps) | np.arange(len(words))[None, :]) & last
    image = np.einsum("jp,wpq->jwq", centres, words)
    gain = np.linalg.norm(image, axis=-1)
    noise = _product_noise(side, rows)
    rounding = noise * steps / np.where(gain > 0, gain, np.nan)
    if not np.isfinite(rounding).all() or rounding.max() > 1e-3:
        return None
    image = image / gain[..., None]
    drag, stretch = _derivative(centres[:, None], words[None], image)
    distance = _angle(image, centres[target]) + rounding
    radius = np.full(len(centres), 4 * STATIONARY)
    for between in range(1, steps):
        longer = rows[letters + between]
        np.maximum.at(radius, np.arange(len(longer)) & last, _angle(longer, centres[np.arange(len(longer)) & last]))
    for _ in range(_PASSES):
        if radius.max() > 1.2:
            return None
        tangent = np.tan(radius)[:, None]
        room = gain - drag * tangent
        if (room <= 1e-3 * gain).any():
            return None
        needed = np.zeros_like(radius)
        np.maximum.at(needed, target, distance + np.arctan(stretch * tangent / room) * (1 + 8 * _EPS))
        if (needed <= radius).all():
            return Cover(side, letters, centres, np.tan(radius), noise)
        radius = np.maximum(radius, needed * (1 + 1e-6) + 1e-300)
    return None


def _derivative(centre: FloatArray, matrix: FloatArray, image: FloatArray) -> tuple[FloatArray, FloatArray]:
    """H and N of the module's header for unit centres and images."""
    along = (matrix @ image[..., None])[..., 0]  # A f
    inner = (centre * along).sum(axis=-1)
    tangential = along - centre * inner[..., None]
    pulled = (centre[..., None, :] @ matrix)[..., 0, :]
    rest = matrix - centre[..., :, None] * pulled[..., None, :] - tangential[..., :, None] * image[..., None, :]
    return np.linalg.norm(tangential, axis=-1), np.linalg.norm(rest, axis=(-2, -1))


def _product_noise(side: Side, rows: list[FloatArray]) -> float:
    """Relative error of the product of a context, or of a word's matrix, with the matrix of one letter."""
    contexts = np.concatenate(rows[:8])
    size = np.linalg.norm(side.tensors, axis=(-2, -1))
    shrink = max(
        float(n / np.linalg.norm(contexts @ m, axis=-1).min()) for n, m in zip(size, side.tensors, strict=True)
    )
    return 4 * side.start.shape[-1] * _EPS * shrink


def _angle(one: FloatArray, other: FloatArray) -> FloatArray:
    """Angle between unit vectors, accurate when it is small."""
    return 2 * np.arcsin(np.minimum(np.linalg.norm(one - other, axis=-1) / 2, 1.0))


class Nodes:
    """Nodes of one side, made on demand; arrays over all nodes made so far."""

    def __init__(self, cover: Cover) -> None:
        self.cover = cover
        self.stationary = bool(cover.side.stationary)
        bond, count = cover.side.start.shape[-1], len(cover.centres)
        self._coarse = np.arange(count)
        self._matrix = np.broadcast_to(np.eye(bond) / np.sqrt(bond), (count, bond, bond)).copy()
        self._noise = np.zeros(count)
        self._children = np.full((count, 2), -1)
        self._point = np.full(count, -1)
        self.centre = cover.centres
        self.tangent = cover.tangents
        self.code = np.arange(count)
        self.length = np.full(count, cover.letters)

    def __len__(self) -> int:
        return len(self.code)

    def level(self, length: int) -> IntArray:
        """Nodes of all words of so many letters (at least the coarse cover's), ordered by number."""
        nodes = np.arange(len(self.cover.centres))
        for _ in range(length - self.cover.letters):
            nodes = self.children(nodes).T.reshape(-1)  # the new letter is the most significant
        return nodes

    def word(self, node: int) -> Letters:
        """The word of a node; the context of an input that has just these letters is its centre."""
        return letters_of(int(self.code[node]), int(self.length[node]))

    def children(self, nodes: IntArray) -> IntArray:
        """The two nodes with one more letter at the far end, shape (n, 2)."""
        fresh = np.unique(nodes[self._children[nodes, 0] < 0])
        if fresh.size:
            for letter in range(2):
                self._children[fresh, letter] = np.arange(len(self), len(self) + fresh.size)
                self._grow(fresh, letter)
        return self._children[nodes]

    def points(self, nodes: IntArray) -> IntArray:
        """Nodes for the one input whose letters end with the word: the centre, without radius, shape (n,)."""
        fresh = np.unique(nodes[self._point[nodes] < 0])
        if fresh.size:
            self._point[fresh] = np.arange(len(self), len(self) + fresh.size)
            self._append(
                self._coarse[fresh],
                self._matrix[fresh],
                self._noise[fresh],
                self.centre[fresh],
                np.tan(self._noise[fresh] + self.cover.noise * (1 + self.length[fresh])),
                self.code[fresh],
                self.length[fresh],
            )
        return self._point[nodes]

    def short_points(self, letters: int) -> IntArray:
        """Nodes for the inputs with exactly so many letters, fewer than those of the coarse cover."""
        rows = self.cover.side.rows(letters)[letters]
        first, count = len(self), len(rows)
        self._append(
            np.full(count, -1),
            np.zeros((count, *self._matrix.shape[1:])),
            np.zeros(count),
            rows,
            np.full(count, self.cover.noise * (1 + letters)),
            np.arange(count),
            np.full(count, letters),
        )
        return np.arange(first, first + count)

    def refinable(self, nodes: IntArray) -> NDArray[np.bool_]:
        """Whether a longer word makes the ball smaller: not at the level of rounding, nor for a single input."""
        return (self.tangent[nodes] > 4 * self._noise[nodes] + 8 * STATIONARY) & (self.length[nodes] < MAX_LETTERS)

    def _grow(self, parents: IntArray, letter: int) -> None:
        """Append the children: the coarse word moves on by a letter and hands its nearest one to the matrix."""
        letters, tensors = self.cover.letters, self.cover.side.tensors
        old = self._coarse[parents]
        if letters:
            coarse, handed = (letter << (letters - 1)) | (old >> 1), old & 1
        else:
            coarse, handed = old, np.full(len(old), letter)
        matrix = tensors[handed] @ self._matrix[parents]
        shrunk = np.linalg.norm(matrix, axis=(-2, -1))
        matrix = matrix / shrunk[:, None, None]
        base, tangent = self.cover.centres[coarse], self.cover.tangents[coarse]
        image = (base[:, None, :] @ matrix)[:, 0]
        gain = np.linalg.norm(image, axis=-1)
        image = image / gain[:, None]
        drag, stretch = _derivative(base, matrix, image)
        room = gain - drag * tangent
        size = np.linalg.norm(tensors[handed], axis=(-2, -1))
        noise = self._noise[parents] + 4 * base.shape[-1] * _EPS * size / (shrunk * np.maximum(room, 1e-300))
        tangent = np.where(room > 0, stretch * tangent / np.where(room > 0, room, 1.0) + noise + STATIONARY, np.inf)
        self._append(
            coarse,
            matrix,
            noise,
            image,
            np.minimum(tangent, 1e6),
            self.code[parents] | (letter << self.length[parents]),
            self.length[parents] + 1,
        )

    def _append(
        self,
        coarse: IntArray,
        matrix: FloatArray,
        noise: FloatArray,
        centre: FloatArray,
        tangent: FloatArray,
        code: IntArray,
        length: IntArray,
    ) -> None:
        self._coarse = np.concatenate([self._coarse, coarse])
        self._matrix = np.concatenate([self._matrix, matrix])
        self._noise = np.concatenate([self._noise, noise])
        self._children = np.concatenate([self._children, np.full((len(code), 2), -1)])
        self._point = np.concatenate([self._point, np.full(len(code), -1)])
        self.centre = np.concatenate([self.centre, centre])
        self.tangent = np.concatenate([self.tangent, tangent])
        self.code = np.concatenate([self.code, code])
        self.length = np.concatenate([self.length, length])
