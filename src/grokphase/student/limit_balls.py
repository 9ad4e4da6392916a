r"""Thermodynamic limit of attention of any bond: branch and bound over pairs of balls.

Object: :class:`BallLimit`, the half of :class:`~grokphase.student.limit.ThermodynamicLimit` for any bond; arguments
are checked there.  For a pair of balls (caps of tangents t, t' around contexts c, c') the score of unit contexts
satisfies

    | n l B_x r  −  c B_x c' |  ≤  t |B_x c'| + t' |c B_x| + t t' |B_x|,        1 ≤ n ≤ √(1+t²) √(1+t'²).

A pair whose sign is certain is done, the
others are split at the side that contributes more.  Centres are contexts of finite inputs, so a wrong centre is
a counterexample.

Without a cover.  An attention has no pointed invariant cone if some word's matrix has a leading eigenvalue that
is not real and positive, or if contexts of finite inputs have a positive combination that vanishes; both lead
to counterexamples for every classifier.  Then the bulk error is ½ (:mod:`~grokphase.student.limit_mixing`).

Exact up to the stated intervals; rounding is part of the balls.  ``zero_test_time`` and ``exponent`` of attention
with infinitely many contexts find the context that is violated last by a search along the flow: certified at
the times at which a certificate was asked for, not at all later ones.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.student.attention import Attention
from grokphase.student.limit_cover import Nodes, find_cover
from grokphase.student.limit_inputs import (
    Letters,
    Side,
    backwards,
    both_sides,
    counterexample_among,
    refuted,
    short_lengths,
    shortest_counterexample,
    spins_of,
    targets,
    verified,
)
from grokphase.student.limit_mixing import mixes, unpointed_contexts
from grokphase.student.limit_results import (
    Attractor,
    Certificate,
    ContextSet,
    Corner,
    Counterexample,
    Flow,
    RunExponent,
    run_exponent,
)
from grokphase.student.limit_search import Site, last_site, periodic_corner

__all__ = ["BallLimit", "Bounds", "Pairs"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_EPS = float(np.finfo(np.float64).eps)
_ACCURACY = 0.1  # of the margin: pairs whose bound is below this part of the smallest score are split further
_SOMEWHERE = (0, 1, 1, 0, 1, 0, 0, 1) * 8  # letters that lead from any boundary vector to the attractor
_ATOM = 1e-9  # contexts of a branch that differ by less than this angle are one


class Pairs(NamedTuple):
    """Pairs of nodes around a letter; output of the rule; measure."""

    left: IntArray
    letter: IntArray
    right: IntArray
    target: FloatArray
    weight: FloatArray

    def take(self, rows: NDArray[np.generic]) -> "Pairs":
        return Pairs(*(field[rows] for field in self))


@dataclass(frozen=True)
class Bounds:
    """Of pairs: score at the centres times output, parts of its uncertainty, normalisation."""

    score: FloatArray
    by_left: FloatArray
    by_right: FloatArray
    both: FloatArray
    norm: FloatArray

    @property
    def error(self) -> FloatArray:
        return self.by_left + self.by_right + self.both

    def take(self, rows: NDArray[np.generic]) -> "Bounds":
        return Bounds(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def lowest(self) -> FloatArray:
        """Lower bound of the score of unit contexts (where it is positive)."""
        return (self.score - self.error) / self.norm


@dataclass(frozen=True)
class BallLimit:
    """Limit of one attention of any bond."""

    attention: Attention
    rule: CellularAutomaton

    # --- covers
    # -------------------------------------------------------------------------------------------

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        return both_sides(self.attention)

    @cached_property
    def nodes(self) -> tuple[Nodes, Nodes] | None:
        covers = [find_cover(side) for side in self.sides]
        if covers[0] is None or covers[1] is None:
            return None
        return Nodes(covers[0]), Nodes(covers[1])

    @cached_property
    def deep(self) -> "BallLimit":
        """The same attention with contexts from deep inside an input as its boundary vectors."""
        left, right = (side.context(_SOMEWHERE) for side in self.sides)
        return BallLimit(Attention(self.attention.tensors, left=left, right=right), self.rule)

    @cached_property
    def witness(self) -> tuple[int, list[Letters]] | None:
        """A side, and words whose contexts have a positive combination that vanishes."""
        return unpointed_contexts(self.sides)

    @cached_property
    def status(self) -> int:
        """1 with a cover, −1 where there is no pointed cone, 0 where neither was found."""
        if self.nodes is not None:
            return 1
        return -1 if self.witness is not None else 0

    def attractor(self, depth: int | None) -> Attractor:
        sets = []
        for which in range(2):
            if self.nodes is None:
                flag = False if self.status == -1 else None
                sets.append(ContextSet(flag, None, (), None, None))
                continue
            nodes = self.nodes[which]
            length = max(depth or 0, nodes.cover.letters, self.rule.reach)
            level = nodes.level(length)
            if which == 1:
                level = level[backwards(length)]
            sets.append(ContextSet(True, None, (), nodes.centre[level], np.arctan(nodes.tangent[level])))
        return Attractor(*sets)

    @cached_property
    def atoms(self) -> bool:
        """Whether the K nearest letters determine every context (exact attention)."""
        if self.nodes is None:
            return False
        for nodes in self.nodes:
            level = nodes.level(max(self.rule.reach, nodes.cover.letters))
            branch = nodes.code[level] & (2**self.rule.reach - 1)
            first = nodes.centre[level[branch]]  # a level starts with all its words in order
            if np.linalg.norm(nodes.centre[level] - first, axis=-1).max() > _ATOM:
                return False
            if nodes.tangent[level].max() > _ATOM:
                return False
        return True

    # --- pairs
    # -------------------------------------------------------------------------------------------

    def _pairs(self, left: IntArray, right: IntArray) -> Pairs:
        assert self.nodes is not None
        mask = 2**self.rule.reach - 1
        a, x, b = (grid.reshape(-1) for grid in np.meshgrid(left, np.arange(2), right, indexing="ij"))
        target = targets(self.rule)[self.nodes[0].code[a] & mask, x, self.nodes[1].code[b] & mask]
        weight = 0.5 ** (1.0 + self.nodes[0].length[a] + self.nodes[1].length[b])
        return Pairs(a, x, b, target, weight)

    def everything(self, *, bulk: bool) -> Pairs:
        """Pairs that hold all inputs of length ≥ 2K+1, or only the bulk."""
        return self._bulk if bulk else self._everything

    @cached_property
    def _bulk(self) -> Pairs:
        assert self.nodes is not None
        left, right = (nodes.level(max(self.rule.reach, nodes.cover.letters)) for nodes in self.nodes)
        return self._pairs(left, right)

    @cached_property
    def _everything(self) -> Pairs:
        return self.inputs(2 * self.rule.reach + 1)

    def inputs(self, shortest: int) -> Pairs:
        """Pairs that hold all inputs of at least that length, from 2K+1 on."""
        assert self.nodes is not None
        around = shortest - 1  # letters on both sides of a cell
        one, other = self.nodes
        # Words long enough for pairs of them to hold no shorter input.
        starts = [max(self.rule.reach, nodes.cover.letters, (around + 1) // 2) for nodes in self.nodes]
        pairs = [self._pairs(one.level(starts[0]), other.level(starts[1]))]
        # Inputs whose words are shorter than the nodes: one by one, unless padding with −1 makes them long.
        short = [
            {n: nodes.short_points(n) for n in range(start)} if not nodes.stationary else {}
            for nodes, start in zip(self.nodes, starts, strict=True)
        ]
        for count, points in short[0].items():
            pairs.append(self._pairs(points, other.level(max(around - count, starts[1]))))
            pairs += [self._pairs(points, few) for n, few in short[1].items() if count + n >= around]
        for count, points in short[1].items():
            pairs.append(self._pairs(one.level(max(around - count, starts[0])), points))
        return Pairs(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))

    def bounds(self, pairs: Pairs, classifier: FloatArray) -> Bounds:
        assert self.nodes is not None
        left, right = self.nodes[0], self.nodes[1]
        one, other = left.centre[pairs.left], right.centre[pairs.right]
        t, s = left.tangent[pairs.left], right.tangent[pairs.right]
        forward = np.empty_like(one)
        backward = np.empty_like(other)
        for letter in range(2):
            rows = pairs.letter == letter
            forward[rows] = one[rows] @ classifier[letter]
            backward[rows] = other[rows] @ classifier[letter].T
        size = np.linalg.norm(classifier, axis=(-2, -1))[pairs.letter]
        rounding = 8 * one.shape[-1] * _EPS * size
        return Bounds(
            score=pairs.target * (forward * other).sum(axis=-1),
            by_left=t * np.linalg.norm(backward, axis=-1),
            by_right=s * np.linalg.norm(forward, axis=-1),
            both=t * s * size + rounding,
            norm=np.sqrt((1 + t**2) * (1 + s**2)),
        )

    def split(self, pairs: Pairs, bounds: Bounds, *, bulk: bool) -> tuple[Pairs, BoolArray]:
        """Children of all pairs that can be split, and the mask of those that cannot."""
        assert self.nodes is not None
        can = [nodes.refinable(ids) for nodes, ids in zip(self.nodes, (pairs.left, pairs.right), strict=True)]
        by_left = can[0] & ((bounds.by_left >= bounds.by_right) | ~can[1])
        by_right = can[1] & ~by_left
        parts = []
        for mask, which in ((by_left, 0), (by_right, 1)):
            if not mask.any():
                continue
            one, nodes = pairs.take(mask), self.nodes[which]
            ids = one.left if which == 0 else one.right
            new = [*nodes.children(ids).T]
            if not bulk and not nodes.stationary:
                new.append(nodes.points(ids))
            for child in new:
                field = {"left" if which == 0 else "right": child}
                parts.append(one._replace(**field, weight=one.weight / 2))
        parts.append(pairs.take(np.zeros(0, dtype=np.int64)))
        return Pairs(*(np.concatenate(fields) for fields in zip(*parts, strict=True))), ~(by_left | by_right)

    # --- answers
    # -------------------------------------------------------------------------------------------

    def certify(self, classifier: FloatArray, max_cells: int, shortest: int | None = None) -> Certificate:
        """Decide one classifier, for inputs of length 2K+1 or ``shortest`` on."""
        attention, rule = self.attention, self.rule
        first = 2 * rule.reach + 1 if shortest is None else shortest
        norm = float(np.linalg.norm(classifier)) or 1.0
        short = shortest_counterexample(attention, rule, classifier, short_lengths(first))
        if short is not None:
            return refuted(attention, rule, classifier, short)
        if self.nodes is None:
            found = self.witness and counterexample_among(attention, rule, classifier, self.sides, *self.witness, first)
            if found:
                return refuted(attention, rule, classifier, found)
            return Certificate(
                None,
                -np.inf,
                None,
                "undecided: no invariant cone was found, by words of up to 13 letters, nor excluded",
            )
        unit, pairs = classifier / norm, self._everything if shortest is None else self.inputs(shortest)
        smallest = proven = np.inf
        while True:
            bounds = self.bounds(pairs, unit)
            lowest = int(bounds.score.argmin())
            if bounds.score[lowest] < 0:
                found = self._as_input(pairs, lowest, classifier)
                if found is not None:
                    return refuted(attention, rule, classifier, found)
            smallest = min(smallest, float(bounds.score[lowest]))
            bound = bounds.lowest
            still_open = bound < (1 - _ACCURACY) * smallest if smallest > 0 else bound <= 0
            proven = min(proven, float(bound[~still_open].min(initial=np.inf)))
            depth = int(max(n.length[ids].max() for n, ids in zip(self.nodes, (pairs.left, pairs.right), strict=True)))
            pairs, bounds, bound = pairs.take(still_open), bounds.take(still_open), bound[still_open]
            if not bound.size or (bound.min() > 0 and bound.size > max_cells):
                proven = min(proven, float(bound.min(initial=np.inf)))
                return Certificate(
                    True, proven, None, f"all balls of up to {depth} letters are right, margin {proven:.3g}"
                )
            if bound.size > max_cells:
                message = (
                    f"undecided: stopped at words of {depth} letters with {bound.size} pairs of balls open; raise "
                    f"max_cells above {max_cells}"
                )
                return Certificate(None, float(bound.min()), None, message)
            pairs, stuck = self.split(pairs, bounds, bulk=False)
            if stuck.any():
                proven = min(proven, float(bound[stuck].min()))
            if proven <= 0:
                message = f"undecided: at words of {depth} letters a score is zero within rounding; move the classifier"
                return Certificate(None, proven, None, message)

    def bulk_error(self, classifier: FloatArray, tolerance: tuple[float, float], max_cells: int) -> tuple[float, float]:
        """Bounds of the bulk error."""
        if self.nodes is None and self.deep.nodes is not None:
            # The boundary vectors can lead to both signs of the contexts, in unknown parts.
            lower, upper = self.deep.bulk_error(classifier, tolerance, max_cells)
            return min(lower, 1 - upper), max(upper, 1 - lower)
        if self.nodes is None:
            if self.deep.status == -1 and mixes(self.sides[0].tensors):
                value = float(np.where((classifier == 0).all(axis=(-2, -1)), 1.0, 0.5).mean())
                return value, value
            return 0.0, 1.0
        pairs = self.everything(bulk=True)
        silent = (classifier == 0).all(axis=(-2, -1))[pairs.letter]
        wrong, lost = float(pairs.weight[silent].sum()), 0.0
        pairs = pairs.take(~silent)
        while True:
            bounds = self.bounds(pairs, classifier)
            is_wrong = bounds.score < -bounds.error
            wrong += float(pairs.weight[is_wrong].sum())
            still_open = ~is_wrong & (bounds.score <= bounds.error)
            pairs, bounds = pairs.take(still_open), bounds.take(still_open)
            undecided = lost + float(pairs.weight.sum())
            enough = undecided <= max(tolerance[0], tolerance[1] * wrong)
            if enough or not pairs.weight.size or pairs.weight.size > max_cells:
                return wrong, min(wrong + undecided, 1.0)
            weight = pairs.weight
            pairs, stuck = self.split(pairs, bounds, bulk=True)
            lost += float(weight[stuck].sum())

    def _as_input(self, pairs: Pairs, number: int, classifier: FloatArray) -> Counterexample | None:
        """The input whose contexts are the centres of a pair, if it is a counterexample."""
        assert self.nodes is not None
        left, right = self.nodes[0].word(int(pairs.left[number])), self.nodes[1].word(int(pairs.right[number]))
        return verified(self.attention, self.rule, classifier, left, int(pairs.letter[number]), right)

    def site(self, pairs: Pairs, number: int) -> Site:
        """One pair's centres as a site."""
        one = pairs.take(np.array([number]))
        return self.site_of(int(one.left[0]), int(one.letter[0]), int(one.right[0]), float(one.target[0]))

    def site_of(self, left: int, letter: int, right: int, target: float) -> Site:
        """The centres of two nodes around a letter as a site."""
        assert self.nodes is not None
        feature = np.zeros(self.attention.tensors.shape)
        feature[letter] = np.outer(self.nodes[0].centre[left], self.nodes[1].centre[right])
        words = self.nodes[0].word(left), self.nodes[1].word(right)
        return Site(words[0], letter, words[1], int(target), feature.reshape(-1))

    @cached_property
    def normals(self) -> FloatArray:
        """Features times output of all inputs, where the K nearest letters determine the contexts."""
        pairs = self.everything(bulk=False)
        sites = [self.site(pairs, number) for number in range(pairs.target.size)]
        features = np.array([site.target * site.feature for site in sites])
        _, first = np.unique(features.round(9), axis=0, return_index=True)
        return features[np.sort(first)]

    @cached_property
    def corners(self) -> list[Corner]:
        """Where the K nearest letters determine the contexts: one corner a neighbourhood, all of them atoms."""
        if self.status == -1:
            raise ValueError("attention must have an invariant cone to have a transition to zero error, got none")
        if not self.atoms:
            raise ValueError(
                "exponents() needs bond 2 or contexts that depend on finitely many letters; use exponent(flow, initial)"
            )
        reach, pairs = self.rule.reach, self.everything(bulk=True)
        corners = {}
        for number in range(pairs.target.size):
            site = self.site(pairs, number)
            near, far = (word[len(word) - reach :] for word in (site.left, site.right))
            around = spins_of((*near, site.letter, *far[::-1]))
            corners[around] = Corner(
                neighbourhood=around,
                target=site.target,
                left_word=(),
                left_near=spins_of(near),
                right_near=spins_of(far[::-1]),
                right_word=(),
                left_dimension=0.0,
                right_dimension=0.0,
                left_log_period=np.inf,
                right_log_period=np.inf,
                normal=site.target * site.feature,
                weight=0.5 ** (2 * reach + 1),
            )
        return [corners[around] for around in sorted(corners)]

    def zero_test_time(self, flow: Flow, initial: FloatArray) -> FloatArray:
        """As in the public class."""
        if self.status == 0:
            raise ValueError("attention must have an invariant cone or clearly none: neither was found")
        if self.status == -1:
            return np.full(initial.shape[:-1], np.inf)[()]
        if self.atoms:
            return flow.cone_time(self.normals, initial)
        flat = initial.reshape(-1, initial.shape[-1])
        times = [last_site(self, flow, start, bulk=False)[0] for start in flat]
        return np.array(times).reshape(initial.shape[:-1])[()]

    def exponent(self, flow: Flow, initial: FloatArray) -> RunExponent:
        """As in the public class."""
        if self.status != 1:
            raise ValueError("attention must have an invariant cone to have a transition to zero error, found none")
        if self.atoms:
            return run_exponent(self.corners, flow, initial)
        flat = initial.reshape(-1, initial.shape[-1])
        found = [last_site(self, flow, start, bulk=True) for start in flat]
        corners: list[Corner] = []
        index = np.full(len(flat), -1)
        for number, (time, site) in enumerate(found):
            if site is not None and np.isfinite(time):
                index[number] = len(corners)
                corners.append(periodic_corner(self, site))
        times = np.array([time for time, _ in found])
        shape = initial.shape[:-1]
        return RunExponent(times.reshape(shape)[()], index.reshape(shape)[()], tuple(corners))
