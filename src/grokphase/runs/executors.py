"""Who computes the blocks: this process on all cores, processes of this machine, or the workers of a Dask cluster.

An executor turns numbers of blocks into results, in any order.  It writes nothing: workers send their numbers
back, so that they need no disk in common, and one process alone writes the store.  If the process that asked
is gone, however that happened, its local workers end as well.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from grokphase._checks import integer
from grokphase.runs.plan import Plan

if TYPE_CHECKING:
    import distributed
    import xarray as xr

__all__ = ["Engine", "Executor", "Here", "OnCluster", "Processes", "Result", "executor_for", "train", "usable_cores"]

Engine = Callable[..., "xr.Dataset"]
"""Called with scenario, members, threads and options; returns their trajectories.  Known by name to other processes."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NPROC": "1"}


class Result(NamedTuple):
    """One block's trajectories, the seconds they took, and the name of the machine."""

    block: int
    dataset: xr.Dataset
    seconds: float
    host: str


Results = Generator[Result, None, None]


class Executor(Protocol):
    """Computes blocks."""

    @property
    def workers(self) -> int:
        """Number of blocks computed at the same time."""

    @property
    def threads(self) -> int:
        """Number of cores that work on each of them."""

    def run(self, engine: Engine, plan: Plan, blocks: Sequence[int]) -> Results:
        """Results of the blocks, each as soon as it is there."""


def train(scenario: Any, members: range, **options: Any) -> xr.Dataset:
    """The engine of the package; JAX is loaded where it works, not where it is asked for."""
    from grokphase.training import run_block

    return run_block(scenario, members, **options)


def _compute(engine: Engine, plan: Plan, block: int, threads: int = 1) -> Result:
    start = time.perf_counter()
    try:
        dataset = engine(plan.scenario, plan.members(block), threads=threads, **plan.options)
    except Exception as error:
        error.add_note(f"while computing {plan.described(block)}")
        raise
    return Result(block, dataset, time.perf_counter() - start, platform.node())


def usable_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a part of the machine's: under SLURM, say, or in a container
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Here:
    """One block after the other in this process, each of them with some threads."""

    workers = 1

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def run(self, engine: Engine, plan: Plan, blocks: Sequence[int]) -> Results:
        """Results of the blocks."""
        for block in blocks:
            yield _compute(engine, plan, block, self.threads)


class Processes:
    """Processes of this machine, with one thread each."""

    threads = 1

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, engine: Engine, plan: Plan, blocks: Sequence[int]) -> Results:
        """Results of the blocks; after the death of a worker the rest is begun again, if there was any progress."""
        left = list(blocks)
        while left:
            before = len(left)
            try:
                for result in self._with_one_pool(engine, plan, left):
                    left.remove(result.block)
                    yield result
            except BrokenProcessPool:
                if len(left) == before:
                    raise ChildProcessError(
                        "a worker process died before any block was finished. Was it killed for want of memory "
                        "(fewer workers need less), or is the calling script without 'if __name__ == \"__main__\":'?"
                    ) from None

    def _with_one_pool(self, engine: Engine, plan: Plan, blocks: Sequence[int]) -> Results:
        context = get_context("spawn")
        theirs, ours = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(
            min(self.workers, len(blocks)), mp_context=context, initializer=_begin_worker, initargs=(theirs,)
        )
        try:
            with _environment(_ONE_THREAD), _without_ctrl_c():  # both for the processes that the pool starts now
                waiting = {pool.submit(_compute, engine, plan, block) for block in blocks}
            broken = None
            for future in as_completed(waiting):
                waiting.remove(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    broken = error  # others may have come through before
                else:
                    yield result
            pool.shutdown()
            if broken is not None:
                raise broken
        finally:
            ours.close()  # workers still at work end at once
            pool.shutdown(cancel_futures=True)
            theirs.close()


def _begin_worker(line: Connection) -> None:
    """Leave Ctrl-C to the parent, and end when the parent closes its end of the line, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    line.poll(None)
    os._exit(1)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Keep Ctrl-C waiting, and from processes that are started now, until these can leave it to their parent."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class OnCluster:
    """Workers of a Dask cluster; each computes as many blocks at a time as it has threads.

    Dask gives the block of a worker that is lost to another one.
    """

    threads = 1

    def __init__(self, client: distributed.Client) -> None:
        self._client = client

    @property
    def workers(self) -> int:
        """Threads of all workers there are now."""
        try:
            return sum(self._client.nthreads().values()) if self._client.status == "running" else 0
        except OSError:  # the connection has just been lost, which ``run`` tells in words
            return 0

    def run(self, engine: Engine, plan: Plan, blocks: Sequence[int]) -> Results:
        """Results of the blocks."""
        import distributed

        call = uuid.uuid4().hex  # nothing may be taken for the result of an earlier call
        waiting = {
            self._client.submit(_compute, engine, plan, block, key=f"grokphase-{call}-{block}", pure=False): block
            for block in blocks
        }
        try:
            for future in distributed.as_completed(list(waiting)):
                result = future.result()
                del waiting[future]
                yield result
        except distributed.KilledWorker as error:
            raise ChildProcessError(f"workers died again and again of the same block: {error}") from None
        except (CancelledError, distributed.comm.CommClosedError):
            raise ConnectionError("the connection to the Dask scheduler is lost") from None
        finally:
            if self._client.status == "running":
                self._client.cancel(list(waiting))


@contextmanager
def executor_for(workers: int | None, cluster: Any) -> Iterator[Executor]:
    """The executor that the arguments of ``simulate`` ask for."""
    if workers is not None and cluster is not None:
        raise ValueError("workers and cluster exclude each other; give one of them")
    if cluster is not None:
        with _client_of(cluster) as client:
            yield OnCluster(client)
    elif workers is None:
        yield Here(usable_cores())
    else:
        yield Processes(integer("workers", workers, minimum=1, maximum=4096))


@contextmanager
def _client_of(cluster: Any) -> Iterator[distributed.Client]:
    try:
        import distributed
    except ModuleNotFoundError:
        raise ValueError("cluster needs Dask: pip install 'grokphase[cluster]'") from None
    if isinstance(cluster, distributed.Client):
        yield cluster
    elif isinstance(cluster, str):
        try:
            # Not Dask's default for everybody, which a client that fails to start would remain.
            client = distributed.Client(cluster, set_as_default=False)
        except (OSError, ValueError) as error:  # nobody there; no address at all
            raise ConnectionError(f"no Dask scheduler answers at {cluster!r}: {error}") from None
        with client:
            yield client
    else:
        raise ValueError(
            "cluster must be the address of a Dask scheduler, such as 'tcp://host:8786', or a "
            f"dask.distributed.Client, got {type(cluster).__name__}"
        )
