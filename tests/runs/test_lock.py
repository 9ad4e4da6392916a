"""One process at a time on a store: refusals, locks of the dead, disks without locks, other machines."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from grokphase.runs import lock
from grokphase.runs.lock import Owner, StoreInUseError, held, owner

HOLD = "import sys, time; from pathlib import Path; from grokphase.runs.lock import held\n" + (
    "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
)


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_process_is_refused_by_name(tmp_path, holder):
    path = tmp_path / "lock"
    with pytest.raises(StoreInUseError, match=f"worked on by process {holder.pid} on "), held(path):
        pass
    assert owner(path).process == holder.pid


def test_lock_of_a_killed_process_is_free_at_once(tmp_path, holder):
    path = tmp_path / "lock"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert path.read_bytes()  # it had no time to clean up
    assert owner(path) is None
    start = time.perf_counter()
    with held(path):
        assert owner(path) == Owner(os.uname().nodename, os.getpid())
    assert time.perf_counter() - start < 0.9  # no waiting for a process that is gone
    assert owner(path) is None


def test_same_process_twice(tmp_path):
    with held(tmp_path / "lock"):
        with pytest.raises(StoreInUseError), held(tmp_path / "lock"):
            pass
        assert owner(tmp_path / "lock") is not None  # the refused one did not take it away


def test_looking_does_not_disturb(tmp_path):
    """A ``status`` that looks all the time never makes a start fail."""
    path, stop = tmp_path / "lock", threading.Event()
    path.touch()

    def look():
        while not stop.is_set():
            owner(path)
            time.sleep(0.005)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with held(path):
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def other_machine(path, seconds_ago):
    path.write_text(json.dumps({"host": "elsewhere", "process": 7}))
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def test_owner_on_another_machine(tmp_path):
    """Where locks do not reach the other machine, its signs of life do."""
    path = tmp_path / "lock"
    other_machine(path, seconds_ago=lock.SILENCE / 2)
    with pytest.raises(StoreInUseError, match="process 7 on elsewhere"), held(path):
        pass
    assert owner(path) == Owner("elsewhere", 7)
    other_machine(path, seconds_ago=lock.SILENCE + 5)
    assert owner(path) is None
    with held(path):
        pass


def test_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_BEAT", 0.01)
    path = tmp_path / "lock"
    with held(path):
        os.utime(path, (1.0, 1.0))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime < time.time() - 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_disk_without_locks(tmp_path, monkeypatch):
    """The name of the process decides: alive or not."""

    def refused(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    path = tmp_path / "lock"
    with held(path), pytest.raises(StoreInUseError, match=f"process {os.getpid()} "), held(path):
        pass
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    path.write_text(json.dumps({"host": os.uname().nodename, "process": gone.pid}))
    assert owner(path) is None
    with held(path):
        pass


def test_other_trouble_is_not_hidden(tmp_path, monkeypatch):

    def refused(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OSError, match="Input/output"), held(tmp_path / "lock"):
        pass


def test_no_lock_file_no_owner(tmp_path):
    assert owner(tmp_path / "lock") is None
    (tmp_path / "lock").write_text("not json")
    assert owner(tmp_path / "lock") is None
