"""Ctrl-C and kill -9, on a process of its own: what was finished stays, and the end is the same bit by bit."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import xarray as xr
from fake_engine import calls, engine, scenario

from grokphase.runs import open as open_store
from grokphase.runs.progress import status

MEMBERS, SECONDS = 60, 0.15  # in blocks of two members, SECONDS each

# The main module runs again in every worker process (spawn): the guard is what users write, too.
SCRIPT = f"""
import signal
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parent)!r})
from fake_engine import engine, scenario
from grokphase.runs.ensemble import execute
from grokphase.runs.executors import Here, Processes

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
    folder, workers, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    executor = Processes(workers) if workers else Here()
    print("begun", flush=True)
    try:
        execute(
            partial(engine, log=folder / "log", seconds=seconds),
            scenario({MEMBERS}),
            executor,
            store=folder / "store",
            block_size=2,
        )
    except KeyboardInterrupt as stopped:
        sys.exit(str(stopped))
"""


@pytest.fixture
def program(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(workers, seconds=SECONDS):
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), str(workers), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # its own group, which Ctrl-C reaches as a whole
        )

    return start


def done(folder):
    return status(folder / "store").done if (folder / "store" / "plan.json").exists() else 0


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state_of(process):
    """State ("Z": ended, but nobody waited for it), parent and group of a process; None if there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[:3]
    return None


def gone(process):
    return (state_of(process) or "Z")[0] == "Z"


def left_of_group(group):
    """Processes of a group that have not ended."""
    found = {process.name: state_of(process.name) for process in Path("/proc").glob("[0-9]*")}
    return [process for process, state in found.items() if state and state[0] != "Z" and state[2] == str(group)]


def workers_of(folder):
    return {int(line.split()[1]) for line in (folder / "log").read_text().splitlines()}


def finish(folder, program, workers):
    """Let it run to the end; the result is as if nothing had happened."""
    process = program(workers, seconds=0)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    found = open_store(folder / "store", scenario(MEMBERS)).load()
    xr.testing.assert_identical(found, engine(scenario(MEMBERS), range(MEMBERS)))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_again_and_again(tmp_path, program, workers):
    luck = random.Random(workers)
    for _ in range(3):
        before = done(tmp_path)
        process = program(workers)
        wait_for(lambda before=before: done(tmp_path) > before)
        time.sleep(luck.random() * 0.2)  # anywhere in a block
        process.kill()
        process.communicate()
        wait_for(lambda: all(gone(worker) for worker in workers_of(tmp_path)))  # no orphans stay
        assert done(tmp_path) < MEMBERS
        assert status(tmp_path / "store").owner is None
    with pytest.raises(ValueError, match="not complete"):
        open_store(tmp_path / "store")
    finished = done(tmp_path)
    (tmp_path / "log").rename(tmp_path / "earlier")
    finish(tmp_path, program, workers)
    assert len(calls(tmp_path / "log")) == (MEMBERS - finished) // 2  # only what was missing
    counts = Counter(calls(tmp_path / "earlier") + calls(tmp_path / "log"))
    assert set(counts) == set(range(0, MEMBERS, 2))
    if not workers:  # which may be ahead of what is written
        assert sum(counts.values()) - len(counts) <= 3  # one block a kill


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c(tmp_path, program, workers):
    process = program(workers)
    wait_for(lambda: done(tmp_path) > 4)
    os.killpg(process.pid, signal.SIGINT)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    finished = done(tmp_path)
    assert process.returncode == 1
    assert errors.strip() == (
        f"stopped with {finished} of {MEMBERS} members finished and safe in {tmp_path / 'store'}; "
        "run it again and it goes on from there"
    )
    assert all(gone(worker) for worker in workers_of(tmp_path))
    assert 4 < finished < MEMBERS
    finish(tmp_path, program, workers)


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_ctrl_c_while_workers_start(tmp_path, program, after):
    """Processes that are just starting leave it to their parent: they say nothing, and they do not stay."""
    process = program(2)
    wait_for(lambda: (tmp_path / "store" / "manifest.jsonl").exists())
    time.sleep(after)
    assert left_of_group(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("stopped with ")
    assert errors.count("\n") == 1
    wait_for(lambda: not left_of_group(process.pid), seconds=20)


def test_a_second_process_is_refused_while_the_first_goes_on(tmp_path, program):
    first = program(0)
    wait_for(lambda: done(tmp_path) > 0)
    second = program(0)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"is being worked on by process {first.pid} on " in errors
    first.communicate(timeout=100)
    assert first.returncode == 0
    assert calls(tmp_path / "log") == list(range(0, MEMBERS, 2))


def test_status_of_a_run_at_work(tmp_path, program):
    process = program(2)
    wait_for(lambda: done(tmp_path) >= 8)
    found = status(tmp_path / "store")
    process.kill()
    process.communicate()
    assert found.owner.startswith(f"process {process.pid} on ")
    assert found.running == 4
    assert found.done + found.running + found.left == found.members == MEMBERS
    assert 0 < found.members_per_second < 2 * 2 / SECONDS  # no faster than two workers can be
    assert 0 < found.seconds_left <= (MEMBERS - found.done) / found.members_per_second
    assert found.steps_per_second > found.members_per_second
    later = status(tmp_path / "store")
    assert (later.owner, later.running, later.seconds_left) == (None, 0, float("inf"))
