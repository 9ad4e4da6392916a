r"""Zero-test times t_ε and grokking times t_G of an ensemble: as published, and with no run left out.

As published.  The histograms of Figs. 23, 26 and 27 hold runs with t_G > 0, t_ε below 10, 5, 3 (no penalty, L2, L1)
and t_G below the numbers in :data:`LATEST_GROKKING`.  The paper does not say so; the ends of the histograms do, and
since one of t_G may hold more runs than that of t_ε, each has its own cut.  By our clock only half of the runs have
t_G > 0: training error is that of an epoch's minibatches, so that a run whose tensors become right in epoch n has zero
test error at its end, and zero training error, a mean over epoch n + 1, one epoch later.  Those runs alone are not the
published ones: with 1000 runs of ours, K = 1, d = 10, their Kolmogorov-Smirnov distance to the published histograms of
t_ε and t_G is 0.22 and 0.21 with L2 (allowed is 0.11), 0.06 and 0.20 with L1 (0.11).  The runs with t_G ≥ −1 epoch,
95 % of all, are at 0.04 and 0.03, 0.01 and 0.02.  So the published t_G is taken to be ours plus :data:`EARLIER` epochs.

No run left out.  A run that has not reached zero test error when it ends says that its t_ε is later: it is censored,
at the end of its record.  Its delay max(t_G, 0) is at least what was recorded since zero training error; that of a run
whose test error was zero first is zero.  With so few who never get there known, what can be said are shares and means
of min(t, τ) (Kaplan & Meier: :mod:`grokphase.transition.survival`).

Standard errors: of means from the scatter of the runs, of shares binomial, of restricted means Greenwood's.

References: Žunkovič & Ilievski 2024, Figs. 23, 26, 27.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from grokphase._checks import FloatArray, choice
from grokphase.experiments._aligned import RATE, Estimate
from grokphase.experiments._ensembles import LATEST
from grokphase.transition import Modality, modality
from grokphase.transition.survival import Survival, mean_delay, survival_curve
from grokphase.transition.zero_times import CensoredTimes, delay

__all__ = [
    "EARLIER",
    "LATEST_GROKKING",
    "QUANTITIES",
    "UNKNOWN",
    "Times",
    "latest",
    "mean_of",
    "restricted_mean",
    "share_of",
    "times_of",
]

QUANTITIES = {"t_G": "grokking time", "t_eps": "zero-test time"}

LATEST_GROKKING = {
    **{(1, "none"): 10.0, (1, "L2"): 5.0, (1, "L1"): 1.0},
    **{(2, "none"): 10.0, (2, "L2"): 3.0, (2, "L1"): 0.5},
    **{(3, "none"): 15.0, (3, "L2"): 6.0, (3, "L1"): 1.0},
}
"""By reach and penalty: the published grokking times end just below these numbers."""

EARLIER = 2
"""Epochs by which the published clock of the training error is taken to be ahead of ours."""

UNKNOWN = Estimate(np.nan, np.inf)
"""What runs say that say nothing."""


@dataclass(frozen=True, eq=False)
class Times:
    """Zero-test and grokking times of all runs of an ensemble.

    Attributes
    ----------
    test, grokking
        t_ε and t_G with bounds, shape (member,); see :class:`~grokphase.transition.zero_times.CensoredTimes`.
    """

    test: CensoredTimes
    grokking: CensoredTimes

    def of(self, quantity: str) -> CensoredTimes:
        """t_ε or t_G of all runs."""
        return self.grokking if choice("quantity", quantity, QUANTITIES) == "t_G" else self.test

    def kind(self, name: str, quantity: str, reach: int, regularisation: str) -> NDArray[np.bool_]:
        """Who enters a mean, shape (member,).

        ``name``: "published", the runs that the published histogram would hold; "delayed", those of them with t_G > 0
        by our clock.
        """
        ahead = EARLIER * RATE if choice("name", name, ("published", "delayed")) == "published" else 0.0
        there = self.grokking.reached & (self.grokking.value + ahead > RATE / 2)
        return np.asarray(there & (self._by_published_clock(quantity) < latest(quantity, reach, regularisation)))

    def as_published(self, quantity: str, reach: int, regularisation: str) -> FloatArray:
        """Values of the runs that the published histogram would hold, by the published clock, shape (run,)."""
        return self._by_published_clock(quantity)[self.kind("published", quantity, reach, regularisation)]

    def delayed(self, quantity: str, reach: int, regularisation: str) -> FloatArray:
        """Values of the runs with t_G > 0, by our clock, shape (run,)."""
        return self.of(quantity).value[self.kind("delayed", quantity, reach, regularisation)]

    def _by_published_clock(self, quantity: str) -> FloatArray:
        return self.of(quantity).value + (EARLIER * RATE if quantity == "t_G" else 0.0)

    @property
    def never(self) -> NDArray[np.bool_]:
        """Who did not reach zero test error, shape (member,)."""
        return self.test.censored

    @property
    def not_delayed(self) -> NDArray[np.bool_]:
        """Who reached zero test error no later than zero training error, shape (member,)."""
        return np.asarray(self.test.reached & (self.grokking.high <= RATE * (1 + 1e-9)))

    def modes(self, values: str, reach: int, regularisation: str, rng: np.random.Generator) -> Modality | None:
        """Whether the grokking times have more than one mode; None: there are none.

        ``values``: "published" ones only, or of all runs that "reached" both zero errors.  Times are known to an epoch,
        which a test takes for many modes: each zero is put at random within its epoch.
        """
        if choice("values", values, ("published", "reached")) == "published":
            found = self.as_published("t_G", reach, regularisation)
        else:
            found = self.grokking.value[self.grokking.reached]
        if not found.size:
            return None
        early, late = rng.random((2, found.size)) * RATE
        return modality(found + early - late)

    def survival(self, quantity: str) -> Survival | None:
        """Share of runs that are not there yet, against time; None: no run says anything."""
        try:
            return survival_curve(self.of(quantity), 0.95)
        except ValueError:
            return None


def latest(quantity: str, reach: int, regularisation: str) -> float:
    """Published times are below this."""
    return LATEST[regularisation] if quantity == "t_eps" else LATEST_GROKKING[reach, regularisation]


def times_of(run: xr.Dataset, zero_train_time: FloatArray | None = None) -> Times:
    """Times of all runs of an ensemble.

    Parameters
    ----------
    run
        Trajectories from :func:`grokphase.simulate`.
    zero_train_time
        Times of zero training error that are to be used instead of the run's own, infinite: never; shape (member,).
    """
    end = run["last_time"].to_numpy()
    if zero_train_time is not None:
        run = run.assign(zero_train_time=("member", zero_train_time))
    test, train = (_known_to_an_epoch(run[f"zero_{which}_time"].to_numpy(), end) for which in ("test", "train"))
    return Times(test, delay(test, train))


def _known_to_an_epoch(zero: FloatArray, end: FloatArray) -> CensoredTimes:
    reached = np.isfinite(zero)
    value = np.where(reached, zero, end)
    return CensoredTimes(
        value=value, low=np.where(reached, zero - RATE, end), high=np.where(reached, zero, np.inf), reached=reached
    )


def mean_of(values: FloatArray) -> Estimate:
    """A mean and its standard error; unknown for fewer than two values.

    >>> mean_of(np.array([1.0, 3.0]))
    Estimate(value=2.0, stderr=1.0)
    """
    if values.size < 2:
        return UNKNOWN
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)))


def share_of(which: NDArray[np.bool_]) -> Estimate:
    """A share and its standard error; that of no or all runs is judged as if one and a half more were on either side.

    >>> share_of(np.array([True, False, False, False]))
    Estimate(value=0.25, stderr=0.21650635094610965)
    """
    number = which.size
    share = float(which.mean())
    spread = share if 0 < share < 1 else 1.5 / (number + 3)
    return Estimate(share, float(np.sqrt(spread * (1 - spread) / number)))


def restricted_mean(times: CensoredTimes, restricted_to: float) -> Estimate:
    """Mean over all runs of min(max(t, 0), τ); unknown where no run says enough."""
    try:
        found = mean_delay(times, restricted_to, "all")
    except ValueError:  # nothing recorded, or not as long as that
        return UNKNOWN
    return Estimate(found.mean, found.stderr) if np.isfinite(found.stderr) else UNKNOWN
