"""The store: what comes out is what went in, whatever happened to the process, the disk or the files between."""

import errno
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from fake_engine import calls, engine, scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from grokphase.runs import open as open_store
from grokphase.runs.ensemble import execute
from grokphase.runs.executors import Here
from grokphase.runs.plan import Plan
from grokphase.runs.store import Store, writing

SNAPSHOTS = (0.05, "zero_test")


def simulate(store=None, given=None, *, engine=engine, executor=None, **options):
    return execute(engine, given or scenario(), executor or Here(), store=store, **options)


def reference(**options):
    return engine(scenario(), range(10), **options)


class PowerCutError(Exception):
    """A process that ends in the middle, as far as the disk can tell."""


# --- round trip ---


@pytest.mark.parametrize("snapshots", [(), SNAPSHOTS])
@pytest.mark.parametrize("block_size", [None, 1, 3, 5, 64])
def test_store_holds_what_the_engine_gave(tmp_path, block_size, snapshots):
    expected = reference(snapshots=snapshots)
    stored = simulate(tmp_path / "s", block_size=block_size, snapshots=snapshots)
    for found in (stored, simulate(block_size=block_size, snapshots=snapshots)):
        xr.testing.assert_identical(found.load(), expected)
        assert {n: v.dtype for n, v in found.variables.items()} == {n: v.dtype for n, v in expected.variables.items()}
        assert list(found.data_vars) == list(expected.data_vars)


@settings(max_examples=20, deadline=None)
@given(members=st.integers(1, 40), block_size=st.integers(1, 45), seed=st.integers(0, 99))
def test_any_ensemble_survives_the_store(tmp_path_factory, members, block_size, seed):
    chosen = scenario(members, seed=seed)
    stored = simulate(tmp_path_factory.mktemp("s") / "new" / "s", chosen, block_size=block_size)
    xr.testing.assert_identical(stored.load(), engine(chosen, range(members)))


def test_any_zarr_reader_sees_the_ensemble(tmp_path):
    simulate(tmp_path, block_size=4)
    group = zarr.open_group(tmp_path / "trajectories.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    loss = group["train_loss"]
    assert loss.metadata.dimension_names == ("member", "time")
    assert loss.chunks == (4, loss.shape[1])
    np.testing.assert_array_equal(loss[:], reference().train_loss)
    with xr.open_zarr(tmp_path / "trajectories.zarr", chunks=None, consolidated=False) as plain:
        xr.testing.assert_equal(plain.load(), reference())


def test_opening_reads_no_numbers(tmp_path, monkeypatch):
    simulate(tmp_path)
    read = []
    original = zarr.storage.LocalStore.get

    async def noted(self, key, *arguments, **options):
        read.append(key)
        return await original(self, key, *arguments, **options)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", noted)
    found = open_store(tmp_path)
    assert not [key for key in read if key.startswith(("train_loss/c", "test_error/c", "status/c"))]
    found.test_error.load()
    assert [key for key in read if key.startswith("test_error/c")]
    assert not [key for key in read if key.startswith("train_loss/c")]


def test_second_call_computes_nothing(tmp_path):
    log = tmp_path / "log"
    for _ in range(2):
        found = simulate(tmp_path / "s", engine=partial(engine, log=log), block_size=4)
    assert calls(log) == [0, 4, 8]
    xr.testing.assert_identical(found.load(), reference())


# --- refusals ---


def unfinished(path, **options):
    """A store of 10 members in blocks of 3, of which members 6 to 8 are missing."""
    with pytest.raises(FloatingPointError, match="as requested") as caught:
        simulate(path, engine=partial(engine, fail=(6,)), executor=Disordered(), block_size=3, **options)
    assert "members 6 to 8" in " ".join(caught.value.__notes__)


class Disordered(Here):
    """The last block first."""

    def run(self, engine, plan, blocks):
        return super().run(engine, plan, [*blocks[-1:], *blocks[:-1]])


def test_incomplete_store_opens_only_on_request(tmp_path):
    unfinished(tmp_path)
    with pytest.raises(ValueError, match="not complete: 7 of 10 members"):
        open_store(tmp_path)
    there = [0, 1, 2, 3, 4, 5, 9]
    xr.testing.assert_identical(open_store(tmp_path, partial=True).load(), reference().isel(member=there))
    raw = zarr.open_group(tmp_path / "trajectories.zarr", mode="r")
    np.testing.assert_array_equal(raw["status"][6:9], -1)  # nobody takes missing members for results
    assert np.isnan(raw["zero_test_time"][6:9]).all()
    xr.testing.assert_identical(simulate(tmp_path).load(), reference())
    xr.testing.assert_identical(open_store(tmp_path, scenario()).load(), reference())


def test_store_with_nothing_finished(tmp_path):
    with pytest.raises(FloatingPointError):
        simulate(tmp_path, engine=partial(engine, fail=(0,)), block_size=3)
    for partial_ in (False, True):
        with pytest.raises(ValueError, match="not complete: 0 of 10"):
            open_store(tmp_path, partial=partial_)
    found = simulate(tmp_path, block_size=4, snapshots=SNAPSHOTS)  # nothing binds it to its first plan
    xr.testing.assert_identical(found.load(), reference(snapshots=SNAPSHOTS))


def test_other_scenario_is_refused_by_name(tmp_path):
    simulate(tmp_path)
    other = scenario(l1=0.001)
    message = re.escape("holds another scenario: l1 is 0.0 there, 0.001 here")
    with pytest.raises(ValueError, match=message):
        open_store(tmp_path, other)
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path, other)


