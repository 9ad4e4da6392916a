r"""Extreme features of bond-2 attention: the finitely many inputs of the perceptron that decide everything.

Object.  The contexts of a branch fill a cone with two extreme rays, and a score l B_x r is linear in both
contexts.  So it has the right sign for all of them iff it has at the *corners*, the pairs of extreme rays.
Each corner is a feature vector y φ(x) ⊗ l ⊗ r, the normal of a half space in which the classifier must lie;
K = 1 has 32 of them, and those that are positive combinations of others are dropped.

The exponent of the transition belongs to the corner that is last to be crossed.  Near it the test error is
the measure of a small triangle next to the corner, so E ∝ (t_ε − t)^ν with

    ν = δ_left + δ_right,        δ = p ln 2 / ln|λ₁/λ₂|,

where the extreme ray is the context behind a word of p letters repeated for ever (and some nearer letters,
which do not matter), and λ₁, λ₂ are the eigenvalues of that word's matrix: p letters more cost a factor 2^{−p}
in measure and λ₂/λ₁ in angle.  E/(t_ε − t)^ν does not converge: it is periodic in ln(t_ε − t) with the period
ln|λ₁/λ₂|, or quasi-periodic if that differs between the sides.  If λ₂ = 0 a context has an atom there, δ = 0;
if both have, the transition is of first order.

Exact up to rounding.  Only the dimension of a ray at which two different words end (a tie, of measure zero
among attentions) is not that of the measure.

References: Žunkovič & Ilievski 2024, Secs. 3.3.4 and 4.3.1, whose ν are fits far from the asymptotic regime.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.student.limit_cones import CANDIDATES, PlanarCone, images, planar_cones
from grokphase.student.limit_inputs import Letters, Side, letters_of, spins_of, targets
from grokphase.student.limit_results import Corner

__all__ = ["CornerBlock", "PlanarSide", "RayList", "bulk_corners", "corner_blocks", "essential", "normals"]

BoolArray = NDArray[np.bool_]
_EPS = float(np.finfo(np.float64).eps)
_PARALLEL = 1e-13  # relative determinant below which a matrix counts as of rank one


class RayList(NamedTuple):
    """Contexts of one side that are extreme among those with the same neighbours."""

    rays: FloatArray
    """(*T, n, 2)"""
    slack: FloatArray
    """(*T, n)"""
    letters: list[Letters]
    """The nearest letters of each, far letter first."""
    ray: list[int | None]
    """Which ray of the cone these letters act on; None if they act on the boundary vector."""


class CornerBlock(NamedTuple):
    """All pairs of two lists, with the rule's output (n_left, 2, n_right)."""

    left: RayList
    right: RayList
    target: FloatArray


@dataclass(frozen=True)
class PlanarSide:
    """One side of a bond-2 attention with its cones."""

    side: Side
    attractor: PlanarCone
    reachable: PlanarCone

    @classmethod
    def of(cls, side: Side) -> "PlanarSide":
        return cls(side, *planar_cones(side.tensors, side.start))

    def member(self, number: int) -> "PlanarSide":
        """The side of one attention of a batch along one axis."""
        side = Side(self.side.tensors[number], self.side.start[number])
        return PlanarSide(side, self.attractor.member(number), self.reachable.member(number))

    def rays(self, cone: PlanarCone, count: int) -> RayList:
        """Extreme rays behind every word of ``count`` letters."""
        rays, slack = images(self.side.tensors, cone.rays, cone.slack, count)
        words = [letters_of(code, count) for code in range(2**count) for _ in range(2)]
        batch = rays.shape[:-3]
        return RayList(rays.reshape(*batch, -1, 2), slack.reshape(*batch, -1), words, [0, 1] * 2**count)

    def points(self, count: int) -> RayList:
        """Contexts of the cells with exactly ``count`` letters before them."""
        rays, slack = images(self.side.tensors, self.side.start[..., None, :], _EPS, count)
        words = [letters_of(code, count) for code in range(2**count)]
        return RayList(rays[..., 0, :], slack[..., 0], words, [None] * len(words))


def corner_blocks(
    left: PlanarSide, right: PlanarSide, rule: CellularAutomaton, *, bulk: bool = False
) -> list[CornerBlock]:
    """Blocks that cover all inputs of length ≥ 2K+1, or the attractor only (``bulk``).

    A cell with at least K letters on each side has contexts in the cones over the branches.  One with fewer on
    its left has a single left context, and at least so many letters on its right that the input has length
    2K+1.  Where the boundary vector is the context of a row of −1, such cells are like all others.
    """
    reach, table = rule.reach, targets(rule)
    cones = [side.attractor if bulk else side.reachable for side in (left, right)]

    def block(one: RayList, other: RayList) -> CornerBlock:
        codes = [_codes(rays, reach) for rays in (one, other)]
        return CornerBlock(one, other, table[codes[0]][:, :, codes[1]])

    blocks = [block(left.rays(cones[0], reach), right.rays(cones[1], reach))]
    if bulk:
        return blocks
    for count in range(reach):
        rest = 2 * reach - count
        if not left.side.stationary.all():
            blocks.append(block(left.points(count), right.rays(cones[1], rest)))
        if not right.side.stationary.all():
            blocks.append(block(left.rays(cones[0], rest), right.points(count)))
    return blocks


