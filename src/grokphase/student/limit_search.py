r"""Last context to be learnt, for attention of any bond whose contexts depend on all letters.

Object.  A flow B(t) makes no error from t_ε on, the last zero of min over all contexts of y l B_x(t) r.  The
minimum is over infinitely many contexts, but few of them are ever the lowest: start with the centres of the
coarse balls, take the last zero over these, look by branch and bound for the context that is lowest just after
it (and at some later times), add it if it is wrong, repeat.

What is looked at: all pairs of words of a few letters at many later times up to a thousand times the last zero,
and, at those where the scores come closest to zero, all words.

The word of the last context tells its dimension as in :mod:`~grokphase.student.limit_corners`: far from the
cell it repeats itself, and δ = p ln 2 / ln|λ₁/λ₂| of the repeated word.  Above bond 2 the power law is reached
slowly where a third eigenvalue is close to λ₂.

What is exact: every zero is that of a context, so the time is a lower bound; a certificate holds at the time
returned (times 1 + 1e-9) and at the later times that were looked at closely, not in between.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.student.limit_inputs import Letters, spins_of, targets
from grokphase.student.limit_results import Corner, Flow

if TYPE_CHECKING:
    from grokphase.student.limit_balls import BallLimit

__all__ = ["Site", "last_site", "lowest_site", "periodic_corner"]

_LATER = np.geomspace(1e-9, 1e3, 121)
_ROUNDS = 200
_KEPT = 2**14  # pairs of balls carried along while looking for the lowest
_LONGEST_PERIOD = 12
_DENSE_LETTERS = 6  # of the words that are looked at at all times
_CLOSER = 8  # times at which all words are looked at


@dataclass(frozen=True)
class Site:
    """A cell between two words (far letter first), the rule's output, and the feature of its contexts."""

    left: Letters
    letter: int
    right: Letters
    target: int
    feature: FloatArray


def lowest_site(limit: BallLimit, classifier: FloatArray, *, bulk: bool) -> tuple[float, Site]:
    """The lowest score times output among all contexts (to the rounding of the balls), and where it is."""
    assert limit.nodes is not None
    pairs = limit.everything(bulk=bulk)
    lowest, site = np.inf, None
    while pairs.target.size:
        bounds = limit.bounds(pairs, classifier)
        number = int(bounds.score.argmin())
        if bounds.score[number] < lowest:
            lowest, site = float(bounds.score[number]), limit.site(pairs, number)
        margin = bounds.score - bounds.error
        rows = np.flatnonzero(margin < lowest - 1e-15 * abs(lowest))
        if rows.size > _KEPT:
            rows = rows[np.argpartition(margin[rows], _KEPT)[:_KEPT]]
        pairs, _ = limit.split(pairs.take(rows), bounds.take(rows), bulk=bulk)
    assert site is not None
    return lowest, site


def last_site(limit: BallLimit, flow: Flow, initial: FloatArray, *, bulk: bool) -> tuple[float, Site | None]:
    """Time after which one run makes no error, and the site that is learnt last."""
    pairs = limit.everything(bulk=bulk)
    sites = [limit.site(pairs, number) for number in range(pairs.target.size)]
    dense = _Dense.of(limit)
    for _ in range(_ROUNDS):
        normals = np.array([site.target * site.feature for site in sites])
        time, index = flow.cone_time(normals, initial, return_index=True)
        if not np.isfinite(time):
            return float(time), sites[int(index)]
        times = np.concatenate([time * (1 + _LATER), time + _LATER])
        classifiers = np.concatenate([flow.weights(times, initial), flow.stationary(initial)[None]])
        new = _wrong_sites(limit, dense, classifiers.reshape(-1, *limit.attention.tensors.shape), bulk=bulk)
        known = {(site.left, site.letter, site.right) for site in sites}
        new = [site for site in new if (site.left, site.letter, site.right) not in known]
        if not new:
            return float(time), None if time == 0 else sites[int(index)]
        sites += new
    raise RuntimeError(f"the last context was not found in {_ROUNDS} rounds")


def _wrong_sites(limit: BallLimit, dense: _Dense, classifiers: FloatArray, *, bulk: bool) -> list[Site]:
    """Sites with a wrong sign for some of the classifiers: among words of a few letters, else the lowest of all."""
    lowest, where = dense.lowest(classifiers)
    if (lowest < 0).any():
        return [dense.site(limit, number) for number in np.unique(where[lowest < 0])]
    norm = np.linalg.norm(classifiers.reshape(len(classifiers), -1), axis=-1)
    # The first time is that just after the last zero; elsewhere only near misses are worth a closer look.
    for number in [0, *np.argsort(lowest / np.where(norm > 0, norm, 1.0))[:_CLOSER]]:
        value, site = lowest_site(limit, classifiers[number], bulk=bulk)
        if value < 0:
            return [site]
    return []


