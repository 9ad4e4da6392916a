"""``grokphase simulate`` and ``grokphase status`` as a user meets them, with an engine that costs nothing.

The real engine stands at the end: a run that Ctrl-C stops, and that goes on.
"""

import errno
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import grokphase as gp
from grokphase import cli_runs
from grokphase.cli import main
from grokphase.runs import Status
from grokphase.runs import status as status_of
from grokphase.runs.lock import held

sys.path.insert(0, str(Path(__file__).parent / "runs"))
from fake_engine import calls, engine, numbers_of, scenario

COUNT = 10


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a scenario of ten members, and the engine that costs nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("grokphase.runs.ensemble.train", partial(engine, log=tmp_path / "log"))
    scenario(COUNT).to_toml("scenario.toml")
    Path("notes").mkdir()
    Path("notes/today.txt").touch()
    return tmp_path


def outcome(capsys, *arguments):
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def simulated(capsys, *arguments):
    return outcome(capsys, "simulate", "scenario.toml", "--store", "k1", *arguments)


def rows(text):
    """Lines "name  value"."""
    return {name: value.strip() for name, value in (line.split("  ", 1) for line in text.splitlines())}


# --- simulate ---


def test_simulate_keeps_the_ensemble_and_says_what_became_of_it(capsys):
    code, out, err = simulated(capsys, "--block-size", "4")
    assert code == 0
    expected = engine(scenario(COUNT), range(COUNT))
    xr.testing.assert_identical(gp.open("k1", scenario(COUNT)).load(), expected)
    assert err.splitlines()[0] == f"members: 0 of {COUNT} done"
    assert err.splitlines()[-1].startswith(f"members: {COUNT} of {COUNT} done, ")
    found = [numbers_of(scenario(COUNT), member) for member in range(COUNT)]
    reached = [item for item in found if math.isfinite(item["zero_test_time"])]
    broken = [item for item in found if math.isinf(item["zero_test_time"]) and item["status"] == 2]
    both = [item for item in reached if math.isfinite(item["zero_train_time"])]
    delay = np.mean([item["zero_test_time"] - item["zero_train_time"] for item in both])
    table = rows(out)
    assert table["members"] == str(COUNT)
    assert table["reached zero test error"] == str(len(reached))
    assert table["did not within the duration (censored)"] == str(COUNT - len(reached) - len(broken))
    assert table["ended before by numbers that are not finite"] == str(len(broken))
    assert 0 < len(broken) < COUNT - len(reached)  # the seed leaves something to tell apart
    assert 0 < len(both) < len(reached)
    mean, rest = table["mean grokking time"].split(" ± ")
    assert float(mean) == pytest.approx(delay, abs=10.0 ** -len(mean.split(".")[1]))
    assert rest.endswith(f"of the {len(both)} with both zero times: leaves out the censored")
    assert (table["kept in"], table["open it in Python with"]) == ("k1", "gp.open('k1')")


def test_same_command_again_computes_nothing(capsys, folder):
    _, first, _ = simulated(capsys)
    code, second, err = simulated(capsys)
    assert code == 0
    assert second == first
    assert calls(folder / "log") == [0]
    assert err == f"members: {COUNT} of {COUNT} done\n"


def test_nobody_reached_zero(capsys, monkeypatch):
    def never(scenario, members, **options):
        found = engine(scenario, members, **options)
        return found.assign(zero_test_time=found.zero_test_time * np.inf)

    monkeypatch.setattr("grokphase.runs.ensemble.train", never)
    _, out, _ = simulated(capsys)
    assert rows(out)["reached zero test error"] == "0"
    assert "grokking time" not in out


def test_options_arrive(capsys, folder):
    code, *_ = simulated(capsys, "--snapshots", "0.05", "zero_test", "--block-size", "4", "--workers", "2")
    assert code == 0
    assert gp.open("k1").snapshot.values.tolist() == ["0.05", "zero_test"]
    assert sorted(calls(folder / "log")) == [0, 4, 8]
    assert str(os.getpid()) not in (folder / "log").read_text()


