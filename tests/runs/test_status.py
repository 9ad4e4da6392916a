"""How far an ensemble is, from what is written about it."""

from functools import partial

import numpy as np
import pytest
from fake_engine import engine, numbers_of, scenario

from grokphase.runs import status
from grokphase.runs.ensemble import execute
from grokphase.runs.executors import Here
from grokphase.runs.manifest import Finished, Session
from grokphase.runs.plan import Plan
from grokphase.runs.progress import progress_of


def block(number, finished, workers=2):
    return Finished(block=number, members=4, steps=4000, seconds=3.0, finished=finished, workers=workers)


def test_speed_and_time_left():
    """Session from 100 on: 8 members by 110, so 0.8 a second; 5 s later the 4 that are left need 0 s more."""
    plan = Plan(scenario(20), block_size=4)
    earlier = [block(0, 50.0), block(1, 60.0)]  # another session, whose speed is of no interest
    finished = [*earlier, block(2, 104.0), block(3, 110.0)]
    found = progress_of(plan, finished, Session(100.0, 2), workers=2, now=112.0)
    assert (found.members, found.done, found.running, found.left, found.complete) == (20, 16, 4, 0, False)
    assert found.members_per_second == pytest.approx(0.8)
    assert found.steps_per_second == pytest.approx(800)
    assert found.seconds_left == pytest.approx(4 / 0.8 - 2)
    assert progress_of(plan, finished, Session(100.0, 2), workers=2, now=130.0).seconds_left == 0
    assert progress_of(plan, finished, Session(100.0, 2), workers=0, now=112.0).seconds_left == np.inf
    start = progress_of(plan, earlier, Session(100.0, 2), workers=2, now=101.0)
    assert np.isnan([start.members_per_second, start.steps_per_second, start.seconds_left]).all()
    assert start.running + start.left + start.done == 20
    whole = progress_of(plan, [*finished, block(4, 120.0)], Session(100.0, 2), workers=0, now=500.0)
    assert (whole.complete, whole.running, whole.seconds_left) == (True, 0, 0)


def test_status_of_a_store(tmp_path):
    with pytest.raises(FloatingPointError):
        execute(partial(engine, fail=(6,)), scenario(), Here(), store=tmp_path, block_size=3)
    found = status(tmp_path)
    assert (found.members, found.done, found.running, found.left, found.owner) == (10, 6, 0, 4, None)
    assert found.members_per_second > 0
    epochs = sum(numbers_of(scenario(), member)["last_time"] for member in range(6)) / scenario().learning_rate
    ratio = found.steps_per_second / found.members_per_second
    assert ratio == pytest.approx(epochs * scenario().steps_per_epoch / 6)
    (tmp_path / "trajectories.zarr" / "status" / "c.1").unlink()
    found = status(tmp_path)
    assert (found.done, found.damaged, found.left) == (3, 3, 7)
    execute(engine, scenario(), Here(), store=tmp_path)
    assert status(tmp_path).complete
    assert status(tmp_path).damaged == 0


def test_no_store(tmp_path):
    with pytest.raises(ValueError, match="store must be a folder"):
        status(tmp_path)
