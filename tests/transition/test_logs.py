"""Logs of all kinds: the same runs through every door, and what real files have wrong with them."""

import gzip
import json
import sys
import time as clock

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import grokphase as gp

NAMES = {"time": "step", "train": "train_acc", "test": "val_acc", "member": "seed"}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    steps = np.arange(0, 500, 50)
    rows = [(seed, step, *rng.integers(0, 65, 2) / 64) for step in steps for seed in (3, 1)]  # interleaved
    return pd.DataFrame(rows, columns=["seed", "step", "train_acc", "val_acc"])


def check(runs, table):
    assert runs["train_error"].dims == ("member", "time")
    assert_array_equal(runs["member"].astype(int), [1, 3])
    assert_array_equal(runs["time"], np.arange(0, 500, 50))
    for seed in (1, 3):
        rows = table[table.seed == seed]
        place = int(np.flatnonzero(runs["member"].astype(int) == seed)[0])
        assert_array_equal(runs["test_error"][place], 1 - rows.val_acc)
        assert_array_equal(runs["train_error"][place], 1 - rows.train_acc)


def json_lines(table):
    return "".join(json.dumps(row) + "\n" for row in table.to_dict("records"))


def test_every_door_gives_the_same_runs(table, tmp_path):
    check(gp.read_runs(table, **NAMES), table)
    check(gp.read_runs({name: table[name].to_numpy() for name in table}, **NAMES), table)
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "a.csv.gz", index=False)
    table.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    (tmp_path / "a.jsonl").write_text(json_lines(table))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json_lines(table).encode()))
    table.to_parquet(tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        check(gp.read_runs(path, **NAMES), table)
    for seed in (1, 3):
        table[table.seed == seed].to_csv(tmp_path / f"seed{seed}.csv", index=False)
    paths = [tmp_path / f"seed{seed}.csv" for seed in (1, 3)]
    several = gp.read_runs(paths, **{**NAMES, "member": None})
    assert_array_equal(several["member"], [str(path) for path in paths])
    check(several.assign_coords(member=[1, 3]), table)


def test_datasets_and_matrices(table):
    runs = gp.read_runs(table, **NAMES)
    xr.testing.assert_identical(gp.read_runs(runs)["test_error"].drop_attrs(), runs["test_error"].drop_attrs())
    accuracy = xr.Dataset(
        {
            name: (("epoch", "run"), 1 - runs[error].T.to_numpy())
            for name, error in (("a_acc", "train_error"), ("b_acc", "test_error"))
        },
        {"epoch": runs["time"].to_numpy()},
    )
    found = gp.read_runs(accuracy, time="epoch", train="a_acc", test="b_acc", member="run")
    assert_array_equal(found["test_error"], 1 - (1 - runs["test_error"].to_numpy()))
    assert set(found.data_vars) == {"train_error", "test_error"}
    single = gp.read_runs({"time": [0, 1], "train_error": [[0.5, 0.0]], "test_error": [[0.5, 0.25]]})
    assert_array_equal(single["test_error"], [[0.5, 0.25]])
    alone = xr.Dataset({"train_error": ("time", [0.5, 0.0]), "test_error": ("time", [0.5, 0.25])}, {"time": [0, 1]})
    assert_array_equal(gp.read_runs(alone)["test_error"], single["test_error"])


@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_order_of_members_and_gaps_does_not_matter(random):
    rows = [(seed, step, 1 / (1 + seed + step), 0.5) for seed in (0, 1) for step in range(6) if random.random() < 0.8]
    rows += [(seed, 6, 0.1, 0.1) for seed in (0, 1)]
    frame = pd.DataFrame(rows, columns=["seed", "step", "train_acc", "val_acc"])
    runs = gp.read_runs(frame, **NAMES)
    mixed = sorted(rows, key=lambda row: (row[1], random.random()))  # members in any order, each in the order of time
    again = gp.read_runs(pd.DataFrame(mixed, columns=frame.columns), **NAMES)
    xr.testing.assert_identical(runs, again)
    assert int((~runs["train_error"].isnull()).sum()) == len(rows)


# --- what real files look like ---


def test_train_and_test_in_rows_of_their_own(tmp_path):
    """As Lightning's CSV logger writes them: empty cells, and the same step twice."""
    (tmp_path / "metrics.csv").write_text(
        "epoch,step,train_acc,val_acc\n0,9,0.5,\n0,9,,0.25\n1,19,0.75,\n1,19,,0.5\n2,29,1.0,\n"
    )
    runs = gp.read_runs(tmp_path / "metrics.csv", time="step", train="train_acc", test="val_acc")
    assert_array_equal(runs["train_error"], [[0.5, 0.25, 0.0]])
    assert_array_equal(runs["test_error"], [[0.75, 0.5, np.nan]])


def test_missing_rows_and_nan_are_no_records():
    nan = np.nan
    runs = gp.read_runs({"time": [0, 1, 3, 4], "train_error": [0.5, nan, 0.1, 0.0], "test_error": [0.5, 0.4, nan, 0.0]})
    transition = gp.measure(runs)
    assert (transition.zero_test_time.low[0], transition.zero_test_time.high[0]) == (1.0, 4.0)
    assert (transition.zero_train_time.low[0], transition.zero_train_time.high[0]) == (3.0, 4.0)


def test_a_restart_replaces_what_was_given_up():
    table = {
        "step": [0, 10, 20, 30, 40, 20, 30, 40, 50],
        "train_acc": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "val_acc": [0.0] * 9,
    }
    runs = gp.read_runs(table, time="step", train="train_acc", test="val_acc")
    assert_array_equal(runs["time"], [0, 10, 20, 30, 40, 50])
    assert_allclose(1 - runs["train_error"][0], [0.1, 0.2, 0.6, 0.7, 0.8, 0.9])
    assert (runs.attrs["resumed"], runs.attrs["rows_superseded"]) == ("0", 3)


def test_a_restart_at_other_steps_leaves_nothing_of_the_old_run():
    table = {"time": [0, 10, 20, 30, 15, 25], "train_error": [0.5, 0.4, 0.3, 0.2, 0.35, 0.25], "test_error": [0.5] * 6}
    runs = gp.read_runs(table)
    assert_array_equal(runs["time"], [0, 10, 15, 25])
    assert_allclose(runs["train_error"][0], [0.5, 0.4, 0.35, 0.25])


def test_back_to_the_beginning_is_refused_unless_said():
    table = {"time": [0, 1, 2, 0, 1], "train_error": [0.5, 0.4, 0.3, 0.2, 0.1], "test_error": [0.5] * 5}
    with pytest.raises(
        ValueError, match=r"goes back from 2 to 0 in run 0: name the column .*member=.*restart='resume'"
    ):
        gp.read_runs(table)
    assert_allclose(gp.read_runs(table, restart="resume")["train_error"], [[0.2, 0.1]])


def test_many_rows_at_the_same_time_are_refused():
    table = {"time": [0, 0, 0, 1, 1, 1], "train_error": [0.5, 0.4, 0.6, 0.3, 0.2, 0.4], "test_error": [0.5] * 6}
    with pytest.raises(ValueError, match=r"different numbers for the same time 0 of run 0: .* or a time that grows"):
        gp.read_runs(table)
    twice = {name: [*column[::3], column[3]] for name, column in table.items()}  # the last row again: harmless
    assert_allclose(gp.read_runs(twice)["train_error"], [[0.5, 0.3]])


def test_rows_without_order_are_refused():
    rng = np.random.default_rng(0)
    table = {"time": rng.permutation(50), "train_error": rng.random(50), "test_error": rng.random(50)}
    with pytest.raises(ValueError, match=r"rows of run 0 \(with 'train_error'\) are not in the order of time"):
        gp.read_runs(table)


def test_all_training_rows_before_all_test_rows_is_no_restart():
    nan = np.nan
    table = {
        "time": [0, 1, 2, 0, 1, 2],
        "train_error": [0.5, 0.4, 0.3, nan, nan, nan],
        "test_error": [nan] * 3 + [0.5, 0.4, 0.4],
    }
    runs = gp.read_runs(table)
    assert_array_equal(runs["train_error"], [[0.5, 0.4, 0.3]])
    assert_array_equal(runs["test_error"], [[0.5, 0.4, 0.4]])


@pytest.mark.parametrize(
    ("train", "test", "options", "errors"),
    [
        ([50.0, 100.0], [50.0, 75.0], {}, ([0.5, 0.0], [0.5, 0.25])),
        ([0.5, 1.0], [0.5, 0.75], {}, ([0.5, 0.0], [0.5, 0.25])),
        ([50.0, 100.0], [0.5, 0.75], {"values": "accuracy percent"}, ([0.5, 0.0], [0.995, 0.9925])),
        ([0.5, 1.0], [0.5, 0.75], {"values": "error"}, ([0.5, 1.0], [0.5, 0.75])),
        ([0.5, 1.0000001], [0.5, 0.75], {}, ([0.5, 0.0], [0.5, 0.25])),
    ],
)
def test_percent_and_fractions(train, test, options, errors):
    runs = gp.read_runs(
        {"time": [0, 1], "my_acc": train, "other_acc": test}, train="my_acc", test="other_acc", **options
    )
    assert_allclose(runs["train_error"][0], errors[0], atol=1e-15)
    assert_allclose(runs["test_error"][0], errors[1], atol=1e-15)


def test_what_cannot_be_told_is_refused():
    def read(train, test, names=("train_acc", "test_acc"), **options):
        columns = dict(zip(("time", *names), ([0, 1], train, test), strict=True))
        return gp.read_runs(columns, train=names[0], test=names[1], **options)

    with pytest.raises(ValueError, match=r"reaches 100 but 'test_acc' never exceeds 0\.75: is that percent\?"):
        read([50.0, 100.0], [0.5, 0.75])
    with pytest.raises(ValueError, match="'train_loss' looks like a loss, which does not tell when the error is zero"):
        read([0.5, 0.1], [0.5, 0.1], ("train_loss", "test_loss"))
    with pytest.raises(ValueError, match="'top1' may be an error or an accuracy: say which"):
        read([0.5, 0.1], [0.5, 0.1], ("top1", "test_acc"))
    with pytest.raises(ValueError, match="must lie between 0 and 100, got 50 to 120"):
        read([50.0, 120.0], [50.0, 60.0])
    with pytest.raises(ValueError, match=r"must lie between 0 and 1, got -0\.5 to 0\.5"):
        read([-0.5, 0.5], [0.5, 0.6])
    with pytest.raises(ValueError, match="'train_acc' holds no number"):
        read([np.nan, np.nan], [0.5, 0.6])
    with pytest.raises(ValueError, match="'test_acc' is infinite in row 2"):
        read([0.5, 0.6], [0.5, np.inf])
    with pytest.raises(ValueError, match="must hold numbers, got 'half' in row 2"):
        read([0.5, "half"], [0.5, 0.6])
    with pytest.raises(ValueError, match="values must be one of"):
        read([0.5, 0.6], [0.5, 0.6], values="percentage")
    with pytest.raises(ValueError, match="must name different variables"):
        gp.read_runs({"time": [0]}, train="a", test="a")
    with pytest.raises(ValueError, match="others must not be called"):
        gp.read_runs({"time": [0]}, train="a_acc", test="b_acc", others=["test_error"])


def test_unusable_tables_are_refused(tmp_path, table):
    with pytest.raises(ValueError, match="the table has no 'val_err'; it has 'seed', 'step', 'train_acc', 'val_acc'"):
        gp.read_runs(table, **{**NAMES, "test": "val_err"})
    with pytest.raises(ValueError, match="'step' is missing or infinite in 2 rows, first in row 5"):
        gp.read_runs(table.assign(step=table.step.where(~table.index.isin([4, 9]))), **NAMES)
    with pytest.raises(ValueError, match="'seed' is missing in 1 rows, first in row 3"):
        gp.read_runs(table.assign(seed=table.seed.where(table.index != 2)), **NAMES)
    with pytest.raises(ValueError, match="there is no file or folder"):
        gp.read_runs(tmp_path / "nothing.csv", **NAMES)
    (tmp_path / "a.log").write_text("x")
    with pytest.raises(ValueError, match=r"cannot tell the format of a\.log"):
        gp.read_runs(tmp_path / "a.log", **NAMES)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"empty\.csv cannot be read as a table"):
        gp.read_runs(tmp_path / "empty.csv", **NAMES)
    (tmp_path / "broken.csv").write_text('seed,step,train_acc,val_acc\n0,1,0.5,0.5\n0,"1,0.5,0.5\n')
    with pytest.raises(ValueError, match=r"broken\.csv cannot be read as a table: .*row 2"):
        gp.read_runs(tmp_path / "broken.csv", **NAMES)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as Parquet"):
        gp.read_runs(tmp_path / "a.parquet", **NAMES)
    with pytest.raises(ValueError, match="source must be a path"):
        gp.read_runs(3.0)
    with pytest.raises(ValueError, match="equal length"):
        gp.read_runs({"time": [0, 1], "train_error": [0.5], "test_error": [0.5, 0.5]})
    with pytest.raises(ValueError, match="must have shape"):
        gp.read_runs({"time": [0, 1], "train_error": [[0.5, 0.5]], "test_error": [[0.5]]})
    with pytest.raises(ValueError, match="'time' must ascend"):
        gp.read_runs({"time": [1, 0], "train_error": [[0.5, 0.5]], "test_error": [[0.5, 0.5]]})


