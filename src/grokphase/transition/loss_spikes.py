r"""Spikes of a training loss: where, how high, how long, and what they did to the representation.

Object.  A spike is a peak of ln(loss) whose prominence (how far one must descend from it before climbing higher) is
at least ln ``factor`` and at least ``_NOISE`` times the scatter of ln(loss) from record to record.  Its height is
the loss at the peak over the higher of the two feet, its duration the time for which ln(loss) is above half of the
prominence.

With the effective dimension D_eff of some representation recorded beside the loss: its median over a spike's length
before and after. The spike simplified the representation if D_eff is lower after it, and complicated it if it is
higher, by more than the scatter of the two; else it is called unclear.

Approximate: the scatter is 1.48 times the median absolute difference of neighbouring records (over √2), which a
trend or rare spikes do not change.  A spike still going on when the record ends is found only if it has begun to
fall.

References: Žunkovič & Ilievski 2024, Sec. 5, Figs. 21 and 22.  ``scipy.signal.find_peaks``.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal

from grokphase._checks import FloatArray, real, real_array

__all__ = ["Spike", "spikes"]

_NOISE = 10.0  # noise itself rises by about 2√(2 ln n) standard deviations in n records: 8.6 in 1e4
_TO_DEVIATION = 1.4826  # of a normal law, from its median absolute deviation

Effect = Literal["simplified", "complicated", "unclear"]


class Spike(NamedTuple):
    """One spike; see :func:`spikes`."""

    time: float
    start: float
    end: float
    height: float
    peak: float
    dimension_before: float | None
    dimension_after: float | None
    effect: Effect | None

    @property
    def duration(self) -> float:
        """Time between start and end."""
        return self.end - self.start


def spikes(
    loss: ArrayLike,
    time: ArrayLike | None = None,
    *,
    effective_dimension: ArrayLike | None = None,
    factor: float = 2.0,
) -> list[Spike]:
    """Spikes of one run's loss, in order of time.

    Parameters
    ----------
    loss
        Recorded losses > 0, shape (time,).
    time
        Their times, ascending; by default 0, 1, 2, ...
    effective_dimension
        Effective dimension of a representation at the same times.
    factor
        Smallest rise that is a spike.

    Returns
    -------
    list of Spike
        ``time`` of the peak, ``start`` and ``end`` of its half height, ``duration``, ``height`` (a factor), ``peak``
        (the loss), and with ``effective_dimension`` its medians before and after and the ``effect``: "simplified",
        "complicated" or "unclear".

    Raises
    ------
    ValueError
        If shapes do not fit, a loss is not positive, times do not ascend, or ``factor`` is at most 1.

    Examples
    --------
    >>> loss = np.exp(-np.arange(100) / 20)
    >>> loss[60:63] *= [5, 30, 4]
    >>> [spike] = spikes(loss, effective_dimension=np.where(np.arange(100) < 61, 4.0, 2.5))
    >>> spike.time, round(spike.height), spike.effect
    (61.0, 27, 'simplified')
    """
    values = real_array("loss", loss, minimum=0.0, exclusive=True, ndim=1)
    if values.ndim != 1:
        raise ValueError(f"loss must have shape (time,): one run at a time, got shape {values.shape}")
    moments = np.arange(values.size, dtype=float) if time is None else real_array("time", time, ndim=1)
    if moments.shape != values.shape or (np.diff(moments) <= 0).any():
        raise ValueError(f"time must ascend and have shape {values.shape} as loss, got shape {moments.shape}")
    dimension = None if effective_dimension is None else real_array("effective_dimension", effective_dimension, ndim=1)
    if dimension is not None and dimension.shape != values.shape:
        raise ValueError(f"effective_dimension must have shape {values.shape} as loss, got shape {dimension.shape}")
    factor = real("factor", factor, minimum=1.0, exclusive=True)

    if values.size < 3:
        return []
    height = np.log(values)
    scatter = _deviation(np.diff(height)) / 2**0.5
    places, found = signal.find_peaks(height, prominence=max(np.log(factor), _NOISE * scatter))
    _, _, left, right = signal.peak_widths(
        height,
        places,
        rel_height=0.5,
        prominence_data=(found["prominences"], found["left_bases"], found["right_bases"]),
    )
    records = np.arange(values.size)
    out = []
    for place, prominence, begin, finish in zip(places, found["prominences"], left, right, strict=True):
        start, end = (float(np.interp(edge, records, moments)) for edge in (begin, finish))
        before, after, effect = _effect(dimension, int(np.floor(begin)), int(np.ceil(finish)))
        spike = Spike(
            time=float(moments[place]),
            start=start,
            end=end,
            height=float(np.exp(prominence)),
            peak=float(values[place]),
            dimension_before=before,
            dimension_after=after,
            effect=effect,
        )
        out.append(spike)
    return out


def _deviation(values: FloatArray) -> float:
    return _TO_DEVIATION * float(np.median(np.abs(values - np.median(values))))


def _effect(dimension: FloatArray | None, start: int, end: int) -> tuple[float | None, float | None, Effect | None]:
    """Medians over as many records as the spike takes (three at least) before ``start`` and after ``end``."""
    if dimension is None:
        return None, None, None
    length = max(end - start, 3)
    before, after = dimension[max(start + 1 - length, 0) : start + 1], dimension[end : end + length]
    levels = float(np.median(before)), float(np.median(after))
    scatter = np.hypot(_deviation(before) / before.size**0.5, _deviation(after) / after.size**0.5)
    change = levels[1] - levels[0]
    if abs(change) <= 2 * scatter + 1e-12 * levels[0]:
        return *levels, "unclear"
    return *levels, "simplified" if change < 0 else "complicated"
