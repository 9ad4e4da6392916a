"""How far an ensemble is: members done, in work and left, speed, time left.

The speed is that of the present session, or of the last one: what it finished by the time it took, from its
begin to the end of its last block, compilation included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass

from grokphase.runs.lock import owner
from grokphase.runs.manifest import Finished, Session
from grokphase.runs.plan import Plan
from grokphase.runs.store import Store

__all__ = ["Status", "progress_of", "status"]


@dataclass(frozen=True)
class Status:
    """How far an ensemble is.

    Attributes
    ----------
    members
        Members of the ensemble.
    done
        Members that are finished.
    running
        Members in work now (those of one block for each worker).
    damaged
        Members among the others that were finished, but whose files are missing or of a wrong size.
    members_per_second, steps_per_second
        Speed, members and optimiser steps of all members together; NaN if nothing was finished yet.
    seconds_left
        Estimate; infinite if nobody works on it, NaN if the speed is not known.
    owner
        Who works on it ("process 123 on host"), or None.
    """

    members: int
    done: int
    running: int
    damaged: int
    members_per_second: float
    steps_per_second: float
    seconds_left: float
    owner: str | None

    @property
    def left(self) -> int:
        """Members that are neither done nor in work."""
        return self.members - self.done - self.running

    @property
    def complete(self) -> bool:
        """Whether all members are done."""
        return self.done == self.members


def status(store: str | os.PathLike[str]) -> Status:
    """How far the ensemble in a store is; works while another process computes it.

    Parameters
    ----------
    store
        Folder made by :func:`grokphase.simulate`.

    Returns
    -------
    status
        Members done, in work and left, speed and time left.

    Raises
    ------
    ValueError
        If the folder is no store.
    """
    found = Store.read(store)
    finished, session = found.present(), found.manifest.session
    working = owner(found.lock)
    latest = max(finished, key=lambda block: block.finished, default=None)
    workers = 0
    if working and session:
        workers = latest.workers if latest and latest.finished > session.started else session.workers
    return progress_of(
        found.plan,
        finished,
        session,
        workers=workers,
        damaged=sum(
            found.manifest.blocks[block].members for block in set(found.manifest.blocks) - {b.block for b in finished}
        ),
        owner=str(working) if working else None,
        now=time.time(),
    )


def progress_of(
    plan: Plan,
    finished: Collection[Finished],
    session: Session | None,
    *,
    workers: int,
    now: float,
    damaged: int = 0,
    owner: str | None = None,
) -> Status:
    """The status, from what is finished and the session that works, or worked, on it."""
    done = sum(block.members for block in finished)
    left = plan.scenario.members - done
    members_per_second = steps_per_second = seconds_left = float("nan")
    recent = [block for block in finished if session and block.finished > session.started]
    if session and recent:
        last = max(block.finished for block in recent)
        members_per_second = sum(block.members for block in recent) / (last - session.started)
        steps_per_second = sum(block.steps for block in recent) / (last - session.started)
        seconds_left = max(0.0, left / members_per_second - (now - last))
    if left == 0:
        seconds_left = 0.0
    elif not workers:
        seconds_left = float("inf")
    return Status(
        members=plan.scenario.members,
        done=done,
        running=min(left, workers * plan.block_size),
        damaged=damaged,
        members_per_second=members_per_second,
        steps_per_second=steps_per_second,
        seconds_left=seconds_left,
        owner=owner,
    )
