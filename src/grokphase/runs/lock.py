"""One process at a time works on a store.

A lock of the operating system (``flock``) on the file ``lock``, which dies with its process, however that ends;
and, for disks shared between machines whose locks do not reach the other machine or do not exist, the owner's
name in the file and a sign of life (its modification time) every few seconds.  An owner on another machine
that gave no sign for ``SILENCE`` counts as dead.

Where there are no locks at all, two processes that start within the same instant are not kept apart.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Owner", "StoreInUseError", "held", "owner"]

SILENCE = 60.0
"""Seconds without a sign of life after which an owner on another machine counts as dead."""

_BEAT = 10.0
_PATIENCE = 1.0  # seconds in which a look by ``owner`` (which shares the lock for an instant) certainly ends
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class StoreInUseError(OSError):
    """Another process works on the store."""


class Owner(NamedTuple):
    """A process that works on a store."""

    host: str
    process: int

    def __str__(self) -> str:
        if not self.process:
            return "another process"
        return f"process {self.process} on {self.host}"


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, or raise :class:`StoreInUseError`."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        known = _owner(path, handle, shared=False)
        if known is not None:
            raise StoreInUseError(
                f"{path.parent} is being worked on by {known}; wait for it or stop it. If that process is "
                f"certainly gone, try again after {SILENCE:g} seconds."
            )
        me = json.dumps(Owner(platform.node(), os.getpid())._asdict()).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, me, 0)
        stop = threading.Event()
        beat = threading.Thread(target=_show_life, args=(handle, stop), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            with suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def owner(path: Path) -> Owner | None:
    """Who holds the lock file, or None."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _owner(path, handle, shared=True)
    finally:
        os.close(handle)  # gives back the lock as well


def _owner(path: Path, handle: int, shared: bool) -> Owner | None:
    """Who holds the lock; if nobody does, the system's lock is taken on ``handle`` where there are locks."""
    deadline = time.monotonic() + _PATIENCE
    while (taken := _take(handle, shared)) is False and not shared and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        named = Owner(**json.loads(os.pread(handle, 4096, 0)))
    except (ValueError, TypeError):  # empty, or being written
        named = None
    if taken is False:
        return named or Owner(platform.node(), 0)
    if named is None:
        return None
    if named.host != platform.node():
        return named if _age(path) < SILENCE else None
    return named if taken is None and _alive(named.process) else None


def _take(handle: int, shared: bool) -> bool | None:
    """Take the system's lock: True, or False if another has it, or None if there are no locks here."""
    try:
        import fcntl
    except ModuleNotFoundError:
        raise OSError("a store needs Linux or macOS; on Windows use the Subsystem for Linux (WSL)") from None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _age(path: Path) -> float:
    """Seconds since the last sign of life, by the clock of the disk's own machine."""
    last = path.stat().st_mtime
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent) as probe:
            return Path(probe.name).stat().st_mtime - last
    except OSError:  # not ours to write, or full
        return time.time() - last


def _show_life(handle: int, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        with suppress(OSError):
            os.utime(handle)
