r"""A transition, measured: when every run reaches zero error, how late, how abruptly, and how the error gets there.

Object.  Runs are errors on common times (:mod:`grokphase.transition.logs`).  For each, the zero-train and the
zero-test time t_ε are the first records with an error of at most ``tolerance``, and the grokking time is their
difference t_G.  A run that does not get there is censored and stays in: how each method uses it is said there.

Everything is computed from the records of the errors; nothing is known of the model, the data or the training.

References: Žunkovič & Ilievski 2024, Secs. 2 and 4.3; the modules of this folder for the methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from grokphase._checks import choice, integer, real, real_array
from grokphase.transition import alignment
from grokphase.transition._scaling_law import Records
from grokphase.transition.exponent import (
    ExponentFit,
    Plateau,
    ShortScalingWindow,
    Window,
    choose_window,
    fit_exponent,
    reason_to_refuse,
)
from grokphase.transition.logs import read_runs
from grokphase.transition.modes import Modality, modality
from grokphase.transition.order import Order, favours_jump, nearest_error, transition_order
from grokphase.transition.survival import MeanTime, Survival, mean_delay, survival_curve
from grokphase.transition.zero_times import CensoredTimes, Which, delay, zero_times

__all__ = ["Transition", "measure"]

_ALIGNMENTS = ("zero_test_time", "zero_train_time", "fixed_time")


class _FitOptions(NamedTuple):
    confidence: float
    replicates: int
    seed: int
    min_decades: float


@dataclass(frozen=True, eq=False)
class Transition:
    """What was measured; made by :func:`measure`.

    Attributes
    ----------
    runs
        The dataset that was measured, dimensions (member, time).
    tolerance, window, which
        As given to :func:`measure`.
    zero_train_time, zero_test_time, grokking_time
        Per member, with bounds; see :class:`~grokphase.transition.zero_times.CensoredTimes`.
    """

    runs: xr.Dataset
    tolerance: float
    window: tuple[float, float] | None
    which: Which
    zero_train_time: CensoredTimes
    zero_test_time: CensoredTimes
    grokking_time: CensoredTimes

    def survival(self, confidence: float = 0.95) -> Survival:
        """Share of runs that still have test errors, against the time since zero training error.

        Parameters
        ----------
        confidence
            Level of the pointwise interval.

        Returns
        -------
        Survival
            Kaplan-Meier estimate with ``.time``, ``.probability``, ``.low``, ``.high``, ``.median``, ``.horizon`` and
            the counts ``.events``, ``.censored``, ``.unknown``.

        Raises
        ------
        ValueError
            If no run reached zero training or test error.

        Notes
        -----
        Runs that do not grok count up to the end of their record.  Runs without zero training error are left out, as
        the clock has not started.  See :mod:`grokphase.transition.survival`.
        """
        return survival_curve(self.grokking_time, confidence)

    def mean_grokking_time(self, restricted_to: float | None = None, runs: str = "all") -> MeanTime:
        """Mean of the delay max(t_G, 0) and its standard error.

        Parameters
        ----------
        restricted_to
            τ: the mean of min(delay, τ).  Needed where runs are censored, as their share of the mean is unknown.
        runs
            "all": censored runs are used for what they say.  For comparison, what leaving runs out would have said:
            "reached", only those that grokked; "published", of these only those with t_G > 0.

        Returns
        -------
        mean, stderr

        Raises
        ------
        ValueError
            If the mean does not exist, or ``restricted_to`` exceeds the longest record.
        """
        return mean_delay(self.grokking_time, restricted_to, runs)

    def aligned(self, about: str = "zero_test_time", offsets: ArrayLike | None = None) -> xr.Dataset:
        """Mean over members of every variable, at equal distance from the transition.

        Parameters
        ----------
        about
            "zero_test_time" or "zero_train_time": what is at offset 0; members that do not reach it are left out.
            "fixed_time": the alternative without alignment, over all members at every recorded time.
        offsets
            Times since then, ascending; by default multiples of the sampling step as far as half of the members reach.

        Returns
        -------
        xarray.Dataset
            For every variable its mean and ``<name>_stderr`` along ``offset`` (or ``time``), ``count`` members, and
            ``selection_bias`` with its ``_stderr``: how much aligning at the first zero exaggerates the test error at
            the least.

        Raises
        ------
        ValueError
            If no member reaches it.

        Notes
        -----
        See :mod:`grokphase.transition.alignment`.
        """
        choice("about", about, _ALIGNMENTS)
        if about == "fixed_time":
            if offsets is not None:
                raise ValueError("offsets must be left out with about='fixed_time', which uses the recorded times")
            return alignment.fixed_time_means(self.runs)
        return alignment.aligned_means(self.runs, getattr(self, about), about, self.tolerance, offsets)

    def exponent(
        self, confidence: float = 0.95, *, min_decades: float = 1.0, replicates: int = 1000, seed: int = 0
    ) -> ExponentFit:
        """Exponent ν of the mean test error before its zero, E ∝ (t_ε − t)^ν.

        Parameters
        ----------
        confidence
            Level of the interval.
        min_decades
            Decades of distance to the transition that the window must span.
        replicates, seed
            Of the bootstrap over runs.

        Returns
        -------
        ExponentFit
            ``.value``, ``.low``, ``.high``; ``.window`` (near, far) distance; ``.goodness``, the p-value of the
            residuals given the scatter of the runs, and ``.misfit``, their size (relative); ``.systematic``, the part
            of the interval that covers what the residuals exceed the scatter by; ``.plateau``, the estimate against
            the far end.

        Raises
        ------
        ShortScalingWindow
            If the records do not carry an exponent; the fit so far is in its ``fit``.

        Notes
        -----
        See :mod:`grokphase.transition.exponent` for method and refusals.
        """
        options = _fit_options(confidence, min_decades, replicates, seed)
        chosen, plateau = self._chosen(options.min_decades)
        fit = fit_exponent(chosen, plateau, self._records, options.confidence, options.replicates, options.seed)
        order = self._order(options) if favours_jump(chosen) else None
        if order is not None and order.kind == "first":
            raise ShortScalingWindow(f"the transition is of first order, a jump has no exponent: {order.evidence}", fit)
        reason = reason_to_refuse(fit, chosen, self._records, options.min_decades)
        if reason is None and order is not None:
            reason = f"the error may jump to zero, and a jump has no exponent: {order.evidence}"
        if reason is not None:
            raise ShortScalingWindow(reason, fit)
        return fit

    def order(
        self, confidence: float = 0.95, *, min_decades: float = 1.0, replicates: int = 1000, seed: int = 0
    ) -> Order:
        """Whether the test error jumps to zero ("first"), goes there continuously, or cannot be told.

        Parameters
        ----------
        confidence, min_decades, replicates, seed
            As for :meth:`exponent`.

        Returns
        -------
        Order
            ``.kind``, ``.jump`` with ``.value``, ``.low``, ``.high``, ``.nearest_error`` and ``.evidence`` in words.

        Notes
        -----
        See :mod:`grokphase.transition.order`.
        """
        return self._order(_fit_options(confidence, min_decades, replicates, seed))

    def modes(self, *, significance: float = 0.05, replicates: int = 2000, seed: int = 0) -> Modality:
        """Whether the density of the grokking time has more than one mode.

        Parameters
        ----------
        significance, replicates, seed
            Of the test; see :func:`grokphase.transition.modes.modality`.

        Returns
        -------
        Modality
            ``.bimodal``, ``.p_value``, ``.test``, ``.locations``.

        Raises
        ------
        ValueError
            If no run reached both zero errors.

        Notes
        -----
        Over the runs that grokked: censored ones have no place in the density.  Recorded times lie on a grid, which a
        test takes for many modes; each is therefore put at random (with the given seed) within the interval in which it
        is known to lie.
        """
        times = self.grokking_time
        known = times.reached & np.isfinite(times.resolution)
        if not known.any():
            raise ValueError("no run reached zero training and test error after its first record: there is no density")
        rng = np.random.default_rng(integer("seed", seed))
        test, train = self.zero_test_time, self.zero_train_time
        spread = [rng.random(known.sum()) * zero.resolution[known] for zero in (test, train)]
        values = times.value[known] - spread[0] + spread[1]
        return modality(values, significance=significance, replicates=replicates, seed=seed)

    def describe(self) -> str:
        """One paragraph that says what was measured."""
        from grokphase.transition.summary import describe

        return describe(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything that was measured as plain numbers, strings, lists and dictionaries (None where there is none)."""
        from grokphase.transition.summary import to_dict

        return to_dict(self)

    @cached_property
    def _records(self) -> Records:
        zero = self.zero_test_time
        bracketed = zero.reached & np.isfinite(zero.low)
        if not bracketed.any():
            raise ShortScalingWindow("no run reaches zero test error after its first record")
        error = self.runs["test_error"].to_numpy()[bracketed]
        time = self.runs["time"].to_numpy().astype(np.float64)
        return Records(time, error, zero.value[bracketed], zero.low[bracketed])

    @cached_property
    def _orders(self) -> dict[_FitOptions, Order]:
        return {}

    @cached_property
    def _windows(self) -> dict[float, tuple[Window, Plateau]]:
        return {}

    def _chosen(self, min_decades: float) -> tuple[Window, Plateau]:
        """Window of the exponent and of the order."""
        if min_decades not in self._windows:
            self._windows[min_decades] = choose_window(self._records, self.tolerance, self.window, min_decades)
        return self._windows[min_decades]

    def _order(self, options: _FitOptions) -> Order:
        if options not in self._orders:
            nearest = 1.0
            try:
                nearest = nearest_error(self._records)
                chosen, _ = self._chosen(options.min_decades)
            except ShortScalingWindow as refusal:
                return Order.unknown(nearest, options.confidence, str(refusal))
            self._orders[options] = transition_order(
                self._records, chosen, options.confidence, options.replicates, options.seed
            )
        return self._orders[options]