def test_json_lines_that_end_in_the_middle(tmp_path, table):
    path = tmp_path / "a.jsonl"
    path.write_text(json_lines(table) + '{"seed": 1, "step": 500, "tra')
    check(gp.read_runs(path, **NAMES), table)
    path.write_text('{"seed": 1, "st\n' + json_lines(table))
    with pytest.raises(ValueError, match=r"a\.jsonl, line 1, is not JSON"):
        gp.read_runs(path, **NAMES)
    path.write_text("[1, 2]\n")
    with pytest.raises(ValueError, match="line 1, is not a JSON object"):
        gp.read_runs(path, **NAMES)


def test_json_lines_with_nan_null_and_other_events(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"event": "start"} | {"step": 0},
        {"step": 1, "train_acc": None, "val_acc": 0.5},
        {"step": 2, "train_acc": float("nan"), "val_acc": 0.75},
        {"step": 3, "train_acc": 1.0},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    runs = gp.read_runs(path, time="step", train="train_acc", test="val_acc")
    assert_array_equal(runs["test_error"], [[0.5, 0.25, np.nan]])
    assert_array_equal(runs["train_error"], [[np.nan, np.nan, 0.0]])


def test_parquet_without_pyarrow_says_what_is_needed(tmp_path, table, monkeypatch):
    table.to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match="needs pyarrow"):
        gp.read_runs(tmp_path / "a.parquet", **NAMES)