@dataclass(frozen=True)
class _Dense:
    """All pairs of words of a few letters: contexts (n, d) and the rule's output (n_left, 2, n_right)."""

    left: FloatArray
    right: FloatArray
    nodes: tuple[NDArray[np.int64], NDArray[np.int64]]
    target: FloatArray

    @classmethod
    def of(cls, limit: BallLimit) -> _Dense:
        assert limit.nodes is not None
        reach = limit.rule.reach
        levels = [nodes.level(max(_DENSE_LETTERS, nodes.cover.letters, reach)) for nodes in limit.nodes]
        codes = [nodes.code[level] & (2**reach - 1) for nodes, level in zip(limit.nodes, levels, strict=True)]
        return cls(
            limit.nodes[0].centre[levels[0]],
            limit.nodes[1].centre[levels[1]],
            (levels[0], levels[1]),
            targets(limit.rule)[codes[0]][:, :, codes[1]],
        )

    def lowest(self, classifiers: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """Smallest score times output for each classifier (n, 2, d, d), and the number of its pair."""
        values, where = np.empty(len(classifiers)), np.empty(len(classifiers), dtype=np.int64)
        for number, classifier in enumerate(classifiers):
            scores = (self.left @ classifier @ self.right.T).transpose(1, 0, 2) * self.target
            where[number] = scores.argmin()
            values[number] = scores.reshape(-1)[where[number]]
        return values, where

    def site(self, limit: BallLimit, number: int) -> Site:
        """The pair with a number as a site."""
        i, letter, j = np.unravel_index(number, self.target.shape)
        return limit.site_of(
            int(self.nodes[0][i]), int(letter), int(self.nodes[1][j]), float(self.target[i, letter, j])
        )


def periodic_corner(limit: BallLimit, site: Site) -> Corner:
    """The corner of a site whose words repeat themselves far from the cell."""
    reach, tensors = limit.rule.reach, limit.sides[0].tensors
    assert limit.nodes is not None
    (left, before), (right, after) = (
        _tail(word, padded=nodes.stationary) for word, nodes in zip((site.left, site.right), limit.nodes, strict=True)
    )
    periods = [_log_period(tensors, left), _log_period(tensors, right[::-1])]
    near, far = _padded(site.left, reach), _padded(site.right, reach)
    return Corner(
        neighbourhood=spins_of((*near, site.letter, *far[::-1])),
        target=site.target,
        left_word=spins_of(left),
        left_near=spins_of(before),
        right_near=spins_of(after[::-1]),
        right_word=spins_of(right[::-1]),
        left_dimension=len(left) * float(np.log(2)) / periods[0],
        right_dimension=len(right) * float(np.log(2)) / periods[1],
        left_log_period=periods[0],
        right_log_period=periods[1],
        normal=site.target * site.feature,
        weight=0.0,
    )


def _padded(word: Letters, reach: int) -> Letters:
    return ((0,) * reach + word)[len(word) :]


def _tail(word: Letters, *, padded: bool) -> tuple[Letters, Letters]:
    """The word as an endless repetition and the letters nearer to the cell; both empty parts allowed.

    The farthest letters are at the level of rounding: a sixth of the word is not asked.  ``padded``: in front of the
    word there are letters 0 without end.
    """
    letters = word[::-1][: len(word) - len(word) // 6]  # nearest first
    for size in range(1, len(letters)):
        for period in range(1, min(size, _LONGEST_PERIOD) + 1):
            near = size - period
            rest = letters[near:]
            if len(rest) >= 3 * period and all(a == b for a, b in zip(rest, rest[period:], strict=False)):
                return rest[:period][::-1], letters[:near][::-1]
    return ((0,), word) if padded else ((), word)


def _log_period(tensors: FloatArray, word: Letters) -> float:
    """ln|λ₁/λ₂| of the word's matrix, NaN without a word."""
    if not word:
        return np.nan
    matrix = np.eye(tensors.shape[-1])
    for letter in word:
        matrix = matrix @ tensors[letter]
    sizes = np.sort(np.abs(np.linalg.eigvals(matrix)))
    return float(np.log(sizes[-1] / sizes[-2])) if sizes[-2] > 1e-14 * sizes[-1] else np.inf
