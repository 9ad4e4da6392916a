r"""Certificates for bond-2 attention: is every cell of every input right?

Object.  By :mod:`grokphase.student.limit_corners` the classifier generalises iff the corners are right: the
smallest corner score is the *margin*.  If a corner is wrong, so is a long enough input that ends in its words.
And without a pointed invariant cone no classifier generalises: some contexts l₁, l₂, l₃ behind the same K
letters then satisfy Σ c_i l_i = 0 with c_i > 0, so Σ c_i (l_i B_x r) = 0 and one of them has the wrong sign.
Both kinds of proof end in an input that the attention itself gets wrong; without one the answer is no "False".

Exact, with a margin for rounding: a corner counts as right only if its score exceeds the error of its rays
(their slack) and of the arithmetic.  What lies in between is undecided.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.student.attention import Attention
from grokphase.student.limit_corners import CornerBlock, PlanarSide
from grokphase.student.limit_inputs import (
    STATIONARY,
    refuted,
    short_lengths,
    shortest_counterexample,
    targets,
    verified,
)
from grokphase.student.limit_results import Certificate
from grokphase.student.limit_sites import LONGEST_WORD, Pool

__all__ = ["planar_certificate", "planar_verdicts"]

IntArray = NDArray[np.int64]

_EPS = float(np.finfo(np.float64).eps)
_CLEAR = 128 * _EPS  # scores of unit classifiers below minus this are wrong: what a verification asks for
_CHUNK = 2**21  # scores held at a time


def corner_margins(blocks: list[CornerBlock], classifier: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Certified lower bound and value of the smallest corner score times output, per unit of |classifier|.

    ``classifier`` has shape (n, 2, 2, 2) where the blocks' rays are (n, ..., 2) or (..., 2).
    """
    unit = _normalised(classifier)
    size = np.linalg.norm(unit, axis=(-2, -1))  # (n, 2)
    bound, value = np.full(len(unit), np.inf), np.full(len(unit), np.inf)
    for block in blocks:
        score, error = _block_scores(block, unit, size)
        bound = np.minimum(bound, (score - error).min(axis=(-3, -2, -1)))
        value = np.minimum(value, score.min(axis=(-3, -2, -1)))
    return bound, value


