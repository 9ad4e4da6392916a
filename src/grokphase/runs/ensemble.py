"""Simulate an ensemble: blocks of members, computed anywhere, put together here or in a store.

The numbers of a member depend on the scenario and the member's own number alone; so nothing in this layer,
neither block size nor executor nor interruption, changes any of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import xarray as xr

from grokphase._checks import choice, integer, real
from grokphase.runs import reading
from grokphase.runs.executors import Engine, Executor, Result, executor_for, train
from grokphase.runs.manifest import Finished, Session
from grokphase.runs.plan import Plan
from grokphase.runs.progress import Status, progress_of
from grokphase.runs.store import Store, Writer, summary, writing
from grokphase.training.scenario import Scenario

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Progress", "execute", "simulate"]

Progress = Callable[[Status], None]

_AT_ONCE = 16  # members that the engine computes with one program: training.chunk.WIDTH, without loading JAX
_AT_WORK = 128  # most members in work on one core
_WORK = 2560  # most members times bond dimension in work on one core: one to three minutes, what an interruption costs


def simulate(
    scenario: Scenario,
    *,
    store: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    cluster: str | Client | None = None,
    resume: bool = True,
    snapshots: Sequence[float | str] | None = None,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Train all members of an ensemble.

    Parameters
    ----------
    scenario
        What to train, and how many members.
    store
        Folder in which the trajectories are kept, block by block as they are finished.  After an interruption
        of any kind the same call computes what is missing, and what was damaged since.  None: in memory.
    workers
        Number of local processes, with one thread each.  None: in this process, on all cores that it may use.
    cluster
        A Dask cluster instead: a ``dask.distributed.Client``, or the address of a scheduler.
    resume
        False: refuse a store that there is already.
    snapshots
        Times at which parameters and contexts are kept, as for :func:`grokphase.training.run_block`.  None: those
        the store was begun with, if any.
    block_size
        Members a block.  None: what the store was begun with, or as many as take one to three minutes, fewer if
        there are many workers.  Changes speed only.
    progress
        Called with a :class:`~grokphase.runs.Status` at the beginning and after every block.

    Returns
    -------
    trajectories
        Dimensions (member, time): ``train_loss``, ``train_error``, ``test_error``, ``effective_dimension``; by
        member ``zero_train_time``, ``zero_test_time`` (infinite: never), ``status``, ...: those of
        :func:`grokphase.training.run_block` for all members.  With a store, opened by :func:`grokphase.open`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the store holds something else.
    StoreInUseError
        If another process works on the store.
    OSError
        If the store cannot be written (a full disk), or workers die again and again.  What was finished is safe.
    KeyboardInterrupt
        After Ctrl-C, with a message that says how to go on.

    Notes
    -----
    On one machine the result is the same bit by bit whatever the arguments but the scenario are.

    Examples
    --------
    >>> import grokphase as gp
    >>> gp.simulate(gp.Scenario(30), workers=0)
    Traceback (most recent call last):
    ...
    ValueError: workers must be integer, from 1 to 4096, got 0
    """
    with executor_for(workers, cluster) as executor:
        return execute(
            train,
            scenario,
            executor,
            store=store,
            resume=bool(choice("resume", resume, (True, False))),
            snapshots=snapshots,
            block_size=block_size,
            progress=progress,
        )


def execute(
    engine: Engine,
    scenario: Scenario,
    executor: Executor,
    *,
    store: str | os.PathLike[str] | None = None,
    resume: bool = True,
    snapshots: Sequence[float | str] | None = None,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """:func:`simulate` for any engine and executor."""
    if not isinstance(scenario, Scenario):
        raise ValueError(f"scenario must be a grokphase.Scenario, got {type(scenario).__name__}")
    size = _default_block_size(scenario, executor.workers, executor.threads)
    if block_size is not None:
        size = integer("block_size", block_size, minimum=1)
    plan = Plan(scenario, size, tuple(_snapshot(item) for item in snapshots or ()))
    progress = progress or (lambda status: None)
    if store is None:
        return _in_memory(engine, plan, executor, progress)
    same = {"same_blocks": block_size is not None, "same_snapshots": snapshots is not None}
    with writing(store, plan, resume=resume, **same) as writer:
        _into_store(engine, writer, executor, progress)
    return reading.open(store, scenario)


def _default_block_size(scenario: Scenario, workers: int, threads: int) -> int:
    """Equal blocks, as many for each worker.

    A block is computed in groups of _AT_ONCE members that close ranks as members leave; towards its end few are left
    of the last groups, and cores have nothing to do.  So large blocks are quick, up to what an interruption may cost;
    and all workers get the same number of blocks, so that none has to wait long for the last.
    """
    workers, bond = max(1, workers), scenario.bond
    at_work = min(_AT_WORK, max(_AT_ONCE, _WORK // bond)) * threads
    rounds = -(-scenario.members // (at_work * workers))
    share = -(-scenario.members // (rounds * workers))
    return -(-share // _AT_ONCE) * _AT_ONCE


def _snapshot(item: float | str) -> float | str:
    return item if isinstance(item, str) else real("snapshots", item, minimum=0)


def _into_store(engine: Engine, writer: Writer, executor: Executor, progress: Progress) -> None:
    plan = writer.plan
    try:
        blocks = writer.unfinished()
        session = writer.begin(executor.workers) if blocks else None

        def report() -> None:
            progress(_status(plan, list(writer.manifest.blocks.values()), session, executor))

        report()
        with closing(executor.run(engine, plan, blocks)) as results:
            for result in results:
                writer.commit(result, executor.workers)
                report()
    except KeyboardInterrupt:
        written = Store.read(writer.folder).manifest.blocks  # what was just being noted may have been written
        done = sum(block.members for block in written.values())
        raise KeyboardInterrupt(
            f"stopped with {done} of {plan.scenario.members} members finished and safe in {writer.folder}; "
            "run it again and it goes on from there"
        ) from None


def _in_memory(engine: Engine, plan: Plan, executor: Executor, progress: Progress) -> xr.Dataset:
    results: dict[int, Result] = {}
    finished: list[Finished] = []
    session = Session(time.time(), executor.workers)
    progress(_status(plan, finished, session, executor))
    with closing(executor.run(engine, plan, plan.blocks)) as stream:
        for result in stream:
            results[result.block] = result
            finished.append(summary(plan, result, executor.workers))
            progress(_status(plan, finished, session, executor))
    return reading.joined([results[block].dataset for block in plan.blocks], finished)


def _status(plan: Plan, finished: list[Finished], session: Session | None, executor: Executor) -> Status:
    return progress_of(plan, finished, session, workers=executor.workers, now=time.time())
