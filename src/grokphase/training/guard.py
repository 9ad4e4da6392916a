r"""The guard of loss spikes in an ensemble: a member goes back where a spike complicated its representation.

Object.  :class:`~grokphase.transition.spike_rule.SpikeRule` with its defaults, for every member on its own.  A record
of the rule is a recorded time, with the training loss and the effective dimension that are recorded for it.  A member
that goes back takes up parameters and moments of Adam as they were, and trains on with the epochs that come: shuffles
and crops are others than the first time, and its time goes on.  The rule is followed from the first recorded time on,
and, of a loss or gradient that is not finite, it goes back at once.

Adam divides its moments by 1 − β^k, with k the step count, which is one for all members of a block.  A member that
goes from step k back to step j gets those of step j times (1 − β^k)/(1 − β^j).  So the means and mean squares that it
steps with are those it had at step j; only the weight of these against what comes differs.  The first state that is
kept is that after the first recorded time (before it, there are no moments to bring along).

How.  A chunk of records is computed for all members; then records are looked at in turn, and the later ones of a
member that goes back are computed once more.  So a member's numbers do not depend on how records are cut into chunks;
and until it first goes back, they are those without the guard.

References: Žunkovič & Ilievski 2024, Sec. 5.  Kingma & Ba 2015.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray
from grokphase.training import chunk
from grokphase.training.parameters import Adam
from grokphase.training.probe import effective_dimension
from grokphase.training.scenario import Scenario
from grokphase.transition.spike_rule import Action, SpikeRule, SpikeState

__all__ = ["ACTIONS", "Guard"]

ACTIONS = {"none": Action.CONTINUE, "kept": Action.KEEP, "rolled-back": Action.ROLL_BACK, "gave-up": Action.GIVE_UP}
"""Meanings of ``spike_action``."""

_MEMBER_AXIS = {"exact_error": 2, "epoch_error": 2, "epoch_domain_size": 2, "epoch_rows": 2}
"""Of what was seen; 1 for all else."""

_Members = NDArray[np.int64]


class Guard:
    """The rule's memory, the snapshots of a block of members, and what was done so far; all on the host."""

    def __init__(self, scenario: Scenario, state: chunk.State) -> None:
        self.scenario, self.shape, self.rule = scenario, chunk.program(scenario), SpikeRule()
        members, records = len(state.rows), len(scenario.record_epochs)
        self.memory = self.rule.start((members,))
        # The rule takes the state before the first record to be kept in slot 0; here it is that after it.
        self.memory.saved[:, 0] = 0
        empty = np.zeros((members, self.rule.snapshots, state.rows.shape[1]), state.rows.dtype)
        self.kept: list[NDArray[Any]] = [
            empty.copy() for _ in range(3)
        ]  # rows and moments, each (m, slots, number of parameters)
        self.action = np.full((members, records), Action.CONTINUE, dtype=np.int8)
        self.returned_to = np.full((members, records), -1)  # record number

    def advance(
        self, part: _Members, start: chunk.State, inputs: chunk.Inputs, first: int, records: int
    ) -> tuple[chunk.State, chunk.Records]:
        """Take some members through a chunk of records, from record ``first`` on.

        Parameters
        ----------
        part
            Their places in the block.
        start
            Their states, filled up to the programs' width.
        inputs
            Of the scenario.
        first, records
            Number of the first record, and how many.

        Returns
        -------
        state, seen
            As from :func:`grokphase.training.chunk.run`.
        """
        program = chunk.run(self.shape, records, self.scenario.record_every, moments=True)
        moved, (seen, moments) = jax.tree.map(np.array, program(start, inputs))
        for record in range(min(records, self.action.shape[1] - first)):
            places, slots = self._follow(part, first + record, record, seen, moments)
            if not places.size:
                continue
            restored = self._restored(part, places, slots, first + record, start)
            seen.alive[record, places] = True  # of a loss that was not finite, the run goes on
            if record + 1 < records:
                _, again = jax.tree.map(np.asarray, program(restored, inputs))
                _put((seen, moments), again, record + 1, places)
                moved.rows[places], moved.alive[places] = seen.epoch_rows[-1, -1, places], seen.alive[-1, places]
                for whole, leaf in zip(moved.moments, moments, strict=True):
                    whole[places] = leaf[-1, places]
            else:
                moved.rows[places], moved.alive[places] = restored.rows[: places.size], True
                for whole, leaf in zip(moved.moments, restored.moments, strict=True):
                    whole[places] = leaf[: places.size]
        return moved, seen

    def _follow(
        self, part: _Members, number: int, record: int, seen: chunk.Records, moments: Adam
    ) -> tuple[_Members, _Members]:
        """Follow the rule at one record and save as it says; who goes back, by place in the part, to which slots."""
        loss = np.where(seen.alive[record], seen.train_loss[record], np.nan)[: part.size]
        dimension = effective_dimension(seen.covariance[record, : part.size])
        memory, verdict = self.rule.update(SpikeState(*(leaf[part] for leaf in self.memory)), loss, dimension)
        for whole, leaf in zip(self.memory, memory, strict=True):
            whole[part] = leaf
        self.action[part, number] = verdict.action
        self.returned_to[part, number] = verdict.restored_record

        slots = verdict.save_slot if number else np.zeros(part.size, np.int64)
        saving = np.flatnonzero(slots >= 0)
        now: tuple[Any, ...] = (seen.epoch_rows[record, -1], *(leaf[record] for leaf in moments))
        for kept, leaf in zip(self.kept, now, strict=True):
            kept[part[saving], slots[saving]] = leaf[saving]
        back = np.flatnonzero(verdict.action == Action.ROLL_BACK)
        return back, verdict.restore_slot[back]

    def _restored(self, part: _Members, places: _Members, slots: _Members, number: int, start: chunk.State) -> Any:
        """States of those that go back after a record, filled up to the programs' width."""
        members, every = part[places], self.scenario.record_every
        steps = every * self.scenario.steps_per_epoch
        rows, *moments = (kept[members, slots] for kept in self.kept)
        for moment, decay in zip(moments, self.scenario.moments, strict=True):
            moment *= _weight(decay, (self.returned_to[members, number] + 1) * steps, (number + 1) * steps)
        finished = np.full(places.size, (number + 1) * every, np.int32)
        alive = np.full(places.size, True)
        fields: Any = (rows, tuple(moments), finished, start.key[places], alive, start.hunting[places])
        padding = np.minimum(np.arange(chunk.WIDTH), places.size - 1)
        rows, moments, *others = jax.tree.map(lambda leaf: leaf[padding], fields)
        return chunk.State(rows, Adam(*moments), *others)

    def variables(self, last_record: NDArray[np.int64]) -> dict[str, Any]:
        """Variables of the dataset, up to the members' last records."""
        time = np.asarray(self.scenario.record_epochs) * self.scenario.learning_rate
        followed = np.arange(time.size) <= last_record[:, None]
        action = np.where(followed, self.action, -1).astype(np.int8)
        back = action == Action.ROLL_BACK
        return {
            "spike_action": (
                ("member", "time"),
                action,
                {
                    "long_name": "what the guard did after a recorded time",
                    "units": "1",
                    "flag_values": [int(value) for value in ACTIONS.values()],
                    "flag_meanings": " ".join(ACTIONS),
                },
            ),
            "returned_to": (
                ("member", "time"),
                np.where(back, time[self.returned_to], np.nan),
                {"long_name": "time whose state training went back to; NaN: none", "symbol": "t", "units": "1"},
            ),
            "rollbacks": (
                "member",
                back.sum(axis=1, dtype=np.int32),
                {"long_name": "how often the guard went back", "units": "1"},
            ),
        }


def _put(whole: tuple[chunk.Records, Adam], part: Any, start: int, places: _Members) -> None:
    """Write records of some members, the first in ``part``, over those from record ``start`` on."""
    axes = [_MEMBER_AXIS.get(name, 1) for name in chunk.Records._fields] + [1, 1]
    for axis, old, new in zip(axes, (*whole[0], *whole[1]), (*part[0], *part[1]), strict=True):
        fresh = np.moveaxis(new, axis, 1)[: len(old) - start, : places.size]
        np.moveaxis(np.asarray(old), axis, 1)[start:, places] = fresh


def _weight(decay: float, before: NDArray[np.int64], now: int) -> FloatArray:
    """What a moment is multiplied by that goes from step ``now`` back to step ``before``, as a column."""
    return np.asarray((1 - decay**now) / (1 - decay**before))[:, None]
