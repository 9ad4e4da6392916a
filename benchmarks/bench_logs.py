"""Reading and measuring logs: a million rows of 100 runs, from CSV and Parquet, against a loop over pandas groups.

The runs get to zero training and test error at times of their own, some of them not at all; the loop does what one
would write for a single question, the time between the two zeros and the mean test error before the second, without
looking for gaps, restarts or units, and without the runs that never get there.  It need not be slower.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from _timing import Row, best_time, print_table
from grokphase.analyze import analyze
from grokphase.transition.logs import read_runs
from grokphase.transition.measuring import measure

GOAL = 5.0
NAMES = {"time": "step", "train": "train_acc", "test": "val_acc", "member": "seed"}


def log(members: int, steps: int) -> pd.DataFrame:
    """Rows as training jobs side by side write them: every member at every step."""
    rng = np.random.default_rng(0)
    time = np.arange(steps)
    train_zero, test_zero = rng.uniform(0.05, 0.2, members) * steps, rng.uniform(0.3, 1.1, members) * steps
    errors = {}
    for name, zero in (("train_acc", train_zero), ("val_acc", test_zero)):
        left = np.maximum(zero - time[:, None], 0) / (0.3 * steps)
        errors[name] = np.ceil(10_000 * np.minimum(left, 0.5)) / 10_000
    return pd.DataFrame(
        {
            "seed": np.tile(np.arange(members), steps),
            "step": np.repeat(time, members),
            **{name: 1 - error.ravel() for name, error in errors.items()},
        }
    )


def by_groups(frame: pd.DataFrame) -> tuple[float, pd.Series]:
    """Mean grokking time of the runs that get there, and their mean test error before zero."""
    delays, aligned = [], []
    for _, run in frame.groupby("seed"):
        run = run.sort_values("step").set_index("step")
        known, understood = run.index[run.train_acc == 1], run.index[run.val_acc == 1]
        if len(known) and len(understood):
            delays.append(understood[0] - known[0])
            aligned.append((1 - run.val_acc).rename(lambda step, zero=understood[0]: step - zero))
    return float(np.mean(delays)), pd.concat(aligned, axis=1).mean(axis=1)


def main(quick: bool) -> None:
    frame = log(100, 1000 if quick else 10_000)
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = Path(folder) / "metrics.csv", Path(folder) / "metrics.parquet"
        frame.to_csv(csv, index=False)
        frame.to_parquet(parquet)
        doors = [("CSV", csv, pd.read_csv), ("Parquet", parquet, pd.read_parquet)]

        mean, _ = by_groups(frame)
        transition = measure(read_runs(csv, **NAMES))
        assert np.isclose(transition.mean_grokking_time(runs="reached").mean, mean, rtol=1e-12)

        rows: list[Row] = []
        for name, path, read in doors:
            ours = best_time(lambda path=path: measure(read_runs(path, **NAMES)))
            averaged = best_time(lambda path=path: measure(read_runs(path, **NAMES)).aligned())
            naive = best_time(lambda path=path, read=read: by_groups(read(path)))
            rows.append((f"{name}: read_runs and measure", ours, GOAL, None))
            rows.append((f"{name}: the same, and mean test error before zero", averaged, None, naive))
        rows.append(
            ("CSV: all that grokphase analyze says, without the figure", best_time(lambda: analyze(csv)), None, None)
        )
    print_table(f"{len(frame):,} rows of 100 runs", rows)


if __name__ == "__main__":
    main("--quick" in sys.argv)
