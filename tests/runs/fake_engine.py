"""An engine that costs nothing, for tests of everything around it; it can be slow, fail or die on request."""

import os
import time
from pathlib import Path

import numpy as np
import xarray as xr

import grokphase
from grokphase.training.scenario import Scenario


def scenario(members=10, **options):
    return Scenario(30, bond=4, members=members, duration=0.1, observe=0.1, **options)


def numbers_of(scenario, member):
    """What is to be found for a member: a function of scenario and member alone."""
    random = np.random.default_rng([scenario.seed, scenario.bond, member])
    epochs = np.asarray(scenario.record_epochs)
    last = int(random.integers(1, epochs.size))
    curves = random.random((2, epochs.size)).astype("float32")
    curves[:, last + 1 :] = np.nan
    rate = scenario.learning_rate
    return {
        "train_loss": curves[0],
        "test_error": curves[1],
        "zero_train_time": np.inf if random.random() < 0.2 else epochs[0] * rate,
        "zero_test_time": np.inf if random.random() < 0.3 else epochs[last] * rate,
        "last_time": epochs[last] * rate,
        "status": np.int8(random.integers(0, 3)),
    }


def engine(
    scenario,
    members,
    *,
    threads=1,
    snapshots=(),
    log=None,
    seconds=0.0,
    fail=(),
    die_once=None,
    die=(),
    version=grokphase.__version__,
):
    """Trajectories of some members.

    ``log``: file that gets a line "first member, process, OMP_NUM_THREADS, threads" for every call; ``seconds``: how
    long it takes; ``fail``, ``die``: first members at which it raises, ends its process; ``die_once``: such a member
    and a file, which it leaves then and which keeps it from doing so again.
    """
    first = members[0]
    if log is not None:
        with Path(log).open("a") as file:
            file.write(f"{first} {os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {threads}\n")
    if first in fail:
        raise FloatingPointError("as requested")
    time.sleep(seconds)
    if first in die:
        os._exit(9)
    if die_once is not None and first == die_once[0] and not die_once[1].exists():
        die_once[1].touch()
        os._exit(9)
    found = [numbers_of(scenario, member) for member in members]
    rate = scenario.learning_rate
    units = {"units": "1"}
    variables = {
        name: (("member", "time")[: np.ndim(found[0][name]) + 1], np.stack([item[name] for item in found]), units)
        for name in found[0]
    }
    flags = {"flag_values": [0, 1, 2], "flag_meanings": "censored observed non-finite"}
    variables["status"] = (*variables["status"][:2], units | flags)
    coordinates = {
        "member": ("member", list(members), {"long_name": "number of the run in its ensemble"}),
        "time": ("time", np.asarray(scenario.record_epochs) * rate, units),
    }
    if snapshots:
        variables["snapshot_scale"] = (
            ("member", "snapshot", "bond"),
            np.stack([np.full((len(snapshots), 2), np.nan if member % 2 else float(member)) for member in members]),
            units,
        )
        coordinates["snapshot"] = ("snapshot", [str(item) for item in snapshots])
    attributes = {"scenario": scenario.to_text(), "schema": 1, "grokphase_version": version, "device": "cpu"}
    return xr.Dataset(variables, coordinates, attributes)


def calls(log):
    """First members of the blocks that were begun, in order."""
    return [int(line.split()[0]) for line in Path(log).read_text().splitlines()] if Path(log).exists() else []
