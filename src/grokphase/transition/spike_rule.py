r"""After a loss spike: keep going if the effective dimension fell, go back to the state before it if it rose.

Object.  An online version of :func:`grokphase.spikes`, which looks back at a whole run.  Record n brings the loss and,
where it was measured, the effective dimension D_eff of some representation.  With h = ln(loss):

- *Spike.*  One begins when h exceeds its minimum over the last ``window`` records, the foot, by at least the larger of
  ln ``factor`` and ``_NOISE`` times the scatter of h from record to record.  Its start is the last record before that
  with h at most half of this above the foot; its end the first with h at most half of its own height above.
- *Decision.*  Medians of D_eff are compared: of as many values before the start as the spike took records (three at
  least, ``window`` at most; with D_eff measured now and then, fewer may be at hand), and of as many records from the
  end.  If D_eff rose by more than ``tolerance`` and twice the scatter of the two, the spike complicated the
  representation: go back.  If it fell by as much (simplified), or neither is clear: keep going.  A spike that goes on
  for ``patience`` records is judged by the latest of them.  A loss that is not finite leaves nothing to judge: back.
- *Snapshots.*  The rule says when to take one and which to go back to: the newest from before the foot.  Strictly
  before, since a loss tells of the weights that made it, and the step after it may be the one that went wrong.
- *Repetition.*  Training that is deterministic repeats its spike.  After ``max_rollbacks`` returns without a calm
  passage of 2 × ``window`` records the rule gives up and keeps going.

Conventions.  An algorithm is a pair of pure functions: :meth:`SpikeRule.start` gives a state, :meth:`SpikeRule.update`
takes it and a record and gives the next and a verdict.  Everything has the shape (...) of the loss: one run, or one
decision for each member of an ensemble.  The caller holds the snapshots, in numbered slots.  No result depends on a
branch, so all this also runs in compiled code: arrays that name their own namespace (``__array_namespace__``, as JAX's
do) are computed with it.

Differences to :func:`grokphase.spikes`.  What follows is not known: height is counted from the foot before the spike,
not from the higher of two, so a rise that does not come back is a spike as well; and spikes that follow within the
records that one is judged by are part of it.

References: Žunkovič & Ilievski 2024, Sec. 5, "we can revert the model only if the training-loss spikes correspond to an
increased effective dimension".
"""

from dataclasses import dataclass
from enum import IntEnum
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from grokphase._checks import integer, real

__all__ = ["Action", "Phase", "SpikeRule", "SpikeState", "Verdict"]

_NOISE = 10.0  # as for gp.spikes
_TO_DEVIATION = 1.4826  # likewise
_FEWEST = 3  # records that D_eff is compared over, likewise
_HIGHEST = 80.0  # ln of a height as reported, which float32 can hold
_EMPTY = -2  # record number of an empty slot; -1 is the state before the first record
_NONE = -1  # no slot

_Array = NDArray[Any]


class Action(IntEnum):
    """What to do after a record."""

    CONTINUE = 0  # nothing was decided
    KEEP = 1  # a spike is over: go on from here
    ROLL_BACK = 2  # go back to the snapshot in ``restore_slot``
    GIVE_UP = 3  # one should go back, but has been back too often or has nowhere to go: go on from here


class Phase(IntEnum):
    """Where a run is; D_eff is needed of every record that follows one in another phase than ``CALM``."""

    CALM = 0
    SPIKING = 1
    SETTLING = 2


class SpikeState(NamedTuple):
    """What the rule remembers; arrays of shape (...), histories (..., window) with the newest record last."""

    record: _Array  # number of the next one
    phase: _Array
    baseline_from: _Array  # first record that counts as a possible foot
    log_loss: _Array  # NaN: none
    dimension: _Array
    log_loss_before: _Array  # the histories up to the start of the spike under way
    dimension_before: _Array
    foot: _Array  # of that spike: record number, h, and the rise that made it one
    foot_level: _Array
    threshold: _Array
    detected: _Array
    start: _Array
    end: _Array
    peak: _Array  # its highest h, and the lowest since its end
    lowest: _Array
    saved: _Array  # (..., snapshots): number of the record after which each slot was filled
    last_saved: _Array
    rollbacks: _Array
    lost: _Array  # not finite, and nowhere to go back to


