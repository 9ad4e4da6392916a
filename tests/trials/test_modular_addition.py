"""A network that groks in PyTorch (``modular_addition.py``), measured from its logs.

``metrics.csv.gz`` is what that script wrote with torch 2.13.0 (CPU): where torch is not installed, its twelve runs are
measured from the table and from event files written by hand.  Half of all pairs modulo 23 are trained, so that there
are 264 training and 265 test examples.
"""

import csv
import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from event_writer import write_run
from grokphase.analyze import analyze
from grokphase.cli import main

HERE = Path(__file__).parent
TABLE = HERE / "metrics.csv.gz"
TESTED = 265


def rows_by_seed(path):
    """Steps, training and test accuracies of every run, by the csv module alone."""
    found = {}
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        for row in csv.DictReader(file):
            numbers = [float(row[name]) for name in ("step", "train_acc", "val_acc")]
            found.setdefault(int(row["seed"]), []).append(numbers)
    return {seed: np.array(rows).T for seed, rows in found.items()}


def first_step(steps, accuracy):
    """The first step at which every example is right."""
    return next((float(step) for step, share in zip(steps, accuracy, strict=True) if share == 1), None)


def without_source(data):
    """What must not depend on the door: all but the names of files, columns and runs."""
    measured = {name: value for name, value in data.items() if name not in ("source", "member", "columns", "read")}
    return {**measured, "sentences": data["sentences"][1:]}  # the first says what was read


def check_grokking(path, data):
    """The measured times are those of the table; the runs grok, and the exponent is refused for the right reason."""
    runs = rows_by_seed(path)
    for which, column in (("train", 1), ("test", 2)):
        times = data[f"zero_{which}_time"]
        for place, (steps, *accuracies) in enumerate(runs.values()):
            expected = first_step(steps, accuracies[column - 1])
            assert times["reached"][place] == (expected is not None)
            assert times["value"][place] == (steps[-1] if expected is None else expected)
    reached = data["zero_test_time"]["reached"]
    assert all(data["zero_train_time"]["reached"])
    assert sum(reached) >= 8
    assert data["median"]["zero_test_time"]["value"] > 10 * data["median"]["zero_train_time"]["value"]
    # 265 test examples are too few: ten of them are wrong hundreds of steps before none is.
    assert data["exponent_refused"].endswith("test on more inputs")
    assert data["records"]["smallest_test_error"] == 0
    errors = np.concatenate([1 - accuracy for _, _, accuracy in runs.values()]) * TESTED
    assert np.abs(errors - errors.round()).max() < 1e-4


def test_recorded_runs_by_every_door(tmp_path, capsys):
    for seed, (steps, train, test) in rows_by_seed(TABLE).items():
        write_run(tmp_path / "runs" / f"seed{seed}", steps, {"accuracy/train": train, "accuracy/test": test})
    by_table, by_events = analyze(TABLE), analyze(tmp_path / "runs")
    assert without_source(by_table.data) == without_source(by_events.data)
    check_grokking(TABLE, by_table.data)
    assert main(["analyze", str(TABLE), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == by_table.data
    assert by_table.data["share"]["zero_test_time"]["value"] == 11 / 12
    text = " ".join(by_table.sentences)
    assert "All 12 reach zero training error (every training example right), half of them by step 35." in text
    assert "1 of 12 has not got there when the record ends and counts as later than that" in text


@pytest.mark.slow
def test_trained_here_and_logged_by_tensorboard(tmp_path):
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("tensorboard") is None:
        pytest.skip("torch and tensorboard are not installed: the recorded runs are measured above")
    script = [sys.executable, str(HERE / "modular_addition.py"), str(tmp_path)]
    subprocess.run(script, check=True, timeout=600)
    by_table, by_events = analyze(tmp_path / "metrics.csv"), analyze(tmp_path / "runs")
    assert without_source(by_table.data) == without_source(by_events.data)
    check_grokking(tmp_path / "metrics.csv", by_table.data)
    # The same task with other seeds' rounding: the delay agrees with the recorded runs' within their intervals.
    recorded = analyze(TABLE).data["median"]["grokking_time"]
    here = by_table.data["median"]["grokking_time"]
    assert here["low"] <= recorded["high"]
    assert here["high"] >= recorded["low"]
