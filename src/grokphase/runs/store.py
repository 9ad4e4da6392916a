"""The store of an ensemble: a folder that is whole at any moment, whatever happens to the process that fills it.

    scenario.toml, plan.json    what is to be computed (:mod:`grokphase.runs.plan`)
    manifest.jsonl              finished blocks with the checksums of their files
    trajectories.zarr/          the numbers, a Zarr v3 group
    lock                        who is at work
    unfinished/                 files being written

A block is finished when the manifest says so, and it does so after the block's files are on the disk.  Whatever
the manifest does not list, or lists with other content, is not there: it is computed again.  Only the process
that holds the lock writes.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from grokphase.runs.executors import Result
from grokphase.runs.files import intact, present, write_durably
from grokphase.runs.frame import chunks_of, frame_of
from grokphase.runs.lock import held
from grokphase.runs.manifest import Finished, Frame, Manifest, Session
from grokphase.runs.plan import Plan, folder_of, has_plan, read_plan, refuse_other_scenario, write_plan

__all__ = ["Store", "Writer", "joined_marks", "summary", "writing"]

_MARKS = ("grokphase_version", "jax_version", "device")  # attributes of a dataset that tell how it was made


class Store:
    """A store as it is now.

    Attributes
    ----------
    folder, plan, manifest
        Where it is, what it is to hold, what is finished.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.manifest = Manifest(folder / "manifest.jsonl")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Store:
        """The store in a folder, or a ``ValueError`` if there is none."""
        return cls(folder_of(path), read_plan(path))

    @property
    def group(self) -> Path:
        """Folder of the Zarr group."""
        return self.folder / "trajectories.zarr"

    @property
    def lock(self) -> Path:
        """File of the lock."""
        return self.folder / "lock"

    def present(self) -> list[Finished]:
        """Finished blocks whose files have the right size, in order; none if what belongs to all is missing."""
        frame, blocks = self.manifest.frame, self.manifest.blocks
        if frame is None or not all(present(self.group, file) for file in frame.files):
            return []
        return [blocks[n] for n in sorted(blocks) if all(present(self.group, file) for file in blocks[n].files)]


class Writer(Store):
    """The store of a process that holds its lock."""

    @property
    def _scratch(self) -> Path:
        return self.folder / "unfinished"

    def unfinished(self) -> list[int]:
        """Blocks to be computed: not finished, or damaged (which is noted); all files are read."""
        manifest = self.manifest
        with self._explained(f"while looking through {self.folder}"):
            shutil.rmtree(self._scratch, ignore_errors=True)
            if manifest.frame and not all(intact(self.group, file) for file in manifest.frame.files):
                manifest.retract_frame()
            for finished in list(manifest.blocks.values()):
                if not all(intact(self.group, file) for file in finished.files):
                    manifest.retract_block(finished.block)
            if manifest.frame is None and 0 in manifest.blocks:  # it takes a block to make the frame
                manifest.retract_block(0)
        return sorted(set(self.plan.blocks) - set(manifest.blocks))

    def begin(self, workers: int) -> Session:
        """Note the beginning of a session."""
        session = Session(time.time(), workers)
        with self._explained(f"while writing to {self.folder}"):
            self.manifest.add(session)
        return session

    def commit(self, result: Result, workers: int) -> None:
        """Write a block; when this returns, it is finished for good."""
        _check_members(self.plan, result)
        plan, dataset = self.plan, result.dataset
        with self._explained(f"while writing {plan.described(result.block)} of {self.folder}"):
            if self.manifest.frame is None:
                contents = frame_of(dataset, plan.scenario.members, plan.block_size)
                files = write_durably(self.group, contents, self._scratch)
                self.manifest.add(Frame(tuple(str(name) for name in dataset.data_vars), files))
            files = write_durably(self.group, chunks_of(dataset, self._frame), self._scratch)
            self.manifest.add(replace(summary(plan, result, workers), files=files))

    @cached_property
    def _frame(self) -> dict[str, bytes]:
        assert self.manifest.frame is not None
        return {file.name: (self.group / file.name).read_bytes() for file in self.manifest.frame.files}

    def _explained(self, when: str) -> AbstractContextManager[None]:
        return _explained(when, self.plan, list(self.manifest.blocks.values()))