class Verdict(NamedTuple):
    """What to do after a record, and why; arrays of shape (...).

    Attributes
    ----------
    action
        An :class:`Action`.  Follow it before saving.
    save_slot
        Slot to put a snapshot of the present state in; −1: none.
    restore_slot, restored_record
        Slot to go back to, and the record after which it was filled (−1: before the first); −1 and −2 without.
    effect
        +1: the spike complicated the representation, −1: simplified, 0: unclear or not measured.
    dimension_before, dimension_after
        Medians of D_eff.  NaN: not measured, or nothing was decided.
    height
        Peak over foot, a factor.  NaN: nothing was decided.  Infinite: the loss was not finite.
    """

    action: _Array
    save_slot: _Array
    restore_slot: _Array
    restored_record: _Array
    effect: _Array
    dimension_before: _Array
    dimension_after: _Array
    height: _Array


@dataclass(frozen=True)
class SpikeRule:
    """The rule and its parameters; see the head of this module.

    Parameters
    ----------
    factor
        Smallest rise of the loss that is a spike.
    window
        Records that the foot is sought in; none is called a spike before so many.
    tolerance
        Smallest change of D_eff that counts, relative.  0: the scatter alone decides, as in :func:`grokphase.spikes`.
    patience
        Records after which a spike is judged even if it goes on; by default 2 × ``window``.
    snapshots
        Slots.  A snapshot is due every window/(snapshots − 1) records, so one from before the foot is always at hand;
        the more there are, the less is lost by going back.
    max_rollbacks
        Returns without a calm passage before giving up.
    floor
        Losses below count as this, so that rises below are no spikes.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    A spike after which the effective dimension is higher:

    >>> rule = SpikeRule(window=10)
    >>> state = rule.start()
    >>> for record in range(40):
    ...     loss = 5.0 if 20 <= record < 23 else 0.1
    ...     state, verdict = rule.update(state, loss, 1.5 if record < 21 else 2.5)
    ...     if verdict.action != Action.CONTINUE:
    ...         print(record, Action(int(verdict.action)).name, "to the state after record", verdict.restored_record)
    26 ROLL_BACK to the state after record 9
    """

    factor: float = 2.0
    window: int = 50
    tolerance: float = 0.05
    patience: int | None = None
    snapshots: int = 2
    max_rollbacks: int = 3
    floor: float = 1e-30

    def __post_init__(self) -> None:
        real("factor", self.factor, minimum=1.0, exclusive=True)
        integer("window", self.window, minimum=8, maximum=100_000)
        real("tolerance", self.tolerance, minimum=0.0)
        if self.patience is not None:
            integer("patience", self.patience, minimum=1)
        integer("snapshots", self.snapshots, minimum=2, maximum=self.window)
        integer("max_rollbacks", self.max_rollbacks)
        real("floor", self.floor, minimum=1e-35, exclusive=True)  # of float32, which state may be

    def start(self, shape: tuple[int, ...] = (), dtype: DTypeLike = np.float64) -> SpikeState:
        """State before the first record, with the initial state of the training saved in slot 0.

        Parameters
        ----------
        shape
            Of the losses: () for one run, (members,) for an ensemble.
        dtype
            Of the histories.

        Returns
        -------
        SpikeState
        """

        def whole(value: int) -> _Array:
            return np.full(shape, value, dtype=np.int32)

        def none(*more: int) -> _Array:
            return np.full((*shape, *more), np.nan, dtype=dtype)

        saved = np.full((*shape, self.snapshots), _EMPTY, dtype=np.int32)
        saved[..., 0] = -1
        return SpikeState(
            record=whole(0),
            phase=whole(Phase.CALM),
            baseline_from=whole(0),
            log_loss=none(self.window),
            dimension=none(self.window),
            log_loss_before=none(self.window),
            dimension_before=none(self.window),
            foot=whole(0),
            foot_level=none(),
            threshold=none(),
            detected=whole(0),
            start=whole(0),
            end=whole(0),
            peak=none(),
            lowest=none(),
            saved=saved,
            last_saved=whole(-1),
            rollbacks=whole(0),
            lost=np.zeros(shape, dtype=bool),
        )

    def update(self, state: SpikeState, loss: ArrayLike, dimension: ArrayLike = np.nan) -> tuple[SpikeState, Verdict]:
        """Take one more record.

        Parameters
        ----------
        state
            As given by :meth:`start` or the last update.
        loss
            Shape (...); positive, or not finite.
        dimension
            Effective dimension at the same record, shape (...); NaN where it was not measured.

        Returns
        -------
        state, verdict
            The next state and what to do; see :class:`Verdict`.
        """
        xp = _namespace(loss, state.log_loss)
        number = state.log_loss.dtype
        given = xp.asarray(loss, dtype=number)
        finite = xp.isfinite(given)
        level = xp.where(finite, xp.log(xp.where(finite, xp.maximum(given, self.floor), 1.0)), xp.nan)
        measured = xp.where(finite, xp.asarray(dimension, dtype=number), xp.nan)
        measured = xp.where(xp.isfinite(measured), measured, xp.nan)

        state = self._detect(xp, state, level)
        shifted = state._replace(
            log_loss=_append(xp, state.log_loss, level), dimension=_append(xp, state.dimension, measured)
        )
        follow, judged = self._follow(xp, shifted, level)
        return self._decide(xp, follow, judged, finite)

    def _detect(self, xp: Any, state: SpikeState, level: _Array) -> SpikeState:
        """A calm run whose loss rises above its baseline starts to spike; histories are those before this record."""
        now, history = state.record, state.log_loss
        records = now[..., None] + xp.arange(-self.window, 0)
        usable = (records >= state.baseline_from[..., None]) & ~xp.isnan(history)
        reversed_ = xp.flip(xp.where(usable, history, xp.inf), axis=-1)  # of equal minima, the newest is the foot
        foot = now - 1 - xp.argmin(reversed_, axis=-1)
        foot_level = xp.min(reversed_, axis=-1)
        scatter = _deviation(xp, xp.diff(history, axis=-1)) / 2**0.5
        threshold = xp.maximum(xp.where(xp.isnan(scatter), 0.0, _NOISE * scatter), float(np.log(self.factor)))
        spikes = (state.phase == Phase.CALM) & (now >= self.window) & (level - foot_level >= threshold)

        low = usable & (history <= (foot_level + threshold / 2)[..., None])
        start = xp.max(xp.where(low, records, -1), axis=-1)
        earlier = records <= start[..., None]
        opened = state._replace(
            phase=xp.full_like(state.phase, Phase.SPIKING),
            log_loss_before=xp.where(earlier, history, xp.nan),
            dimension_before=xp.where(earlier, state.dimension, xp.nan),
            foot=foot,
            foot_level=foot_level,
            threshold=threshold,
            detected=now,
            start=start,
            peak=level,
            saved=xp.where(state.saved < foot[..., None], state.saved, _EMPTY),
        )
        return _where(xp, spikes, opened, state)

    def _follow(self, xp: Any, state: SpikeState, level: _Array) -> tuple[SpikeState, _Array]:
        """Peak and end of a spike under way, and whether it can be judged now."""
        now = state.record
        spiking, settling = state.phase == Phase.SPIKING, state.phase == Phase.SETTLING
        again = settling & ((level > state.peak) | (level - state.lowest >= state.threshold))
        peak = xp.where(spiking | again, xp.fmax(state.peak, level), state.peak)
        over = spiking & (now > state.detected) & (level <= (peak + state.foot_level) / 2)
        end = xp.where(over, now, state.end)
        settled = settling & ~again & (now - end + 1 >= self._length(xp, state.start, end))
        patience = 2 * self.window if self.patience is None else self.patience
        late = spiking & ~over & (now - state.detected >= patience)
        phase = xp.where(over, Phase.SETTLING, xp.where(again, Phase.SPIKING, state.phase))
        lowest = xp.where(over, level, xp.fmin(state.lowest, level))
        end = xp.where(late, now, end)
        return state._replace(phase=phase.astype(state.phase.dtype), peak=peak, lowest=lowest, end=end), settled | late

    def _length(self, xp: Any, start: _Array, end: _Array) -> _Array:
        """Records that D_eff is compared over."""
        return xp.clip(end - start, _FEWEST, self.window)

    def _effect(self, xp: Any, state: SpikeState) -> tuple[_Array, _Array, _Array]:
        """Medians of D_eff before and after, and +1, −1 or 0 for complicated, simplified or neither."""
        length = self._length(xp, state.start, state.end)[..., None]
        known = ~xp.isnan(state.dimension_before)
        newer = xp.flip(xp.cumsum(xp.flip(known, axis=-1), axis=-1), axis=-1)
        before = xp.where(newer <= length, state.dimension_before, xp.nan)
        after = xp.where(xp.arange(self.window) >= self.window - length, state.dimension, xp.nan)
        levels = _median(xp, before), _median(xp, after)
        counts = [xp.maximum(xp.sum(~xp.isnan(values), axis=-1), 1) for values in (before, after)]
        errors = [_deviation(xp, values) / count**0.5 for values, count in zip((before, after), counts, strict=True)]
        change = levels[1] - levels[0]
        clear = xp.abs(change) > xp.maximum(2 * xp.hypot(*errors), (self.tolerance + 1e-12) * levels[0])
        return *levels, xp.where(clear, xp.sign(change), 0.0)

    def _decide(self, xp: Any, state: SpikeState, judged: _Array, finite: _Array) -> tuple[SpikeState, Verdict]:
        now, calm = state.record, state.phase == Phase.CALM
        broken = ~finite & ~state.lost
        decided = judged | broken
        if xp is np and not decided.any():  # of most records nobody asks; NumPy need not compute it
            before = after = np.full_like(state.foot_level, np.nan)
            effect = np.zeros_like(state.foot_level)
        else:
            before, after, effect = self._effect(xp, state)
        effect = xp.where(judged & finite, effect, 0.0)

        # Where to go back to: before the foot; of a loss that broke off in calm, before the last record.
        foot = xp.where(calm, now - 1, state.foot)
        candidates = xp.where(state.saved < foot[..., None], state.saved, _EMPTY)
        restored = xp.max(candidates, axis=-1)
        possible = (restored > _EMPTY) & (state.rollbacks < self.max_rollbacks)
        wanted = broken | (effect > 0)
        action = xp.where(
            decided,
            xp.where(wanted, xp.where(possible, Action.ROLL_BACK, Action.GIVE_UP), Action.KEEP),
            Action.CONTINUE,
        )
        back = action == Action.ROLL_BACK

        # Going on after a spike makes it the past: a fresh snapshot, and no return to what is before it.
        kept = decided & ~back & finite
        interval = -(-self.window // (self.snapshots - 1))
        save = kept | (calm & ~decided & finite & (now - state.last_saved >= interval))
        saved = xp.where(kept[..., None], _EMPTY, xp.where(back[..., None], candidates, state.saved))
        slot = xp.argmin(saved, axis=-1)
        here = (xp.arange(self.snapshots) == slot[..., None]) & save[..., None]
        saved = xp.where(here, now[..., None], saved)

        passed = calm & (now - state.baseline_from >= 2 * self.window)
        restore = (back & ~calm)[..., None]
        whole = state.record.dtype
        following = state._replace(
            record=now + 1,
            phase=xp.where(decided, Phase.CALM, state.phase).astype(whole),
            baseline_from=xp.where(decided, now + 1, state.baseline_from),
            log_loss=xp.where(restore, state.log_loss_before, state.log_loss),
            dimension=xp.where(restore, state.dimension_before, state.dimension),
            saved=saved.astype(whole),
            last_saved=xp.where(save | back, now, state.last_saved),
            rollbacks=xp.where(back, state.rollbacks + 1, xp.where(kept | passed, 0, state.rollbacks)).astype(whole),
            lost=~finite & (state.lost | (broken & ~back)),
        )
        height = xp.where(finite, xp.exp(xp.minimum(state.peak - state.foot_level, _HIGHEST)), xp.inf)
        shown = decided & ~calm
        verdict = Verdict(
            action=action,
            save_slot=xp.where(save, slot, _NONE),
            restore_slot=xp.where(back, xp.argmax(candidates, axis=-1), _NONE),
            restored_record=xp.where(back, restored, _EMPTY),
            effect=effect,
            dimension_before=xp.where(shown, before, xp.nan),
            dimension_after=xp.where(shown & finite, after, xp.nan),
            height=xp.where(decided, height, xp.nan),
        )
        return following, verdict


# --- arrays with holes: NaN along the last axis is no value ---


def _namespace(*arrays: Any) -> ModuleType:
    for array in arrays:
        named = getattr(array, "__array_namespace__", None)
        if named is not None and not isinstance(array, np.ndarray | np.generic):
            return named()
    return np


def _append(xp: Any, history: _Array, newest: _Array) -> _Array:
    return xp.concatenate([history[..., 1:], xp.broadcast_to(newest, history.shape[:-1])[..., None]], axis=-1)


def _where(xp: Any, condition: _Array, chosen: SpikeState, other: SpikeState) -> SpikeState:
    """Field by field, in the other's types."""
    fields = []
    for first, second in zip(chosen, other, strict=True):
        wide = condition[(..., *[None] * (second.ndim - condition.ndim))]
        fields.append(xp.where(wide, first, second).astype(second.dtype))
    return SpikeState(*fields)


def _median(xp: Any, values: _Array) -> _Array:
    absent = xp.isnan(values)
    count = xp.sum(~absent, axis=-1)[..., None]
    ordered = xp.sort(xp.where(absent, xp.inf, values), axis=-1)
    low, high = (xp.take_along_axis(ordered, place, axis=-1) for place in (xp.maximum(count - 1, 0) // 2, count // 2))
    return xp.where(count > 0, (low + high) / 2, xp.nan)[..., 0]


def _deviation(xp: Any, values: _Array) -> _Array:
    return _TO_DEVIATION * _median(xp, xp.abs(values - _median(xp, values)[..., None]))