def test_other_plan_is_refused(tmp_path):
    unfinished(tmp_path, snapshots=SNAPSHOTS)
    with pytest.raises(ValueError, match="block_size must be 3"):
        simulate(tmp_path, block_size=4)
    with pytest.raises(ValueError, match="snapshots must be"):
        simulate(tmp_path, snapshots=())
    with pytest.raises(ValueError, match=r"resume=True goes on"):
        simulate(tmp_path, resume=False)
    xr.testing.assert_identical(simulate(tmp_path).load(), reference(snapshots=SNAPSHOTS))


def test_other_version_is_refused(tmp_path):
    unfinished(tmp_path)
    newer = Plan(scenario(), 3, version="9.9")
    with pytest.raises(ValueError, match=r"begun with grokphase .*, this is 9\.9"), writing(tmp_path, newer):
        pass
    with pytest.raises(ValueError, match=r"worker with grokphase 9\.9"):
        simulate(tmp_path / "new", engine=partial(engine, version="9.9"))


@pytest.mark.parametrize("name", ["plan.json", "scenario.toml"])
@pytest.mark.parametrize("how", ["flip", "cut"])
def test_damaged_plan_is_refused(tmp_path, name, how):
    simulate(tmp_path)
    harm(tmp_path / name, how)
    for use in (open_store, simulate):
        with pytest.raises(ValueError, match="changed or damaged"):
            use(tmp_path)


def test_store_of_another_schema_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("grokphase.runs.plan.SCHEMA", 2)
    simulate(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="schema 1, got 2"):
        open_store(tmp_path)


