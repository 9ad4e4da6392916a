"""A slow, readable twin of the attention, cell by cell, and dense contractions of the full tensors."""

import numpy as np

from grokphase.student import Attention


def matrices(attention, x):
    return [attention.tensors[(spin + 1) // 2] for spin in x]


def naive_scores(attention, x, classifier):
    """Eqs. 60-63 cell by cell, contexts normalised once, at the end of their product."""
    scores = []
    for i, spin in enumerate(x):
        left, right = attention.left, attention.right
        for matrix in matrices(attention, x[:i]):
            left = left @ matrix
        for matrix in reversed(matrices(attention, x[i + 1 :])):
            right = matrix @ right
        left, right = left / np.linalg.norm(left), right / np.linalg.norm(right)
        product = left @ classifier[(spin + 1) // 2] @ right
        scores.append(product if attention.boundary == "open" else np.trace(product))
    return np.array(scores)


def dense_chain(tensors, cells):
    """All products of ``cells`` matrices: shape (2,)*cells + (bond, bond), by one einsum."""
    operands = []
    for cell in range(cells):
        operands += [tensors, [cell, cells + cell, cells + cell + 1]]
    bond = tensors.shape[-1]
    operands += [np.eye(bond), [cells + cells, cells + cells + 1]]
    return np.einsum(*operands, [*range(cells), cells, 2 * cells + 1], optimize=False)


def dense_scores(attention, length, classifier):
    """Scores of all inputs of a length from the full tensors, shape (2,)*length + (length,)."""
    spins = list(range(length))
    trace, near, far = range(length, length + 3)
    scores = []
    for cell in range(length):
        before = dense_chain(attention.tensors, cell)
        after = dense_chain(attention.tensors, length - 1 - cell)
        if attention.boundary == "open":
            before = np.einsum("a,...ab->...b", attention.left, before)[..., None, :]
            after = np.einsum("...ab,b->...a", after, attention.right)[..., None]
        before = before / np.sqrt((before**2).sum(axis=(-1, -2), keepdims=True))
        after = after / np.sqrt((after**2).sum(axis=(-1, -2), keepdims=True))
        scores.append(
            np.einsum(
                *(before, [*spins[:cell], trace, near]),
                *(classifier, [cell, near, far]),
                *(after, [*spins[cell + 1 :], far, trace]),
                spins,
            )
        )
    return np.stack(scores, axis=-1)


def random_attention(seed, bond, boundary="open", batch=()):
    """Gaussian tensors; random boundary vectors, so that no complex leading pair gets in the way."""
    rng = np.random.default_rng(seed)
    tensors = rng.normal(size=(*batch, 2, bond, bond))
    if boundary == "closed":
        return Attention(tensors, boundary="closed")
    left, right = rng.normal(size=(2, *batch, bond))
    return Attention(tensors, left=left, right=right)


def random_classifier(seed, bond, batch=()):
    return np.random.default_rng([seed, 1]).normal(size=(*batch, 2, bond, bond))
