r"""Does the test error jump to zero, or go there continuously?

Object.  E = J + A s^ν e^{cs} at distance s before zero test error, with J ≥ 0 and ν ≥ 0.2, in the window of the
exponent's fit (:mod:`grokphase.transition.exponent`); J is the jump, with an interval made as the exponent's is.

Decision.  "first": J > 0 for certain, and J is more than half of the mean error at the nearest records.
"continuous": J = 0 is possible, and J is certainly below a tenth of the largest mean error before the transition.
"undecided": anything else, and always with fewer than eight runs.

Conventions.  Both statements are about what the sampling of time resolves: an error that falls continuously but
within one sampling step is a jump, and so is a power law with an exponent far below 0.2.

Approximate as the exponent's interval is.  In simulations with 40 runs, none of 4000 continuous transitions was
called a jump.

References: Žunkovič & Ilievski 2024, Secs. 3.2 and 4.3.1 (where the solvable models are found to be continuous).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from grokphase._checks import FloatArray
from grokphase.transition._scaling_law import Records
from grokphase.transition.exponent import FEWEST_RUNS, ShortScalingWindow, Window, choose_window

__all__ = ["Jump", "Order", "transition_order"]

_MOSTLY = 0.5  # of the error at the nearest records
_NEGLIGIBLE = 0.1  # of the largest error before the transition


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


def transition_order(
    records: Records,
    tolerance: float,
    window: tuple[float, float] | None,
    confidence: float,
    replicates: int,
    seed: int,
    min_decades: float,
) -> Order:
    """Order of the transition from the records before zero; see :meth:`Transition.order`."""
    nearest = records.mean_error(float(records.step.max()))
    try:
        chosen, _ = choose_window(records, tolerance, window, min_decades)
    except ShortScalingWindow as refusal:
        return Order.unknown(nearest, confidence, str(refusal))
    runs = len(chosen.bins.errors)
    if runs < FEWEST_RUNS:
        return Order.unknown(nearest, confidence, f"{runs} runs cover the window, at least {FEWEST_RUNS} are needed")

    bins = chosen.bins
    fitted = Window.fitted(bins, 0.0, 0.0, jump=True)
    low, high = (bins.scale * bound for bound in fitted.interval("jump", confidence, replicates, seed))
    jump = Jump(bins.scale * fitted.of("jump"), max(low, 0.0), high)
    jump = Jump(jump.value, min(jump.low, jump.value), max(jump.high, jump.value))
    largest = _largest_mean(records)
    at_near = bins.scale
    said = f"of an error of {at_near:.2g} at the nearest records, {jump.value:.2g} [{jump.low:.2g}, {jump.high:.2g}] "
    if jump.low > tolerance and jump.value > _MOSTLY * at_near:
        return Order("first", jump, at_near, confidence, said + "does not vanish as the transition is approached")
    if jump.low <= tolerance and jump.high < _NEGLIGIBLE * largest:
        return Order("continuous", jump, at_near, confidence, said + "may be a jump; the rest vanishes continuously")
    return Order("undecided", jump, at_near, confidence, said + "may be a jump: more runs or denser records would tell")


def _largest_mean(records: Records) -> float:
    """Largest mean error at any distance, in ten groups of records."""
    groups: list[FloatArray] = [part for part in np.array_split(records.error, 10) if part.size]
    return float(max(part.mean() for part in groups))