def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(capsys, folder, monkeypatch):
    def interrupted(scenario, members, **options):
        if members[0] == 8:
            raise KeyboardInterrupt
        return engine(scenario, members, **options)

    with monkeypatch.context() as patched:
        patched.setattr("grokphase.runs.ensemble.train", interrupted)
        code, out, err = simulated(capsys, "--block-size", "4")
    assert (code, out) == (130, "")
    assert err.splitlines()[1:] == [
        f"grokphase: stopped with 8 of {COUNT} members finished and safe in k1; run it again and it goes on from there"
    ]
    assert simulated(capsys)[0] == 0
    assert calls(folder / "log") == [8]
    xr.testing.assert_identical(gp.open("k1").load(), engine(scenario(COUNT), range(COUNT)))


def test_scenario_of_the_documentation():
    text = (Path(__file__).parents[1] / "docs" / "running.md").read_text("utf-8")
    Path("k1.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1], "utf-8")
    assert gp.Scenario.from_toml("k1.toml") == gp.Scenario(30, bond=20, l1=0.001)  # whatever it names is the default
    for rule in re.findall(r"{ \w+ = .*? }", text):
        Path("k1.toml").write_text(f"rule = {rule}", "utf-8")
        assert gp.Scenario.from_toml("k1.toml").rule == gp.CellularAutomaton(30)


# --- status ---


def test_status_of_a_complete_store(capsys):
    simulated(capsys)
    code, out, err = outcome(capsys, "status", "k1")
    assert (code, err) == (0, "")
    table = rows(out)
    assert [table[name] for name in ("members", "done", "running", "left")] == ["10", "10", "0", "0"]
    assert table["speed"].endswith("model-steps/s")
    assert table["open it in Python with"] == "gp.open('k1')"
    assert "time left" not in table


def failing(capsys, monkeypatch, member, *arguments):
    """A run whose engine fails at a block."""
    with monkeypatch.context() as patched:
        patched.setattr("grokphase.runs.ensemble.train", partial(engine, fail=(member,)))
        with pytest.raises(FloatingPointError):
            simulated(capsys, *arguments)
    capsys.readouterr()


def unfinished(capsys, monkeypatch):
    """A store in which members 0 to 3 are finished, and 4 to 7 missing because their file is gone."""
    failing(capsys, monkeypatch, 8, "--block-size", "4")
    Path("k1/trajectories.zarr/status/c.1").unlink()


def test_status_of_a_store_that_nobody_works_on(capsys, monkeypatch):
    unfinished(capsys, monkeypatch)
    _, out, _ = outcome(capsys, "status", "k1")
    table = rows(out)
    assert (table["done"], table["running"], table["left"]) == ("4", "0", "6 (4 of them damaged)")
    assert table["time left"] == "nobody works on it"
    command = shlex.split(table["go on with"])
    assert command[0] == "grokphase"
    assert outcome(capsys, *command[1:])[0] == 0  # it does
    assert status_of("k1").complete


def test_status_of_a_store_at_work(capsys, monkeypatch):
    unfinished(capsys, monkeypatch)
    with held(Path("k1/lock")):
        _, out, _ = outcome(capsys, "status", "k1")
        _, as_json, _ = outcome(capsys, "status", "k1", "--json")
    table, data = rows(out), json.loads(as_json)
    assert table["worked on by"].startswith(f"process {os.getpid()} on ")
    assert table["running"] == str(data["running"]) == "4"
    assert data["owner"] == table["worked on by"]
    assert data["seconds_left"] >= 0


# The JSON form is a contract: fields may be added, none may vanish.
FIELDS = {
    *("schema", "store", "members", "done", "running", "left", "damaged", "complete", "owner"),
    *("members_per_second", "steps_per_second", "seconds_left"),
}


def test_status_as_json(capsys, monkeypatch):
    failing(capsys, monkeypatch, 0)
    code, out, err = outcome(capsys, "status", "k1", "--json")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert set(data) >= FIELDS
    assert (data["schema"], data["store"], data["done"], data["left"], data["complete"]) == (1, "k1", 0, COUNT, False)
    assert data["steps_per_second"] is data["seconds_left"] is data["owner"] is None  # not known, and no NaN in JSON
    simulated(capsys)
    data = json.loads(outcome(capsys, "status", "k1", "--json")[1])
    assert (data["done"], data["complete"], data["seconds_left"]) == (COUNT, True, 0)
    assert data["steps_per_second"] == status_of("k1").steps_per_second


# --- progress ---


def report(done, speed=math.nan, left=math.nan, members=1000):
    return Status(members, done, min(128, members - done), 0, speed / 5000, speed, left, None)


REPORTS = (report(0), report(256, 33_333.3, 125.4), report(1000, 33_333.3, 0.0))


def shown_after(number):
    """What stands on a terminal after so many reports."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with cli_runs.members_progress("bond 10", console) as progress:
        for status in REPORTS[:number]:
            progress(status)
        time.sleep(0.3)  # it is drawn ten times a second
        text = screen.getvalue()
    return text.rsplit("\r", 1)[-1]


def test_bar_on_a_terminal():
    before, start, middle, end = (shown_after(number) for number in range(4))
    assert "bond 10" in before
    assert "left" not in before + start  # nothing is known yet
    assert "steps/s" not in before + start
    assert "0 of 1000" in start
    for expected in ("256 of 1000", "33,333 model-steps/s", "2 min left"):
        assert expected in middle
    assert "1000 of 1000" in end


def test_time_left_counts_down_between_reports(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("grokphase.cli_runs.time.monotonic", lambda: clock[0])
    column, task = cli_runs._TimeLeft(), SimpleNamespace(fields={"ends": 100.0 + 50.0})
    shown = []
    for clock[0] in (100.0, 130.0, 160.0):
        shown.append(str(column.render(task)))
    assert shown == ["50 s left", "20 s left", "0 s left"]


def test_lines_in_a_log_file(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("grokphase.cli_runs.time.monotonic", lambda: clock[0])
    with cli_runs.members_progress("members", Console(file=io.StringIO())) as progress:
        for seconds, status in ((0, REPORTS[0]), (10, report(128)), (31, REPORTS[1]), (32, REPORTS[2])):
            clock[0] = seconds
            progress(status)
    assert capsys.readouterr().err.splitlines() == [
        "members: 0 of 1000 done",
        "members: 256 of 1000 done, 33,333 model-steps/s, 2 min left",
        "members: 1000 of 1000 done, 33,333 model-steps/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3599.0, "1 h"),
        (5400.0, "1 h 30 min"),
        (90_000.0, "1 d 1 h"),
        (86_460.0, "1 d 1 min"),
        (math.inf, ""),
        (math.nan, ""),
    ],
)
def test_durations(seconds, text):
    assert cli_runs.duration(seconds) == text


# --- mistakes ---


def write(name, content):
    Path(name).write_bytes(content)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "scenario must be a TOML file, got 'other.toml': No such file or directory"),
        (b"rule = ", "other.toml is not a TOML file"),
        (b"\xff\xfe\x00", "scenario must be a TOML file, got 'other.toml', which is no text"),
        (b"bond = 4", "other.toml must name a rule"),
        (b"rule = 30\nbnd = 4", "unknown option bnd"),
        (b"rule = 30\nbond = -4", "bond must be integer"),
        (b"rule = 30\nbond = [4, 5]", "bond must be a single integer"),
        (b'rule = 30\nprotocol = ["published"]', "protocol must be one of"),
        (b"rule = 30\nlengths = {}", "lengths"),
        (b"rule = 30\nschema = 99", "must have schema = 1"),
    ],
)
def test_a_scenario_that_is_none(capsys, content, named):
    if content is not None:
        write("other.toml", content)
    code, out, err = outcome(capsys, "simulate", "other.toml", "--store", "k1")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert named in err
    assert not Path("k1").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["simulate", ".", "--store", "k1"], "scenario must be a TOML file, got '.': Is a directory"),
        (["simulate", "scenario.toml"], "--store"),
        (["simulate", "--store", "k1"], "SCENARIO"),
        (["simulate", "scenario.toml", "--store", "k1", "--workers", "0"], "workers must be integer, from 1 to 4096"),
        (["simulate", "scenario.toml", "--store", "k1", "--workers", "two"], "--workers"),
        (["simulate", "scenario.toml", "--store", "k1", "--workers", "2", "--cluster", "tcp://x:1"], "exclude each"),
        (["simulate", "scenario.toml", "--store", "k1", "--cluster", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["simulate", "scenario.toml", "--store", "k1", "--block-size", "0"], "block_size must be integer"),
        (["simulate", "scenario.toml", "--store", "k1", "--snapshots", "-1"], "snapshots must be ≥ 0, got -1.0"),
        (["simulate", "scenario.toml", "--store", "s3://bucket/k1"], "store must be a folder of this machine"),
        (["simulate", "scenario.toml", "--store", "scenario.toml"], "store must be a folder that can be written"),
        (["simulate", "scenario.toml", "--store", "/proc/x"], "store must be a folder that can be written"),
        (["simulate", "scenario.toml", "--store", "notes"], "store must be a new or empty folder"),
        (["status", "k1"], "store must be a folder made by grokphase.simulate, got 'k1'"),
        (["status"], "STORE"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(capsys, arguments, named):
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        code, out, err = outcome(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("grokphase: ")
    assert named in err


def test_a_store_that_holds_another_scenario(capsys):
    simulated(capsys)
    scenario(COUNT, l2=0.5).to_toml("scenario.toml")
    code, _, err = simulated(capsys)
    assert code == 2
    assert err == "grokphase: k1 holds another scenario: l2 is 0.0 there, 0.5 here\n"


def test_a_store_in_use(capsys, monkeypatch):
    unfinished(capsys, monkeypatch)
    with held(Path("k1/lock")):
        code, _, err = simulated(capsys)
    assert code == 2
    assert err.startswith(f"grokphase: k1 is being worked on by process {os.getpid()} on ")
    assert err.count("\n") == 1


def test_a_full_disk(capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fills(scenario, members, **options):
        if members[0] == 4:
            monkeypatch.setattr("grokphase.runs.files._write", full)
        return engine(scenario, members, **options)

    monkeypatch.setattr("grokphase.runs.ensemble.train", fills)
    code, out, err = simulated(capsys, "--block-size", "4")
    assert (code, out) == (2, "")
    told = err.splitlines()[1:]
    assert len(told) == 1
    assert told[0].startswith("grokphase: No space left on device while writing block 1 (members 4 to 7) of k1. ")
    assert "The 4 members that were finished are safe. Free some space (about " in told[0]


# --- the real engine, stopped by Ctrl-C in a process of its own ---


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_stopped_and_gone_on_with(folder, workers):
    given = gp.Scenario(
        30, bond=3, members=64, lengths=(3, 4), batch=8, duration=0.5, observe=0.1, test_strings=64, record_every=1
    )
    given.to_toml("scenario.toml")
    command = [sys.executable, "-m", "grokphase", "simulate", "scenario.toml", "--store", "k1", "--block-size", "8"]

    def start():
        return subprocess.Popen(
            [*command, *workers], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    process = start()
    while not (Path("k1/plan.json").exists() and status_of("k1").done):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    done = status_of("k1").done
    assert 0 < done < given.members
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith(f"grokphase: stopped with {done} of 64 members finished and safe in k1; ")
    assert not [line for line in err.splitlines()[:-1] if not line.startswith("members: ")]
    out, err = start().communicate(timeout=100)
    assert rows(out)["members"] == "64"
    from grokphase.training import run_block

    xr.testing.assert_identical(gp.open("k1", given).load(), run_block(given))