def _fit_options(confidence: float, min_decades: float, replicates: int, seed: int) -> _FitOptions:
    return _FitOptions(
        confidence=real("confidence", confidence, minimum=0.0, maximum=1.0, exclusive=True),
        replicates=integer("replicates", replicates, minimum=100),
        seed=integer("seed", seed),
        min_decades=real("min_decades", min_decades, minimum=0.3),
    )


def measure(
    runs: Any, tolerance: float = 0.0, window: Sequence[float] | None = None, *, which: Which = "first"
) -> Transition:
    """Measure the transition to zero test error in an ensemble of runs.

    Parameters
    ----------
    runs
        A dataset from :func:`read_runs` or a simulation, with ``train_error`` and ``test_error`` of dimensions
        (member, time); anything else is handed to :func:`read_runs`.
    tolerance
        Largest error that counts as zero, between 0 and 1 (exclusive).
    window
        (near, far) distance before zero test error for the exponent and the order; by default chosen by a scan.
    which
        "first": zero-error times are the first record with zero error.  "final": the first after which it stays zero to
        the end of the record.

    Returns
    -------
    Transition

    Raises
    ------
    ValueError
        If an argument is out of range, or ``runs`` is not what it should be.

    Notes
    -----
    "first" is what the published averages use, and can be censored without bias; see
    :mod:`grokphase.transition.zero_times`.

    Examples
    --------
    A law with exponent 1 and a zero-test time that differs from run to run:

    >>> rng = np.random.default_rng(0)
    >>> time, zero_test = np.arange(1000.0), rng.uniform(300, 900, size=40)
    >>> error = np.clip((zero_test[:, None] - time) / 600, 0.0, 0.5)
    >>> transition = measure({"time": time, "train_error": np.clip(error - 0.2, 0, None), "test_error": error})
    >>> transition.zero_test_time.value[:3], zero_test[:3].round(1)
    (array([683., 462., 325.]), array([682.2, 461.9, 324.6]))
    >>> fit = transition.exponent()
    >>> fit.low < 1.0 < fit.high, round(fit.value, 1)
    (True, 1.0)
    >>> transition.order().kind
    'continuous'
    """
    runs = read_runs(runs)
    tolerance = real("tolerance", tolerance, minimum=0.0)
    if tolerance >= 1:
        raise ValueError(f"tolerance must be between 0 and 1 (exclusive), got {tolerance:g}")
    ends = None
    if window is not None:
        given = real_array("window", list(window), minimum=0.0, exclusive=True)
        if given.shape != (2,) or given[0] >= given[1]:
            raise ValueError(f"window must be two distances, near < far, got {window!r}")
        ends = (float(given[0]), float(given[1]))
    choice("which", which, ("first", "final"))

    time = runs["time"].to_numpy().astype(np.float64)
    train, test = (
        zero_times(time, runs[name].to_numpy().astype(np.float64), tolerance, which)
        for name in ("train_error", "test_error")
    )
    return Transition(runs, tolerance, ends, which, train, test, delay(test, train))