def _codes(rays: RayList, reach: int) -> NDArray[np.int64]:
    """Number of each word's K nearest letters, −1 outside the input being the letter 0."""
    return np.array([sum(bit << k for k, bit in enumerate(word[::-1][:reach])) for word in rays.letters])


def essential(block: CornerBlock) -> BoolArray:
    """Mask (n_left, 2, n_right) of the corners of one attention that no others imply.

    For given left context, letter and output, the right contexts between two others are their positive
    combinations, and likewise for the left ones.
    """
    keep = np.ones(block.target.shape, dtype=bool)
    for rays, axis in ((block.right.rays, 2), (block.left.rays, 0)):
        # Order along the cone; pointed cones are narrower than π, so angles from the middle do not wrap.
        middle = rays.sum(axis=0)
        angle = np.arctan2(middle[0] * rays[:, 1] - middle[1] * rays[:, 0], rays @ middle)
        kept, target = np.moveaxis(keep, axis, -1), np.moveaxis(block.target, axis, -1)
        outer = np.zeros_like(kept)
        for output in (-1.0, 1.0):
            member = kept & (target == output)
            for pick in (np.where(member, angle, np.inf).argmin(-1), np.where(member, angle, -np.inf).argmax(-1)):
                chosen = np.zeros_like(kept)
                np.put_along_axis(chosen, pick[..., None], True, axis=-1)
                outer |= chosen & member
        keep = np.moveaxis(outer, -1, axis)
    return keep


def normals(block: CornerBlock) -> FloatArray:
    """Features of the corners times the rule's output, shape (*T, n_left, 2, n_right, 2, 2, 2).

    ``normals · classifier`` is the score, positive where the student is right.
    """
    left, right = block.left.rays, block.right.rays
    outer = left[..., :, None, None, :, None] * right[..., None, None, :, None, :]
    outer = outer * block.target[..., None, None]
    own = np.eye(2)[:, None, :, None, None]  # (letter of the cell, 1, letter of the feature)
    return outer[..., None, :, :] * own


def bulk_corners(left: PlanarSide, right: PlanarSide, rule: CellularAutomaton) -> list[Corner]:
    """All essential corners of the attractors of one attention, ordered by neighbourhood."""
    (block,) = corner_blocks(left, right, rule, bulk=True)
    tails = [[_Tail.of(side, k) for k in range(2)] for side in (left, right)]
    features = normals(block)
    corners = []
    for i, letter, j in np.argwhere(essential(block)):
        ahead, behind = (
            tail[rays.ray[index] or 0].up_to(rays.letters[index])
            for rays, index, tail in ((block.left, i, tails[0]), (block.right, j, tails[1]))
        )
        corners.append(
            Corner(
                neighbourhood=spins_of((*block.left.letters[i], int(letter), *block.right.letters[j][::-1])),
                target=int(block.target[i, letter, j]),
                left_word=spins_of(ahead.word),
                left_near=spins_of(ahead.near),
                right_near=spins_of(behind.near[::-1]),
                right_word=spins_of(behind.word[::-1]),
                left_dimension=ahead.dimension,
                right_dimension=behind.dimension,
                left_log_period=ahead.log_period,
                right_log_period=behind.log_period,
                normal=features[i, letter, j].reshape(-1),
                weight=0.5 * ahead.atom(rule.reach) * behind.atom(rule.reach),
            )
        )
    return sorted(corners, key=lambda corner: corner.neighbourhood)


@dataclass(frozen=True)
class _Tail:
    """An extreme context of an attractor as an endless word and the letters nearer to the cell."""

    side: Side
    word: Letters
    near: Letters

    @classmethod
    def of(cls, side: PlanarSide, ray: int) -> "_Tail":
        word, behind = CANDIDATES[int(side.attractor.source[ray])]
        assert word is not None  # the attractor does not know the boundary vector
        return cls(side.side, word, behind)

    def up_to(self, letters: Letters) -> "_Tail":
        """The same with more letters at the near end."""
        return _Tail(self.side, self.word, self.near + letters)

    @property
    def _singular(self) -> int | None:
        """How many of the nearest letters it takes to reach a matrix of rank one, behind which contexts are one."""
        flat = [abs(np.linalg.det(m)) <= _PARALLEL * np.square(m).sum() for m in self.side.tensors]
        letters = (self.word + self.near)[::-1]
        return next((count for count, letter in enumerate(letters, 1) if flat[letter]), None)

    @property
    def log_period(self) -> float:
        """ln|λ₁/λ₂| of the repeated word; infinite for an atom."""
        if self._singular is not None:
            return np.inf
        product = np.eye(2)
        for letter in self.word:
            product = product @ self.side.tensors[letter]
        leading = float(np.abs(np.linalg.eigvals(product)).max())
        determinant = np.prod([abs(np.linalg.det(self.side.tensors[letter])) for letter in self.word])
        return float(np.log(leading**2 / determinant))

    @property
    def dimension(self) -> float:
        return len(self.word) * float(np.log(2)) / self.log_period

    def atom(self, reach: int) -> float:
        """Probability of exactly this context and its ``reach`` nearest letters; 0 if it is not an atom."""
        return 0.0 if self._singular is None else 0.5 ** max(self._singular, reach)
