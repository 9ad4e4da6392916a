r"""Thermodynamic limit of bond-2 attention: everything from the extreme rays of two cones.

Object: :class:`PlanarLimit`, the half of :class:`~grokphase.student.limit.ThermodynamicLimit` for bond 2; arguments are
checked there.  Joins the cones (:mod:`limit_cones`), corners (:mod:`limit_corners`), certificates
(:mod:`limit_certify`) and the measure (:mod:`limit_error`).

Without an invariant cone the bulk error is ½ (:mod:`limit_mixing`).  The cone may also be reached with both signs,
if the boundary vector is not inside it; then the error is a mixture, with the probability of the signs
bounded by the contexts behind the first letters.

References: Žunkovič & Ilievski 2024, Sec. 4.3.1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.student.attention import Attention
from grokphase.student.limit_certify import planar_certificate, planar_verdicts
from grokphase.student.limit_cones import CANDIDATES
from grokphase.student.limit_corners import CornerBlock, PlanarSide, bulk_corners, corner_blocks, essential, normals
from grokphase.student.limit_error import planar_error
from grokphase.student.limit_inputs import Side, backwards, both_sides, spins_of, targets
from grokphase.student.limit_mixing import mixes
from grokphase.student.limit_results import Attractor, Certificate, ContextSet, Corner, Flow, RunExponent, run_exponent
from grokphase.student.limit_sites import Pool, pools_of

__all__ = ["PlanarLimit"]

IntArray = NDArray[np.int64]

_ONE_RAY = 1e-13  # sine of the opening angle of a cone that is a single ray
_SIGN_LETTERS = 14  # letters by which the sign of a context is looked for, where the boundary vector is no help


@dataclass(frozen=True)
class PlanarLimit:
    """Limit of one bond-2 attention, or of a batch of them."""

    attention: Attention
    rule: CellularAutomaton

    @cached_property
    def sides(self) -> tuple[PlanarSide, PlanarSide]:
        """Left and right; all attentions of a batch along one axis."""
        left, right = both_sides(self.attention)
        if self.attention.batch_shape:
            left, right = (Side(side.tensors.reshape(-1, 2, 2, 2), side.start.reshape(-1, 2)) for side in (left, right))
        return PlanarSide.of(left), PlanarSide.of(right)

    @cached_property
    def blocks(self) -> list[CornerBlock]:
        return corner_blocks(*self.sides, self.rule)

    def pools(self, number: int) -> list[Pool]:
        """Inputs among which the counterexamples are, of the attention with a number."""
        if number not in self._pools:
            batch = bool(self.attention.batch_shape)
            left, right = (side.member(number) if batch else side for side in self.sides)
            self._pools[number] = pools_of((left, right), self.rule)
        return self._pools[number]

    @cached_property
    def _pools(self) -> dict[int, list[Pool]]:
        return {}

    @cached_property
    def corners(self) -> list[Corner]:
        if any(int(side.attractor.status) != 1 for side in self.sides):
            raise ValueError("attention must have an invariant cone to have a transition to zero error, got none")
        return bulk_corners(*self.sides, self.rule)

    @property
    def status(self) -> IntArray:
        """1 where all contexts lie in pointed invariant cones, −1 where clearly not, 0 where rounding decides."""
        status = np.minimum(self.sides[0].reachable.status, self.sides[1].reachable.status)
        return np.asarray(status).reshape(self.attention.batch_shape)

    @cached_property
    def normals(self) -> FloatArray:
        """Features times output that imply all others, shape (*T, F, 8)."""
        batch = self.attention.batch_shape
        features = [normals(block) for block in self.blocks]
        if batch:
            return np.concatenate([part.reshape(*batch, -1, 8) for part in features], axis=-2)
        chosen = [part[essential(block)].reshape(-1, 8) for part, block in zip(features, self.blocks, strict=True)]
        return np.concatenate(chosen)

    def attractor(self) -> Attractor:
        left, right = (self._context_set(side, k) for k, side in enumerate(self.sides))
        return Attractor(left, right)

    def _context_set(self, side: PlanarSide, which: int) -> ContextSet:
        status = int(side.attractor.status)
        if status != 1:
            return ContextSet(False if status == -1 else None, None, (), None, None)
        reach = self.rule.reach
        rays = side.rays(side.attractor, reach).rays.reshape(-1, 2, 2)
        order = slice(None) if which == 0 else backwards(reach)
        step = 1 if which == 0 else -1  # the right side reads from the cell on
        words = []
        for source in side.attractor.source:
            word, behind = CANDIDATES[source]
            assert word is not None  # the attractor does not know the boundary vector
            words.append((spins_of(word[::step]), spins_of(behind[::step])))
        return ContextSet(True, rays[order], tuple(words), None, None)

    def zero_test_time(self, flow: Flow, initial: FloatArray) -> FloatArray:
        if (self.status == 0).any():
            raise ValueError(
                "rounding hides whether the attention has an invariant cone; change its tensors by more than that"
            )
        if not self.attention.batch_shape and self.status == -1:
            return np.full(initial.shape[:-1], np.inf)[()]
        time = flow.cone_time(self.normals, initial)
        return np.where(self.status == 1, time, np.inf)[()]

    def exponent(self, flow: Flow, initial: FloatArray) -> RunExponent:
        return run_exponent(self.corners, flow, initial)

    def certify(self, classifier: FloatArray, max_cells: int = 0) -> Certificate:
        return planar_certificate(self.attention, self.rule, self.sides, self.blocks, self.pools(0), classifier)

    def verdicts(
        self, classifiers: FloatArray, which: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Verdicts and margins of many classifiers, each for the attention ``which`` of the batch."""
        return planar_verdicts(self.sides, self.blocks, self.rule, classifiers, which, self.pools)

    def bulk_error(self, classifier: FloatArray, tolerance: tuple[float, float], max_cells: int) -> tuple[float, float]:
        """Bounds of the bulk error of one attention."""
        cones = [side.attractor for side in self.sides]
        status = min(int(cone.status) for cone in cones)
        if status == -1 and mixes(self.sides[0].side.tensors):
            silent = (classifier == 0).all(axis=(-2, -1))
            value = float(np.where(silent, 1.0, 0.5).mean())
            return value, value
        if status != 1:
            return 0.0, 1.0
        rows = []
        for side, cone in zip(self.sides, cones, strict=True):
            branches = cone.rays[None]
            for _ in range(self.rule.reach):
                branches = (branches[:, None] @ side.side.tensors).reshape(-1, 2, 2)
            rows.append((branches, _within(cone.rays, cone.rays @ side.side.tensors)))
        found = planar_error(
            rows[0],
            rows[1],
            classifier,
            targets(self.rule),
            slack=float(sum(self._slack(side) for side in self.sides)),
            tolerance=tolerance,
            max_cells=max_cells,
        )
        lower, upper = found.wrong, found.wrong + found.undecided
        return self._mixed(lower, min(upper, 1.0))

    def _slack(self, side: PlanarSide) -> float:
        """Error of the rays of cone and branches, as an angle."""
        return float(max(side.attractor.slack.max(), side.rays(side.attractor, self.rule.reach).slack.max()))

    def _mixed(self, lower: float, upper: float) -> tuple[float, float]:
        """Error where some inputs turn all contexts of a side around."""
        shares = [_positive_share(side) for side in self.sides]
        if shares == [(1.0, 1.0), (1.0, 1.0)]:
            return lower, upper
        values = []
        for left in shares[0]:
            for right in shares[1]:
                same = left * right + (1 - left) * (1 - right)
                values += [same * error + (1 - same) * (1 - error) for error in (lower, upper)]
        return min(values), max(values)


def _within(rays: FloatArray, vectors: FloatArray) -> FloatArray:
    """Coefficients P ≥ 0 with P @ rays = vectors, for images (2, 2, 2) of both rays in the cone over them."""
    base = rays[0, 0] * rays[1, 1] - rays[0, 1] * rays[1, 0]
    if abs(base) < _ONE_RAY:  # all contexts are the same
        return np.linalg.norm(vectors, axis=-1)[..., None] * np.eye(2)
    first = (vectors[..., 0] * rays[1, 1] - vectors[..., 1] * rays[1, 0]) / base
    second = (rays[0, 0] * vectors[..., 1] - rays[0, 1] * vectors[..., 0]) / base
    return np.maximum(np.stack([first, second], axis=-1), 0.0)


def _positive_share(side: PlanarSide) -> tuple[float, float]:
    """Bounds of the probability that the contexts lie in the attractor's cone and not in its negative."""
    if side.reachable.status == 1:
        return 1.0, 1.0
    coordinates = side.side.rows(_SIGN_LETTERS)[_SIGN_LETTERS] @ np.linalg.inv(side.attractor.rays)
    return float((coordinates > 0).all(axis=-1).mean()), 1 - float((coordinates < 0).all(axis=-1).mean())
