"""Here and in local processes: the same numbers, whatever happens to the workers."""

import os
from functools import partial

import pytest
import xarray as xr
from fake_engine import calls, engine, scenario

from grokphase.runs.ensemble import execute, simulate
from grokphase.runs.executors import Here, Processes, executor_for, usable_cores


def expected():
    return engine(scenario(), range(10))


def test_processes_give_the_same_numbers(tmp_path):
    log = tmp_path / "log"
    logged = partial(engine, log=log, seconds=0.05)
    stored = execute(logged, scenario(), Processes(2), store=tmp_path / "s", block_size=2)
    xr.testing.assert_identical(stored.load(), expected())
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(first) for first, *_ in lines) == [0, 2, 4, 6, 8]
    assert str(os.getpid()) not in {process for _, process, *_ in lines}
    assert {tuple(threads) for _, _, *threads in lines} == {("1", "1")}


def test_this_process_takes_all_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("grokphase.runs.executors.usable_cores", lambda: 3)
    monkeypatch.setattr("grokphase.runs.ensemble.train", partial(engine, log=tmp_path / "log"))
    xr.testing.assert_identical(simulate(scenario(), block_size=5), expected())
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [(first, process, threads) for first, process, _, threads in lines] == [
        ("0", str(os.getpid()), "3"),
        ("5", str(os.getpid()), "3"),
    ]
    with executor_for(2, None) as executor:
        assert (executor.workers, executor.threads) == (2, 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind processes to cores")
def test_usable_cores_are_those_that_the_process_may_use():
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_environment_is_left_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("NPROC", raising=False)
    found = execute(engine, scenario(), Processes(2), block_size=5)
    xr.testing.assert_identical(found, expected())
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "NPROC" not in os.environ


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_lost_on_the_way_costs_only_time(tmp_path, workers):
    log = tmp_path / "log"
    dying = partial(engine, log=log, seconds=0.02, die_once=(8, tmp_path / "died"))
    found = execute(dying, scenario(), Processes(workers), store=tmp_path / "s", block_size=2)
    assert (tmp_path / "died").exists()
    assert calls(log).count(8) == 2
    xr.testing.assert_identical(found.load(), expected())


def test_workers_that_always_die(tmp_path):
    dying = partial(engine, die=(4,))
    with pytest.raises(ChildProcessError, match="worker process died before any block was finished"):
        execute(dying, scenario(), Processes(2), store=tmp_path, block_size=2)
    found = execute(engine, scenario(), Here(), store=tmp_path)  # and what was finished, was
    xr.testing.assert_identical(found.load(), expected())


def test_an_error_of_the_engine_arrives_with_its_block(tmp_path):
    failing = partial(engine, fail=(4,))
    for executor in (Here(), Processes(2)):
        with pytest.raises(FloatingPointError, match="as requested") as caught:
            execute(failing, scenario(), executor, store=tmp_path, block_size=2)
        assert "block 2 (members 4 to 5)" in " ".join(caught.value.__notes__)


def test_progress(tmp_path):
    told = []
    execute(engine, scenario(), Here(), store=tmp_path, block_size=3, progress=told.append)
    assert [status.done for status in told] == [0, 3, 6, 9, 10]
    assert [status.running for status in told] == [3, 3, 3, 1, 0]
    assert told[-1].complete
    assert told[-1].seconds_left == 0
    in_memory = []
    execute(engine, scenario(), Here(), block_size=3, progress=in_memory.append)
    assert [status.done for status in in_memory] == [0, 3, 6, 9, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers must be integer, from 1"),
        ({"workers": 2, "cluster": "tcp://x:1"}, "exclude each other"),
        ({"block_size": 0}, "block_size must be integer, from 1"),
        ({"snapshots": (-1.0,)}, "snapshots must be ≥ 0"),
        ({"resume": "yes"}, "resume must be one of True, False"),
        ({"cluster": 7}, "cluster must be the address of a Dask scheduler"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(scenario(), **arguments)


def test_not_a_scenario():
    with pytest.raises(ValueError, match=r"scenario must be a grokphase\.Scenario, got int"):
        simulate(30)