def summary(plan: Plan, result: Result, workers: int) -> Finished:
    """What there is to say about a block that has just been computed."""
    dataset, scenario = result.dataset, plan.scenario
    epochs = float(dataset["last_time"].sum()) / scenario.learning_rate
    marks = {mark: str(dataset.attrs[mark]) for mark in _MARKS if mark in dataset.attrs}
    return Finished(
        block=result.block,
        members=dataset.sizes["member"],
        steps=round(epochs * scenario.steps_per_epoch),
        seconds=result.seconds,
        finished=time.time(),
        workers=workers,
        made_by={**marks, "host": result.host},
    )


def _check_members(plan: Plan, result: Result) -> None:
    """The engine did what it was asked for, with this version of the package."""
    assert result.dataset["member"].values.tolist() == list(plan.members(result.block))
    version = result.dataset.attrs.get("grokphase_version", plan.version)
    if version != plan.version:
        raise ValueError(
            f"{plan.described(result.block)} was computed by a worker with grokphase {version}, but this is "
            f"{plan.version}: install the same version everywhere"
        )


@contextmanager
def writing(
    path: str | os.PathLike[str],
    plan: Plan,
    *,
    resume: bool = True,
    same_blocks: bool = False,
    same_snapshots: bool = False,
) -> Iterator[Writer]:
    """Make a store, or take up the one there is, and hold its lock.

    Parameters
    ----------
    path, plan
        The folder, and what it is to hold.
    resume
        Whether there may be something already.
    same_blocks, same_snapshots
        Whether what there is must have the plan's block size and snapshots, too.
    """
    folder = folder_of(path)
    making = f"while making the store {folder}"
    try:
        with _explained(making, plan, []):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        why = error.__cause__ or error
        raise ValueError(f"store must be a folder that can be written, got {str(path)!r}: {why}") from None
    unknown = {item.name for item in folder.iterdir()} - {"lock", "unfinished", "scenario.toml"}
    if not has_plan(folder) and any(not name.startswith(".") for name in unknown):
        raise ValueError(f"store must be a new or empty folder, but {folder} holds {', '.join(sorted(unknown))}")
    with held(folder / "lock"):
        if has_plan(folder):
            writer = Writer(folder, read_plan(folder))
            if not resume:
                raise ValueError(f"{folder} holds an ensemble already; resume=True goes on with it")
            refuse_other_scenario(folder, writer.plan.scenario, plan.scenario)
            if writer.group.exists():  # else nothing was written yet, and all may be planned anew
                _refuse_other_plan(folder, writer.plan, plan, same_blocks, same_snapshots)
                yield writer
                return
        with _explained(making, plan, []):
            write_plan(folder, plan, folder / "unfinished")
        yield Writer(folder, plan)


def _refuse_other_plan(folder: Path, there: Plan, wanted: Plan, same_blocks: bool, same_snapshots: bool) -> None:
    if there.version != wanted.version:
        raise ValueError(
            f"{folder} was begun with grokphase {there.version}, this is {wanted.version}, whose numbers may differ: "
            "finish it with that version, or take a new store"
        )
    if same_blocks and there.block_size != wanted.block_size:
        raise ValueError(f"block_size must be {there.block_size} as {folder} was begun, got {wanted.block_size}")
    if same_snapshots and there.snapshots != wanted.snapshots:
        raise ValueError(f"snapshots must be {there.snapshots} as {folder} was begun, got {wanted.snapshots}")


@contextmanager
def _explained(when: str, plan: Plan, finished: Sequence[Finished]) -> Iterator[None]:
    """What could not be written, what is safe, and what to do, in words."""
    try:
        yield
    except OSError as error:
        done = sum(block.members for block in finished)
        safe = f" The {done} members that were finished are safe." if done else ""
        cure = "Cure that"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cure = "Free some space"
            if done:
                taken = sum(file.size for block in finished for file in block.files)
                cure += f" (about {taken / done * (plan.scenario.members - done) / 2**20:.1f} MiB)"
        raise OSError(
            error.errno,
            f"{error.strerror or error} {when}.{safe} {cure} and run it again",
        ) from error


def joined_marks(finished: Sequence[Finished]) -> dict[str, str]:
    """The attributes that tell how the blocks were made: if it was in several ways, all of them."""
    return {
        mark: ", ".join(sorted({block.made_by[mark] for block in finished if mark in block.made_by}))
        for mark in _MARKS
        if any(mark in block.made_by for block in finished)
    }
