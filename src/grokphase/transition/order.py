r"""Does the test error jump to zero, or go there continuously?

Object.  E = J + A s^ν e^{cs} at distance s before zero test error, with J ≥ 0 and ν ≥ 0.2, in the window of the
exponent's fit (:mod:`grokphase.transition.exponent`); J is the jump, with an interval made as the exponent's is, but
never beyond the error at the nearest records and its own error.

Evidence.  The jump is favoured if both hold:

- without it (J = 0, the other parameters fitted anew) the squared misfit, plus what the scatter of the runs leads to,
  is more than twice as large;
- J is more than half of the mean error at the nearest records, or it is more than a tenth of it and differs from zero,
  beyond its systematic error, at a level of 1e-3 (Student's t).

Decision.  "first": a jump is favoured and is more than half of the error at the nearest records.  "continuous": none is
favoured, and J is certainly below a tenth of the largest mean error before the transition.  "undecided": anything else,
and always with fewer than eight runs.  An exponent is refused where a jump is favoured; that one cannot be excluded is
no reason.

Conventions.  Both statements are about what the sampling of time resolves: an error that falls continuously but
within one sampling step is a jump, and so is a power law with an exponent far below 0.2.

Approximate as the exponent's interval is.  Measured with ``benchmarks/coverage_exponent.py``, 500 ensembles in each
case: a jump was favoured in 6 of 9000 continuous ensembles.  Of six kinds of jumps from more than half of the error at
the nearest records, 2998 of 3000 ensembles were called "first", and an exponent was sold in one (0.29).  Smaller jumps
are not resolved: of ensembles that jump from about 0.54, 0.42, 0.28 and 0.27 of that error, an exponent was sold in
0, 43, 42 and 88%, somewhat smaller than that of the continuous part (0.36 and 0.42 for 0.5; 0.91 for 1).

References: Žunkovič & Ilievski 2024, Secs. 3.2 and 4.3.1 (where the solvable models are found to be continuous).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from grokphase._checks import FloatArray
from grokphase.transition._scaling_law import Records
from grokphase.transition.exponent import FEWEST_RUNS, Window

__all__ = ["Jump", "Order", "favours_jump", "nearest_error", "transition_order"]

_MOSTLY = 0.5  # of the error at the nearest records
_NEGLIGIBLE = 0.1  # of the largest error before the transition, or of that at the nearest records
_FITS_BETTER = 2.0  # ratio of squared misfits without and with a jump
_LEVEL = 1e-3  # of a jump that is smaller than half of the error at the nearest records


class Jump(NamedTuple):
    """Test error just before zero, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Order:
    """Order of a transition; see :meth:`Transition.order`."""

    kind: Literal["first", "continuous", "undecided"]
    jump: Jump
    nearest_error: float
    confidence: float
    evidence: str

    @classmethod
    def unknown(cls, nearest_error: float, confidence: float, reason: str) -> "Order":
        """Undecided: the jump may be anything up to the nearest error."""
        return cls("undecided", Jump(nearest_error, 0.0, nearest_error), nearest_error, confidence, reason)


def transition_order(records: Records, chosen: Window, confidence: float, replicates: int, seed: int) -> Order:
    """Order of the transition in the window of the exponent's fit; see :meth:`Transition.order`."""
    bins = chosen.bins
    runs = len(bins.errors)
    if runs < FEWEST_RUNS:
        reason = f"{runs} runs cover the window, at least {FEWEST_RUNS} are needed"
        return Order.unknown(nearest_error(records), confidence, reason)

    fitted = chosen.with_jump()
    low, high = (bins.scale * bound for bound in fitted.interval("jump", confidence, replicates, seed))
    # The error rises with the distance: a jump is no larger than what is left at the nearest records.
    relative = stats.t.isf((1 - confidence) / 2, runs - 1) * np.sqrt(bins.scatter[0, 0])
    jump = Jump(bins.scale * fitted.of("jump"), max(low, 0.0), min(high, bins.scale * float(1 + relative)))
    jump = Jump(jump.value, min(jump.low, jump.value), max(jump.high, jump.value))
    favoured = favours_jump(chosen)
    at_near = bins.scale
    said = f"of an error of {at_near:.2g} at the nearest records, {jump.value:.2g} [{jump.low:.2g}, {jump.high:.2g}] "
    if favoured and jump.value > _MOSTLY * at_near:
        said += "does not vanish as the transition is approached"
        return Order("first", jump, at_near, confidence, said)
    if not favoured and jump.high < _NEGLIGIBLE * _largest_mean(records):
        return Order("continuous", jump, at_near, confidence, said + "may be a jump; the rest vanishes continuously")
    said += "is a jump in the better fit" if favoured else "may be a jump"
    return Order("undecided", jump, at_near, confidence, said + ": more runs or denser records would tell")


def nearest_error(records: Records) -> float:
    """Mean error of the nearest records."""
    return records.mean_error(float(records.step.max()))


def favours_jump(chosen: Window) -> bool:
    """Whether there is evidence of a jump in the window of the exponent's fit: the criterion of the header."""
    if len(chosen.bins.errors) < FEWEST_RUNS:
        return False
    fitted = chosen.with_jump()
    without = fitted.without_jump()
    scatter = without.expected_misfit()
    if without.squared_misfit() + scatter <= _FITS_BETTER * (fitted.squared_misfit() + scatter):
        return False
    share = fitted.of("jump")  # of the error at the nearest records
    stderr, systematic = fitted.errors("jump")
    certain = share - systematic > stats.t.isf(_LEVEL, len(fitted.bins.errors) - 1) * stderr
    return bool(share > _MOSTLY or (certain and share > _NEGLIGIBLE))


def _largest_mean(records: Records) -> float:
    """Largest mean error at any distance, in ten groups of records."""
    groups: list[FloatArray] = [part for part in np.array_split(records.error, 10) if part.size]
    return float(max(part.mean() for part in groups))
