r"""Attention without an invariant cone: words that show it, and the theorem about its bulk error.

Object.  Contexts l₁, l₂, ... with Σ c_i l_i = 0, c_i > 0, lie in no open half space: no pointed convex cone
holds them, and since Σ c_i (l_i B_x r) = 0, every classifier has the wrong sign for one of them.

Where no pointed cone is invariant, the stationary measure on the unit sphere is unique and hence symmetric under
l → −l, provided the matrices leave no subspace invariant (nor exchange several) and some product contracts
(a simple dominant eigenvalue).  Then the sign of a score is a fair coin.

The combination is found by non-negative least squares among contexts behind short words, and behind repetitions
of those words whose leading eigenvalue is not real and positive (there the context turns around).  Not finding
one proves nothing.

References: Guivarc'h & Le Page (2016), Sec. 2; Burnside's theorem for irreducibility.
"""

from itertools import product

import numpy as np
from scipy.optimize import nnls

from grokphase._checks import FloatArray
from grokphase.student.limit_inputs import Letters, Side, letters_of

__all__ = ["mixes", "unpointed_contexts"]

_LETTERS = 8  # of the words whose contexts are tried
_TURNING = 5  # letters of the words that are repeated
_REPEATS = 200
_ZERO = 1e-11


def unpointed_contexts(sides: tuple[Side, Side]) -> tuple[int, list[Letters]] | None:
    """A side and words whose contexts have a vanishing positive combination, if one is found."""
    for which, side in enumerate(sides):
        words = [letters_of(code, n) for n in range(_LETTERS + 1) for code in range(2**n)]
        contexts = [row for rows in side.rows(_LETTERS) for row in rows]
        for word in _turning_words(side.tensors)[:1]:  # one is enough, and the shortest is best
            words += [word * repeats for repeats in range(1, _REPEATS)]
            contexts += _repeated(side, word)
        equations = np.vstack([np.array(contexts).T, np.ones(len(contexts))])
        share, residual = nnls(equations, np.append(np.zeros(len(equations) - 1), 1.0))
        if residual < _ZERO:
            return which, [word for word, part in zip(words, share, strict=True) if part > 0]
    return None


def _turning_words(tensors: FloatArray) -> list[Letters]:
    """Words whose leading eigenvalue is clearly not real and positive."""
    found = []
    for length in range(1, _TURNING + 1):
        for word in product(range(2), repeat=length):
            values = np.linalg.eigvals(_matrix(tensors, word))
            size = np.abs(values).max()
            positive = values[(values.imag == 0) & (values.real > 0)].real.max(initial=0.0)
            if positive < (1 - 1e-9) * size:
                found.append(word)
    return found


def _repeated(side: Side, word: Letters) -> list[FloatArray]:
    matrix, row, rows = _matrix(side.tensors, word), side.start, []
    for _ in range(1, _REPEATS):
        row = row @ matrix
        row = row / np.linalg.norm(row)
        rows.append(row)
    return rows


def _matrix(tensors: FloatArray, word: Letters) -> FloatArray:
    """Product of a word's matrices, of norm 1 (or 0)."""
    matrix = np.eye(tensors.shape[-1])
    for letter in word:
        matrix = matrix @ tensors[letter]
        matrix = matrix / (np.linalg.norm(matrix) or 1.0)
    return matrix


def mixes(tensors: FloatArray) -> bool:
    """Whether the theorem of the module's header applies, as far as short words tell.

    Irreducible are the squares of all words of up to three letters, so that no pair of subspaces is exchanged
    either; some word of up to six letters has a simple dominant eigenvalue.
    """
    words = [word for length in range(1, 4) for word in product(range(2), repeat=length)]
    squares = [matrix @ matrix for matrix in (_matrix(tensors, word) for word in words)]
    return _irreducible(squares) and _contracting(tensors)


def _irreducible(generators: list[FloatArray]) -> bool:
    """Burnside: the algebra that the matrices generate is that of all matrices."""
    bond = generators[0].shape[-1]
    basis = np.eye(bond).reshape(1, -1) / np.sqrt(bond)
    while True:
        size = len(basis)
        grown = [(element.reshape(bond, bond) @ matrix).reshape(-1) for element in basis for matrix in generators]
        stacked = np.vstack([basis, *(v[None] / (np.linalg.norm(v) or 1.0) for v in grown)])
        _, weights, directions = np.linalg.svd(stacked, full_matrices=False)
        basis = directions[weights > 1e-9 * weights[0]]
        if len(basis) == bond**2:
            return True
        if len(basis) == size:
            return False


def _contracting(tensors: FloatArray) -> bool:
    for length in range(1, 7):
        for word in product(range(2), repeat=length):
            sizes = np.sort(np.abs(np.linalg.eigvals(_matrix(tensors, word))))
            if len(sizes) == 1 or sizes[-1] > (1 + 1e-6) * sizes[-2]:
                return True
    return False
