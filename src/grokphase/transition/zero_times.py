r"""Times at which an error becomes zero, and the delay between two of them, with what is known of each.

Object.  An error recorded at times t_0 < t_1 < ... is zero from the first record on that is at most ``tolerance``
("first"), or from the first record of the last unbroken stretch of such records ("final").  The delay of the test
error behind the training error is the grokking time t_G (negative where the test error is first).

Conventions.  A time is known up to the sampling: it lies in (``low``, ``high``], where ``high`` is the record that
showed zero and ``low`` the record before it (−∞ where the very first record is zero).  A run that did not get there
by its last record is censored: ``low`` is that record and ``high`` = ∞.  The delay of a run whose test error got
there but not its training error is known to lie below ``high``; of one with neither, nothing is known.

"first" is a stopping time: whether it has come does not depend on what follows, so that the end of a record censors
it without bias.  "final" is not: a run may leave zero again after its last record, and a longer record can only
move it later.

References: Žunkovič & Ilievski 2024, Sec. 2 (t_ε, t_G) and Sec. 4.3.2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["CensoredTimes", "Which", "delay", "zero_times"]

_ROUNDING = 1e-7  # of accuracies in single precision

Which = Literal["first", "final"]


@dataclass(frozen=True, eq=False)
class CensoredTimes:
    """One time for every member, known to lie in (low, high].

    Attributes
    ----------
    value
        The record that showed it, shape (member,); where not ``reached``, the lower bound.
    low, high
        Bounds, shape (member,).
    reached
        Whether it happened within the record, shape (member,).
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    reached: NDArray[np.bool_]

    @property
    def censored(self) -> NDArray[np.bool_]:
        """Not reached within the record."""
        return ~self.reached

    @property
    def resolution(self) -> FloatArray:
        """Width of the interval that is known to hold the time; infinite where one of its ends is."""
        return self.high - self.low

    def __len__(self) -> int:
        return len(self.value)


def zero_times(time: FloatArray, error: FloatArray, tolerance: float, which: Which) -> CensoredTimes:
    """Zero-error times.

    Parameters
    ----------
    time
        Ascending, shape (time,).
    error
        Shape (member, time); NaN where there is no record.
    tolerance
        Largest error that counts as zero, up to rounding.
    which
        "first" or "final".
    """
    recorded = ~np.isnan(error)
    # An accuracy of 0.95 is an error of 0.05 up to rounding, and meant to count as zero with a tolerance of 0.05.
    limit = tolerance + _ROUNDING if tolerance > 0 else 0.0
    zero = recorded & (error <= limit)  # NaN compares as false
    if which == "final":
        # A record is in the last unbroken stretch if no record from it on is above the tolerance.
        above = recorded & ~zero
        zero &= ~np.logical_or.accumulate(above[:, ::-1], axis=1)[:, ::-1]
    reached = np.asarray(zero.any(axis=1))
    place = zero.argmax(axis=1)
    last = time.size - 1 - recorded[:, ::-1].argmax(axis=1)
    end = np.where(reached, place, last)

    # The last record before each column, −1 for none.
    previous = np.maximum.accumulate(np.where(recorded, np.arange(time.size), -1), axis=1)
    before = np.where(place > 0, np.take_along_axis(previous, np.maximum(place - 1, 0)[:, None], axis=1)[:, 0], -1)
    unrecorded = ~recorded.any(axis=1)
    low = np.where(reached, np.where(before >= 0, time[before], -np.inf), np.where(unrecorded, -np.inf, time[end]))
    high = np.where(reached, time[end], np.inf)
    return CensoredTimes(value=np.where(reached, high, low), low=low, high=high, reached=reached)


def delay(test: CensoredTimes, train: CensoredTimes) -> CensoredTimes:
    """Test time minus training time."""
    reached = test.reached & train.reached
    with np.errstate(invalid="ignore"):
        low, high = test.low - train.high, test.high - train.low
        only_train, only_test = train.reached & ~test.reached, test.reached & ~train.reached
        # A censored time is no less than the last record, but a delay is measured between records.
        low = np.where(only_train, test.low - train.value, low)
        high = np.where(only_test, test.value - train.low, high)
    # Where neither end is known, ∞ − ∞ says that nothing is.
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    value = np.where(reached, np.where(reached, test.value, 0.0) - np.where(reached, train.value, 0.0), low)
    return CensoredTimes(value=value, low=low, high=high, reached=reached)