def test_runs_at_times_of_their_own_are_refused_if_that_is_too_much():
    rng = np.random.default_rng(0)
    members = np.repeat(np.arange(100), 1000)
    table = {"time": rng.random(members.size), "seed": members, "train_error": rng.random(members.size)}
    frame = pd.DataFrame(table | {"test_error": table["train_error"]}).sort_values("time")
    few = frame[frame.seed < 10]
    assert gp.read_runs(few, member="seed").sizes == {"member": 10, "time": len(few)}
    with pytest.raises(ValueError, match="100 runs are recorded at 100000 different times, hardly any of them shared"):
        gp.read_runs(frame, member="seed")


def test_a_million_rows_in_less_than_five_seconds(tmp_path):
    rows, members = 10**6, 100
    steps = rows // members
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "seed": np.tile(np.arange(members), steps),
            "step": np.repeat(np.arange(steps), members),
            "train_acc": rng.random(rows).round(4),
            "val_acc": rng.random(rows).round(4),
        }
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    start = clock.process_time()
    transition = gp.measure(gp.read_runs(tmp_path / "a.csv", **NAMES))
    assert clock.process_time() - start < 5  # of processor time on one core; 1.1 s where written
    assert len(transition.zero_test_time) == members
    place = int(np.flatnonzero(frame.seed == 7)[1234])
    assert float(transition.runs["test_error"][7, 1234]) == 1 - frame.val_acc[place]