@pytest.mark.parametrize("store", ["nothing/here", "s3://bucket/run"])
def test_no_store(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"store must be a folder (made|of this machine)"):
        open_store(store)


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"new or empty folder.*thesis\.tex"):
        simulate(tmp_path)
    with pytest.raises(ValueError, match=r"store must be a folder that can be written.*exists"):
        simulate(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_scenario_file_may_wait_in_the_folder(tmp_path):
    path = tmp_path / "scenario.toml"
    scenario().to_toml(path)
    simulate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    scenario(11).to_toml(other / "scenario.toml")
    with pytest.raises(ValueError, match="members is 11 there, 10 here"):
        simulate(other)


# --- damage ---


def data_files(folder):
    return sorted(path for path in (folder / "trajectories.zarr").rglob("*") if path.is_file())


def harm(path, how):
    content = path.read_bytes()
    if how == "flip":
        path.write_bytes(
            content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
        )
    elif how == "cut":
        path.write_bytes(content[:-1])
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_any_damaged_file_is_found_and_computed_again(tmp_path, how):
    expected, store = reference(), tmp_path / "s"
    simulate(store, block_size=4)
    files = data_files(store)
    assert len(files) == 1 + 8 + 2 + 6 * 3  # group, arrays, coordinates, 6 variables in 3 blocks
    for number, path in enumerate(files):
        log = tmp_path / f"log{number}"
        harm(path, how)
        if how != "flip":  # seen by a look at the sizes
            with pytest.raises(ValueError, match="not complete"):
                open_store(store)
        found = simulate(store, engine=partial(engine, log=log))
        chunk = re.fullmatch(r"c\.(\d+)(\.0)*", path.name)
        assert calls(log) == [4 * int(chunk[1]) if chunk else 0], path
        xr.testing.assert_identical(found.load(), expected)


def test_reader_notices_damage(tmp_path):
    simulate(tmp_path, block_size=4)
    harm(tmp_path / "trajectories.zarr" / "test_error" / "c.1.0", "flip")
    found = open_store(tmp_path)
    found.test_error[:4].load()
    with pytest.raises(ValueError, match="checksum"):
        found.test_error.load()


def test_any_harm_to_the_manifest_costs_only_time(tmp_path):
    """Bytes flipped and ends cut off all over it: never wrong numbers, never a crash."""
    store, expected = tmp_path / "s", reference()
    simulate(store, block_size=5)
    path = store / "manifest.jsonl"
    content = path.read_bytes()
    harmed = [content[:end] for end in range(0, len(content), 131)]
    harmed += [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in range(0, len(content), 131)]
    for text in harmed:
        path.write_bytes(text)
        assert len(Store.read(store).present()) <= 2
        xr.testing.assert_identical(simulate(store).load(), expected)
        xr.testing.assert_identical(open_store(store).load(), expected)


# --- interruptions at every operation of the disk ---


class Disk:
    """Counts the operations that reach the disk, and breaks the one with a given number."""

    def __init__(self, monkeypatch, at, failure):
        self.at, self.failure, self.count = at, failure, 0
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))
        original = Path.open
        disk = self

        def open_and_count(path, mode="r", *arguments, **options):
            file = original(path, mode, *arguments, **options)
            if "b" in mode and mode != "rb":
                write = file.write
                opened = file

                class Counted:
                    def __enter__(self):
                        return self

                    def __exit__(self, *_):
                        opened.close()

                    def __getattr__(self, attribute):
                        return getattr(opened, attribute)

                    def write(self, content):
                        if disk.step():
                            write(content[: len(content) // 2])  # half of it arrives
                            opened.flush()
                            raise disk.failure
                        return write(content)

                return Counted()
            return file

        monkeypatch.setattr(Path, "open", open_and_count)

    def step(self):
        self.count += 1
        return self.count == self.at

    def _counted(self, operation):
        def counted(*arguments, **options):
            if self.step():
                raise self.failure
            return operation(*arguments, **options)

        return counted


def broken_run(store, log, at, failure):
    """Run with the disk broken at operation ``at``; the number of operations, and what was raised."""
    with pytest.MonkeyPatch.context() as patched:
        disk = Disk(patched, at, failure)
        try:
            simulate(store, engine=partial(engine, log=log), block_size=5)
        except type(failure) as error:
            return disk.count, error
    return disk.count, None


@pytest.mark.parametrize("failure", [PowerCutError("power cut"), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_break_at_any_operation_of_the_disk(tmp_path, failure, step):
    """Whatever operation is the last one: nothing that the manifest lists is lost, and the rest is computed."""
    expected = reference()
    operations, error = broken_run(tmp_path / "whole", tmp_path / "none", 0, failure)
    assert error is None
    assert operations > 60
    for at in range(1, operations + 1, step):
        store, log = tmp_path / f"s{at}", tmp_path / f"log{at}"
        _, error = broken_run(store, log, at, failure)
        assert error is not None
        finished = set(Store.read(store).manifest.blocks) if (store / "plan.json").exists() else set()
        log.unlink(missing_ok=True)
        found = simulate(store, engine=partial(engine, log=log), block_size=5)
        assert calls(log) == [5 * block for block in range(2) if block not in finished]
        xr.testing.assert_identical(found.load(), expected)
        assert not list((store / "unfinished").glob("*"))


def test_full_disk_is_explained(tmp_path):
    messages = []
    operations, _ = broken_run(tmp_path / "whole", tmp_path / "log", 0, OSError())
    for at in range(1, operations + 1, 5):
        _, error = broken_run(tmp_path / f"s{at}", tmp_path / "log", at, OSError(errno.ENOSPC, "No space left"))
        assert error.errno == errno.ENOSPC
        messages.append(str(error))
    assert all(text.endswith("and run it again") for text in messages)
    last = [text for text in messages if "members 5 to 9" in text]
    assert len(last) > 3
    assert all("The 5 members that were finished are safe. Free some space (about 0.0 MiB)" in text for text in last)


def test_nothing_is_believed_before_it_is_on_the_disk(tmp_path, monkeypatch):
    """The order that a power cut asks for: contents, then names, then folders, then the manifest."""
    happened = []
    for owner, name in ((os, "fsync"), (Path, "replace")):
        original = getattr(owner, name)

        def noted(target, *arguments, name=name, original=original):
            text = os.readlink(f"/proc/self/fd/{target}") if name == "fsync" else str(arguments[0])
            happened.append((name, Path(text).relative_to(tmp_path).as_posix()))
            return original(target, *arguments)

        monkeypatch.setattr(owner, name, noted)
    simulate(tmp_path)
    names = [name for name, _ in happened]
    group = "trajectories.zarr"
    end = len(happened) - 1
    assert happened[end] == ("fsync", "manifest.jsonl")
    placed = [at for at, (name, where) in enumerate(happened) if name == "replace" and "/c.0" in where]
    assert len(placed) == 6
    for at in placed:
        where = happened[at][1]
        assert ("fsync", where.rsplit("/", 1)[0]) in happened[at:end]  # the folder that has the new name
    assert names[placed[0] - 6 : placed[0]] == ["fsync"] * 6  # the contents
    assert ("fsync", group) in happened
