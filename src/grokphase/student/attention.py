r"""Tensor-network attention with fixed tensors: contexts, features and scores of the student.

Object (Eqs. 58-67).  The attention maps every cell of an input to a feature tensor

    z_i = φ(x_i) ⊗ l_i ⊗ r_i,        ŷ_i = z_i · B = l_i B_{x_i} r_i,        prediction sgn ŷ_i,

where l_i ∝ left A_{x_1} ⋯ A_{x_{i−1}} and r_i ∝ A_{x_{i+1}} ⋯ A_{x_M} right are unit vectors, the *contexts*.
The student with a fixed attention is a perceptron in 2·bond² dimensions with the weights B, the *classifier*.

Conventions.

- Tensors and classifiers have shape (2, bond, bond); the first index is the spin, 0 for −1 and 1 for +1; then
  the left bond and the right bond.  Features are flattened in this order, so ``scores = features ·
  classifier.ravel()``.
- Open boundary: ``left`` and ``right`` are vectors.  By default they are the leading eigenvectors of
  ``tensors[0]``, the contexts of an endless row of −1 (up to sign), which is what an open rule has outside
  its input.
- Closed boundary: contexts are matrices of unit Frobenius norm, H^L(1) = H^R(M) = 1, and
  ŷ_i = Tr(H^L B_{x_i} H^R), so z_i = φ(x_i) ⊗ (H^R H^L)ᵀ.
- The paper normalises the open left context as a matrix too (Eq. 60 starts at the identity and the left
  vector sits in G).  We normalise the vector it acts on, as Sec. 4.3.1 does: every context lies on the unit
  sphere.  Both differ by a positive factor.

Gauge.  A → XAX⁻¹, left → left X⁻¹, right → X right, B → XBX⁻¹ multiplies the score of cell i by the positive
number 1/(|l_i X⁻¹| |X r_i|): signs are invariant, and so is ŷ_i times the norms of both unnormalised
contexts.  If X is orthogonal, scores are invariant.  Scaling A_0 or A_1 by a positive number changes nothing.

A batch of attentions, tensors (..., 2, bond, bond), is one ``Attention`` as well; results then carry its
leading axes first.

Exact up to rounding (contexts are normalised at every cell).  Fails where a product of tensors annihilates
its context: a ``ValueError``.

References: Žunkovič & Ilievski 2024, Secs. 4.2.2, 4.2.3 and 4.3.1 (Eqs. 58-68).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from grokphase._checks import FloatArray, choice, integer, real_array
from grokphase.student import contexts as scan
from grokphase.student import prefix_tree as tree
from grokphase.student._inputs import (
    boundary_vectors,
    checked_length,
    checked_symbols,
    checked_tensors,
    refuse_nilpotent,
)

__all__ = ["MAX_EXACT_REACH", "Attention", "Boundary"]

Boundary = Literal["open", "closed"]

MAX_EXACT_REACH = 5
"""The exact attention of this reach has bond 1024."""

_BLOCK = 2**22  # elements of the contexts of one side held at a time when only scores are wanted


@dataclass(frozen=True, init=False, eq=False)
class Attention:
    r"""Attention with fixed tensors (or a batch of attentions).

    Parameters
    ----------
    tensors
        Shape (..., 2, bond, bond); index 0 is spin −1, index 1 spin +1.
    left, right
        Boundary vectors, shape (..., bond) or (bond,); only their directions matter.  None: the left or right
        eigenvector of ``tensors[0]`` whose eigenvalue is largest in modulus (of several the one of largest
        real part), with its element of largest modulus positive.  A closed boundary takes none.
    boundary
        ``"open"`` or ``"closed"``.

    Attributes
    ----------
    tensors
        As given, float64 and read only.
    left, right
        Open: the boundary vectors as unit vectors, shape (..., bond).  Closed: the identity (bond, bond),
        H^L(1) and H^R(M).
    boundary
        As given.

    Raises
    ------
    ValueError
        If a shape is wrong or a value not finite; if a tensor is nilpotent, so that contexts vanish; if a
        boundary vector is zero, or is to be an eigenvector and the leading eigenvalue is one of a complex
        pair or not isolated.

    Notes
    -----
    Eqs. 58-67; see the module's header for conventions and invariances.

    Examples
    --------
    >>> attention = Attention([[[1.0, 0.2], [0.1, 0.5]], [[0.4, -0.3], [0.9, 0.8]]])
    >>> left, right = attention.contexts([-1, 1, 1])
    >>> left.shape, attention.features([-1, 1, 1]).shape
    ((3, 2), (3, 8))
    >>> classifier = [[[-1.0, 0.0], [0.0, 1.0]], [[0.5, 0.2], [-0.3, 0.1]]]
    >>> attention.scores([-1, 1, 1], classifier).round(4)
    array([0.4875, 0.3247, 0.529 ])
    """

    tensors: FloatArray
    left: FloatArray
    right: FloatArray
    boundary: Boundary

    def __init__(
        self,
        tensors: ArrayLike,
        left: ArrayLike | None = None,
        right: ArrayLike | None = None,
        boundary: Boundary = "open",
    ) -> None:
        matrices = checked_tensors("tensors", tensors).copy()
        refuse_nilpotent(matrices)
        if choice("boundary", boundary, ("open", "closed")) == "open":
            edges = boundary_vectors(matrices, left, right)
        elif left is None and right is None:
            edges = np.eye(matrices.shape[-1]), np.eye(matrices.shape[-1])
        else:
            raise ValueError("left and right must be None for a closed boundary, got boundary vectors")
        for name, value in (("tensors", matrices), ("left", edges[0]), ("right", edges[1])):
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "boundary", boundary)

    @classmethod
    def exact(cls, reach: int) -> Attention:
        r"""Attention of bond 4**K whose contexts are exactly the K neighbours on each side.

        Every K-local rule is linearly separable on its features.

        Parameters
        ----------
        reach
            K, from 1 to ``MAX_EXACT_REACH``.

        Returns
        -------
        attention
            Open boundary; outside the input are cells −1.

        Raises
        ------
        ValueError
            If ``reach`` is out of range.

        Notes
        -----
        The bond is a pair of registers (a, b) of K bits, the left neighbours and the right ones, index a·2**K
        + b, each with the cell that comes first in the input as its most significant bit.  A_s = S_s ⊗ T_s,
        where S_s shifts a bit into a from the right and leaves the uniform right vector alone, and T_s shifts
        a bit into b from the left and leaves the uniform left vector alone.  So left contexts are e_a ⊗ u and
        right ones u ⊗ e_b, with u the uniform unit vector. K = 1 is Eq. 68.

        Examples
        --------
        >>> Attention.exact(1).tensors[1].astype(int)
        array([[0, 0, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 0, 0],
               [0, 0, 1, 1]])
        """
        reach = integer("reach", reach, minimum=1, maximum=MAX_EXACT_REACH)
        states = 2**reach
        registers = np.arange(states)
        tensors = []
        for symbol in range(2):
            left_shift = np.zeros((states, states))
            left_shift[registers, (2 * registers + symbol) % states] = 1
            right_shift = np.zeros((states, states))
            right_shift[symbol * (states // 2) + registers // 2, registers] = 1
            tensors.append(np.kron(left_shift, right_shift))
        all_minus, uniform = np.eye(states)[0], np.ones(states)
        return cls(np.array(tensors), left=np.kron(all_minus, uniform), right=np.kron(uniform, all_minus))

    @property
    def bond(self) -> int:
        """Bond dimension d."""
        return self.tensors.shape[-1]

    @property
    def dimension(self) -> int:
        """Dimension of the feature space, 2·bond²."""
        return 2 * self.bond**2

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes of the tensors: () for a single attention."""
        return self.tensors.shape[:-3]

    def contexts(self, x: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Left and right contexts of every cell.

        Parameters
        ----------
        x
            Spins −1/+1, shape (..., M).

        Returns
        -------
        left, right
            Open: unit vectors, shape (..., M, bond).  Closed: matrices of unit Frobenius norm, shape (..., M,
            bond, bond).

        Raises
        ------
        ValueError
            If ``x`` has no cells or holds anything but −1 and +1, or if a context vanishes.

        Notes
        -----
        Eqs. 60, 61, with the normalisation of Eq. 62.

        Examples
        --------
        >>> left, right = Attention.exact(1).contexts([-1, 1])
        >>> left.round(3)
        array([[0.707, 0.707, 0.   , 0.   ],
               [0.707, 0.707, 0.   , 0.   ]])
        """
        left, right = self._rows(checked_symbols(x))
        if self.boundary == "open":
            return left[..., 0, :], right[..., 0, :]
        return left, np.swapaxes(right, -1, -2)

    def features(self, x: ArrayLike) -> FloatArray:
        """Feature vectors of every cell, the inputs of the perceptron.

        Parameters
        ----------
        x
            Spins −1/+1, shape (..., M).

        Returns
        -------
        features
            Shape (..., M, 2·bond²), index order (spin, left bond, right bond); unit vectors if the boundary
            is open.

        Raises
        ------
        ValueError
            As :meth:`contexts`.

        Notes
        -----
        Eq. 66.

        Examples
        --------
        >>> Attention.exact(1).features([-1, 1, 1]).shape
        (3, 32)
        """
        symbols = checked_symbols(x)
        return self._flat(scan.features(*self._rows(symbols), symbols))

    def scores(self, x: ArrayLike, classifier: ArrayLike) -> FloatArray:
        """Scores ŷ of every cell; the student predicts their signs.

        Parameters
        ----------
        x
            Spins −1/+1, shape (..., M).
        classifier
            Shape (2, bond, bond); leading axes make a batch, which broadcasts with a batch of attentions.

        Returns
        -------
        scores
            Shape (..., M), a batch first.

        Raises
        ------
        ValueError
            As :meth:`contexts`, or if the classifier has a wrong shape or a value that is not finite.

        Notes
        -----
        Eqs. 62, 63.

        Examples
        --------
        >>> import numpy as np
        >>> Attention.exact(1).scores([-1, 1, 1], np.ones((2, 4, 4))).round(3)
        array([2., 2., 2.])
        """
        symbols, weights = checked_symbols(x), self._checked_classifier(classifier)
        sequences = symbols.reshape(-1, symbols.shape[-1])
        block = max(1, _BLOCK // max(1, self._edges()[0].size * symbols.shape[-1]))
        parts = [sequences[start : start + block] for start in range(0, max(1, len(sequences)), block)]
        scores = [scan.scores(*self._rows(part), part, weights) for part in parts]
        together = np.concatenate(scores, axis=-2)
        return together.reshape(*together.shape[:-2], *symbols.shape)

    def features_of_all(self, length: int) -> FloatArray:
        """Features of every input of a length, in the order of ``all_inputs``: n in binary, +1 as 1.

        Parameters
        ----------
        length
            Number of cells M, from 1 to 24.

        Returns
        -------
        features
            Shape (2**M, M, 2·bond²), a batch first.

        Raises
        ------
        ValueError
            If ``length`` is out of range or a context vanishes.

        Notes
        -----
        Eq. 66 by the prefix tree of :mod:`grokphase.student.prefix_tree`.

        Examples
        --------
        >>> Attention.exact(1).features_of_all(3).shape
        (8, 3, 32)
        """
        return self._flat(tree.features_of_all(self.tensors, *self._edges(), checked_length(length)))

    def scores_of_all(self, length: int, classifier: ArrayLike) -> FloatArray:
        """Scores of every cell of every input of a length, in the order of ``all_inputs``.

        Parameters
        ----------
        length
            Number of cells M, from 1 to 24.
        classifier
            As in :meth:`scores`.

        Returns
        -------
        scores
            Shape (2**M, M), a batch first.  In memory the inputs of one cell are contiguous.

        Raises
        ------
        ValueError
            If ``length`` is out of range, the classifier has a wrong shape, or a context vanishes.

        Notes
        -----
        Eqs. 62, 63 by the prefix tree of :mod:`grokphase.student.prefix_tree`: two matrix products a cell.

        Examples
        --------
        >>> import numpy as np
        >>> Attention.exact(1).scores_of_all(2, np.ones((2, 4, 4))).round(3)
        array([[2., 2.],
               [2., 2.],
               [2., 2.],
               [2., 2.]])
        """
        weights = self._checked_classifier(classifier)
        return tree.scores_of_all(self.tensors, *self._edges(), weights, checked_length(length))

    def reflect(self) -> Attention:
        """The mirrored attention: contexts of x[::-1] are those of x with left and right exchanged.

        Its scores of x[::-1] with the classifier transposed (each B_s) are the original scores in reversed
        order: if the original solves a rule, the mirrored one solves ``rule.reflect()``.

        Examples
        --------
        >>> attention = Attention([[[1.0, 0.2], [0.1, 0.5]], [[0.4, -0.3], [0.9, 0.8]]])
        >>> attention.right.round(4), attention.reflect().left.round(4)
        (array([0.9831, 0.183 ]), array([0.9831, 0.183 ]))
        """
        return self._with(scan.mirrored(self.tensors), left=self.right, right=self.left)

    def complement(self) -> Attention:
        """The spin-flipped attention: contexts of −x are those of x.  The boundary vectors are kept.

        Its scores of −x with the classifier −B[::-1] are minus the original scores: if the original solves a
        rule, the flipped one solves ``rule.complement()`` (near an open end with +1 outside).

        Examples
        --------
        >>> attention = Attention([[[1.0, 0.2], [0.1, 0.5]], [[0.4, -0.3], [0.9, 0.8]]])
        >>> bool((attention.complement().tensors[0] == attention.tensors[1]).all())
        True
        """
        return self._with(self.tensors[..., ::-1, :, :], left=self.left, right=self.right)

    def change_basis(self, matrix: ArrayLike) -> Attention:
        """The same attention in another basis of the bond space: A → XAX⁻¹, left → left X⁻¹, right → X right.

        Parameters
        ----------
        matrix
            X, shape (bond, bond), invertible.

        Returns
        -------
        attention
            With the classifier XBX⁻¹ its scores have the signs of the original scores; if X is orthogonal
            they are equal.

        Raises
        ------
        ValueError
            If the shape is wrong or the matrix singular to rounding.

        Examples
        --------
        >>> attention = Attention([[[1.0, 0.2], [0.1, 0.5]], [[0.4, -0.3], [0.9, 0.8]]])
        >>> attention.change_basis([[0.0, 1.0], [1.0, 0.0]]).tensors[0]
        array([[0.5, 0.1],
               [0.2, 1. ]])
        """
        basis = real_array("matrix", matrix)
        if basis.shape != (self.bond, self.bond):
            raise ValueError(f"matrix must have shape {(self.bond, self.bond)}, got {basis.shape}")
        if np.linalg.matrix_rank(basis) < self.bond:
            raise ValueError("matrix must be invertible, got a singular one")
        inverse = np.linalg.inv(basis)
        tensors = basis @ self.tensors @ inverse
        return self._with(tensors, left=self.left @ inverse, right=self.right @ basis.T)

    def _with(self, tensors: FloatArray, *, left: FloatArray, right: FloatArray) -> Attention:
        """Other tensors with the same kind of boundary; only an open one has vectors of its own."""
        if self.boundary == "closed":
            return Attention(tensors, boundary="closed")
        return Attention(tensors, left=left, right=right)

    def _edges(self) -> tuple[FloatArray, FloatArray]:
        """Contexts of the first and the last cell as rows, shape (*T, w, bond)."""
        if self.boundary == "open":
            return self.left[..., None, :], self.right[..., None, :]
        identity = np.broadcast_to(self.left, (*self.batch_shape, self.bond, self.bond))
        return identity, identity

    def _rows(self, symbols: scan.Symbols) -> tuple[FloatArray, FloatArray]:
        left, right = self._edges()
        backwards = scan.row_contexts(scan.mirrored(self.tensors), right, symbols[..., ::-1])
        return scan.row_contexts(self.tensors, left, symbols), backwards[..., ::-1, :, :]

    def _flat(self, features: FloatArray) -> FloatArray:
        return features.reshape(*features.shape[:-3], self.dimension)

    def _checked_classifier(self, classifier: ArrayLike) -> FloatArray:
        weights = checked_tensors("classifier", classifier)
        if weights.shape[-1] != self.bond:
            raise ValueError(f"classifier must have shape (..., 2, {self.bond}, {self.bond}), got {weights.shape}")
        try:
            np.broadcast_shapes(weights.shape[:-3], self.batch_shape)
        except ValueError:
            raise ValueError(
                f"classifier must broadcast with the batch {self.batch_shape} of attentions, got shape {weights.shape}"
            ) from None
        return weights
