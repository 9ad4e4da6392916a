r"""Whether one trained student is right on every input of a length or longer: a proof, a counterexample, or neither.

Object.  The student predicts sgn(l_i B_{x_i} r_i) (:mod:`grokphase.runs.trained`); inputs are strings of at least
``shortest`` cells, all their cells count, and a score of zero is wrong.

*Throughout.*  For signs s_x and σ, the scores of the attention s_x A_x with the classifier σ s_x B_x are those of A, B
times the sign

    σ ∏_j s_{x_j},                                                                            (*)

the same for all cells of an input.  So a proof for such a pair that is not (1, 1, 1) proves that every input is right
throughout or wrong throughout, and (*) says which: by the parity of its length, or of the number of its cells −1 or +1.

*Errors.*  Where the contexts have no invariant cone every classifier errs: on long inputs contexts turn around.  Where
they have one, certified bounds of the error on endless inputs tell errors that only occur near the ends.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from dataclasses import dataclass

import numpy as np

from grokphase import Attention, ThermodynamicLimit
from grokphase._checks import FloatArray
from grokphase.rules import CellularAutomaton
from grokphase.runs.trained import TrainedStudent
from grokphase.student.limit_results import Certificate

__all__ = ["EFFORT", "ENDS", "ERRS", "KINDS", "OPEN", "RIGHT", "SIGNS", "THROUGHOUT", "Verdict", "judge", "turned"]

RIGHT, THROUGHOUT, ENDS, ERRS, OPEN = range(5)
KINDS = (
    "right on every input",
    "every input right throughout or wrong throughout",
    "errs, but only near the ends",
    "errs",
    "undecided",
)

SIGNS: dict[tuple[int, int, int], str] = {
    (1, 1, -1): "every input",
    (-1, -1, 1): "inputs of odd length",
    (-1, -1, -1): "inputs of even length",
    (-1, 1, 1): "inputs with an odd number of cells −1",
    (-1, 1, -1): "inputs with an even number of cells −1",
    (1, -1, 1): "inputs with an odd number of cells +1",
    (1, -1, -1): "inputs with an even number of cells +1",
}
"""Signs s₋, s₊ and σ, and which inputs are wrong throughout if the student that is turned by them is right."""

EFFORT = 2**16
"""Pairs of balls that may be undecided at a time."""


@dataclass(frozen=True)
class Verdict:
    """What is proven of a student.

    Attributes
    ----------
    kind
        Number of one of ``KINDS``.
    certificate
        Of the student; for THROUGHOUT that of the turned one.
    signs
        Those of the turned student, THROUGHOUT only.
    invariant_cone
        1 where the contexts have one, −1 where they have none, 0 where neither was found.
    bulk_error
        Certified bounds of the error per cell on endless inputs; (0, 1) where they were not asked for.
    """

    kind: int
    certificate: Certificate
    signs: tuple[int, int, int] | None = None
    invariant_cone: int = 1
    bulk_error: tuple[float, float] = (0.0, 1.0)

    @property
    def length(self) -> int:
        """Length of the counterexample, 0 without one."""
        found = self.certificate.counterexample
        return 0 if found is None else len(found[0])


def judge(student: TrainedStudent, rule: CellularAutomaton, shortest: int) -> Verdict:
    """The verdict on one student.

    Parameters
    ----------
    student
        Attention and classifier.
    rule
        What it was taught.
    shortest
        Length from which on inputs count, at least 2K+1.

    Returns
    -------
    verdict
        See :class:`Verdict`.
    """
    limit = ThermodynamicLimit(student.attention, rule)
    own = limit.certify(student.classifier, shortest=shortest, max_cells=EFFORT)
    if own.generalises:
        return Verdict(RIGHT, own, bulk_error=(0.0, 0.0))
    for signs in SIGNS:
        other = turned(student, signs)
        found = ThermodynamicLimit(other.attention, rule).certify(other.classifier, shortest=shortest, max_cells=EFFORT)
        if found.generalises:
            return Verdict(THROUGHOUT, found, signs)
    cone = int(limit.invariant_cone)
    if own.generalises is None:
        return Verdict(OPEN, own, None, cone)
    if cone != 1:
        return Verdict(ERRS, own, None, cone)
    lower, upper = limit.test_error(student.classifier, max_cells=EFFORT)
    return Verdict(ENDS if upper == 0 else ERRS, own, None, cone, (lower, upper))


def turned(student: TrainedStudent, signs: tuple[int, int, int]) -> TrainedStudent:
    """The student with the scores of (*)."""
    attention = student.attention
    by_spin: FloatArray = np.array(signs[:2], dtype=float)[:, None, None]
    other = Attention(by_spin * attention.tensors, left=attention.left, right=attention.right)
    return TrainedStudent(other, signs[2] * by_spin * student.classifier)
