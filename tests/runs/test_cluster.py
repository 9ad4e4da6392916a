"""A Dask cluster: the same numbers, also if a worker is lost in the middle, and words if the whole cluster is."""

import os
import signal
import sys
from functools import partial

import dask
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from fake_engine import calls, engine, scenario

from grokphase.runs.ensemble import execute
from grokphase.runs.executors import Here, OnCluster, executor_for

LOCAL = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def cluster():
    """Two workers, processes of their own."""
    with LocalCluster(n_workers=2, **LOCAL) as made:
        yield made


@pytest.fixture
def client(cluster):
    with Client(cluster) as made:
        made.wait_for_workers(2, timeout=60)
        yield made


def expected(members=10):
    return engine(scenario(members), range(members))


def test_cluster_gives_the_same_numbers(tmp_path, client):
    log = tmp_path / "log"
    stored = execute(partial(engine, log=log), scenario(), OnCluster(client), store=tmp_path / "s", block_size=3)
    xr.testing.assert_identical(stored.load(), expected())
    assert sorted(calls(log)) == [0, 3, 6, 9]
    assert str(os.getpid()) not in log.read_text()
    assert {line.split()[-1] for line in log.read_text().splitlines()} == {"1"}  # thread
    again = execute(partial(engine, log=log), scenario(), OnCluster(client), block_size=3)
    xr.testing.assert_identical(again, expected())
    assert len(calls(log)) == 8  # nothing is taken from an earlier call
    assert OnCluster(client).workers == 2


def test_address_and_client(cluster, client):
    with executor_for(None, cluster.scheduler_address) as executor:
        assert executor.workers == 2
        xr.testing.assert_identical(execute(engine, scenario(), executor), expected())
    with executor_for(None, client) as executor:
        assert executor.workers == 2
    assert client.status == "running"  # the user's own stays open


def test_a_worker_lost_in_the_middle_loses_nothing(tmp_path, client):
    log = tmp_path / "log"
    killed = []

    def kill(status):
        """The worker of the last begun block, as soon as there is something to lose."""
        if status.done and not killed:
            killed.append(int(log.read_text().splitlines()[-1].split()[1]))
            os.kill(killed[0], signal.SIGKILL)

    slow = partial(engine, log=log, seconds=0.3)
    stored = execute(slow, scenario(), OnCluster(client), store=tmp_path / "s", block_size=1, progress=kill)
    assert killed
    assert len(calls(log)) > 10  # at least the block it was at had to be computed again
    xr.testing.assert_identical(stored.load(), expected())


def test_an_error_arrives_with_its_block(tmp_path, client):
    with pytest.raises(FloatingPointError, match="as requested") as caught:
        execute(partial(engine, fail=(4,)), scenario(), OnCluster(client), store=tmp_path, block_size=2)
    assert "block 2 (members 4 to 5)" in " ".join(caught.value.__notes__)
    xr.testing.assert_identical(execute(engine, scenario(), OnCluster(client), store=tmp_path).load(), expected())


def test_a_cluster_that_goes_away(tmp_path):
    """The scheduler ends in the middle: an error in words, and what was finished stays."""
    log = tmp_path / "log"
    slow = partial(engine, log=log, seconds=0.3)
    with LocalCluster(n_workers=1, **LOCAL) as doomed, Client(doomed) as client:

        def close(status):
            if status.done == 4:
                doomed.close()

        with pytest.raises(ConnectionError, match="connection to the Dask scheduler is lost"):
            execute(slow, scenario(40), OnCluster(client), store=tmp_path / "s", block_size=2, progress=close)
    found = execute(partial(engine, log=log), scenario(40), Here(), store=tmp_path / "s")
    assert len(calls(log)) < 2 * 20
    xr.testing.assert_identical(found.load(), expected(40))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "tcp://127.0.0.1:99999999"])
def test_no_scheduler(address):
    """An error in words, after which others do not look for that scheduler either."""
    before = dask.config.get("scheduler", None)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(ConnectionError, match=f"no Dask scheduler answers at '{address}'"),
        executor_for(None, address),
    ):
        pass
    assert dask.config.get("scheduler", None) == before


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'grokphase\[cluster\]'"), executor_for(None, "tcp://x:1"):
        pass


def test_a_block_that_kills_its_workers(tmp_path, client):
    with pytest.raises(ChildProcessError, match="workers died again and again of the same block"):
        execute(partial(engine, die=(4,)), scenario(), OnCluster(client), store=tmp_path, block_size=2)
    xr.testing.assert_identical(execute(engine, scenario(), Here(), store=tmp_path).load(), expected())