def _block_scores(block: CornerBlock, unit: FloatArray, size: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Scores times output (n, 2, n_left, n_right) and bounds of their errors."""
    left, right = block.left, block.right
    score = left.rays[..., None, :, :] @ unit @ np.swapaxes(right.rays, -1, -2)[..., None, :, :]
    score *= block.target.transpose(1, 0, 2)
    # A boundary vector that counts as stationary may be off by STATIONARY on either side.
    error = left.slack[..., :, None] + right.slack[..., None, :] + 2 * STATIONARY + 16 * _EPS
    return score, error[..., None, :, :] * size[:, :, None, None]


def planar_certificate(
    attention: Attention,
    rule: CellularAutomaton,
    sides: tuple[PlanarSide, PlanarSide],
    blocks: list[CornerBlock],
    pools: list[Pool],
    classifier: FloatArray,
) -> Certificate:
    """Decide one bond-2 attention with one classifier."""
    found = shortest_counterexample(attention, rule, classifier, short_lengths(2 * rule.reach + 1))
    if found is not None:
        return refuted(attention, rule, classifier, found)
    bound = value = -np.inf
    if all(side.reachable.status == 1 for side in sides):
        bound, value = (float(number[0]) for number in corner_margins(blocks, classifier[None]))
        if bound > 0:
            return Certificate(True, bound, None, f"all corners of the context cones are right, margin {bound:.3g}")
    for pool in pools:
        site = pool.shortest(pool.scores(_normalised(classifier[None]))[0] < -_CLEAR)
        found = None if site is None else verified(attention, rule, classifier, *pool.site(site))
        if found is not None:
            return refuted(attention, rule, classifier, found)
    if np.isfinite(value):
        reason = (
            f"undecided: the smallest corner score {value:.3g} is within its rounding error {value - bound:.3g}, or "
            f"a counterexample needs more than {LONGEST_WORD} repetitions of a word; move the classifier"
        )
    else:
        reason = "undecided: rounding hides whether the contexts have a pointed invariant cone; move the tensors"
    return Certificate(None, bound, None, reason)


def planar_verdicts(
    sides: tuple[PlanarSide, PlanarSide],
    blocks: list[CornerBlock],
    rule: CellularAutomaton,
    classifier: FloatArray,
    which: IntArray | None,
    pools: Callable[[int], list[Pool]],
) -> tuple[IntArray, FloatArray]:
    """Decide many pairs at once: by short inputs, by corners, by somewhat longer inputs, by long words.

    Parameters
    ----------
    sides, blocks
        Of a batch of attentions, with one leading axis, or of a single one without.
    rule
        The rule.
    classifier
        Shape (n, 2, 2, 2).
    which
        Number of the attention of each classifier, shape (n,); None for a single attention.
    pools
        Function that gives the pools of the attention with a number.

    Returns
    -------
    verdict
        Shape (n,): −1 where an input was found that is wrong, 1 where all corners are right, 0 within rounding.
    margin
        Shape (n,): that of the worst input; a lower bound for all inputs; −inf where neither is known.
    """
    verdicts = _Verdicts(classifier, which)
    _by_inputs(verdicts, sides, rule, rule.reach + 1)
    _by_corners(verdicts, sides, blocks)
    _by_inputs(verdicts, sides, rule, rule.reach + 4)
    _by_pools(verdicts, pools)
    return verdicts.verdict, verdicts.margin


class _Verdicts:
    """What is known so far of each pair of classifier and attention."""

    def __init__(self, classifier: FloatArray, which: IntArray | None) -> None:
        self.classifier, self.which = _normalised(classifier), which
        self.verdict = np.zeros(len(classifier), dtype=np.int64)
        self.margin = np.full(len(classifier), -np.inf)

    @property
    def open(self) -> IntArray:
        return np.flatnonzero(self.verdict == 0)

    def of(self, values: NDArray[Any], rows: IntArray) -> NDArray[Any]:
        """The values of the attentions that belong to some classifiers."""
        return values if self.which is None else values[self.which[rows]]

    def refute(self, rows: IntArray, lowest: FloatArray) -> None:
        """Those whose lowest score times output is clearly negative, or exactly zero."""
        wrong = (lowest < -_CLEAR) | (lowest == 0)
        self.verdict[rows[wrong]] = -1
        self.margin[rows[wrong]] = lowest[wrong]


def _by_inputs(verdicts: _Verdicts, sides: tuple[PlanarSide, PlanarSide], rule: CellularAutomaton, count: int) -> None:
    """Inputs with ``count`` letters on either side of a cell."""
    left, right = (side.side.rows(count)[count] for side in sides)
    codes = np.arange(2**count) & (2**rule.reach - 1)
    target = targets(rule)[codes][:, :, codes].transpose(1, 0, 2)
    for part in _parts(verdicts.open, target.size):
        ahead, behind = verdicts.of(left, part), np.swapaxes(verdicts.of(right, part), -1, -2)
        scores = ahead[..., None, :, :] @ verdicts.classifier[part] @ behind[..., None, :, :]
        scores *= target
        verdicts.refute(part, scores.min(axis=(-3, -2, -1)))


def _by_corners(verdicts: _Verdicts, sides: tuple[PlanarSide, PlanarSide], blocks: list[CornerBlock]) -> None:
    """Corners of the attentions with an invariant cone."""
    status = np.minimum(sides[0].reachable.status, sides[1].reachable.status)
    rows = verdicts.open
    rows = rows[np.broadcast_to(verdicts.of(status, rows) == 1, rows.shape)]
    for part in _parts(rows, sum(block.target.size for block in blocks)):
        taken = []
        for block in blocks:
            left, right = (
                side._replace(rays=verdicts.of(side.rays, part), slack=verdicts.of(side.slack, part))
                for side in (block.left, block.right)
            )
            taken.append(CornerBlock(left, right, block.target))
        bound, _ = corner_margins(taken, verdicts.classifier[part])
        verdicts.verdict[part] = bound > 0
        verdicts.margin[part] = bound


def _by_pools(verdicts: _Verdicts, pools: Callable[[int], list[Pool]]) -> None:
    """Long words, attention by attention."""
    rows = verdicts.open
    number = np.zeros_like(rows) if verdicts.which is None else verdicts.which[rows]
    for one in np.unique(number):
        for pool in pools(int(one)):
            for part in _parts(rows[number == one], pool.target.size):
                verdicts.refute(part, pool.scores(verdicts.classifier[part]).min(axis=-1))


def _parts(rows: IntArray, scores: int) -> list[IntArray]:
    """The rows in portions that keep the scores in memory few."""
    step = max(1, _CHUNK // scores)
    return [rows[begin : begin + step] for begin in range(0, len(rows), step)]


def _normalised(classifier: FloatArray) -> FloatArray:
    norm = np.linalg.norm(classifier.reshape(len(classifier), -1), axis=-1)
    return classifier / np.where(norm > 0, norm, 1.0)[:, None, None, None]
