"""``grokphase analyze``: logs of runs whose times are known by construction, as files, as options, as mistakes."""

import csv
import json

import numpy as np
import pytest

from grokphase.analyze import analyze
from grokphase.cli import main

STEPS = np.arange(0, 200, 10)
ZERO_TRAIN, ZERO_TEST = (40, 50, 60), (90, 120, None)


def rows(*, percent=False):
    """(seed, step, train_acc, val_acc): accuracies one from the times above on, the last run never on the test set."""
    found = []
    for seed, (train, test) in enumerate(zip(ZERO_TRAIN, ZERO_TEST, strict=True)):
        for step in STEPS.tolist():
            known = 1.0 if step >= train else 0.5
            unknown = 1.0 if test is not None and step >= test else 0.25
            found.append([seed, step, *(100 * x if percent else x for x in (known, unknown))])
    return found


def table(path, lines, header=("seed", "step", "train_acc", "val_acc")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return path


def outcome(capsys, *arguments):
    code = main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("percent", [False, True])
def test_times_are_those_of_the_table(tmp_path, capsys, percent):
    path = table(tmp_path / "metrics.csv", rows(percent=percent))
    code, out, _ = outcome(capsys, path, "--train", "train_acc", "--test", "val_acc", "--json")
    assert code == 0
    data = json.loads(out)
    assert data["zero_train_time"]["value"] == list(ZERO_TRAIN)
    assert data["zero_test_time"]["value"] == [90, 120, STEPS[-1]]
    assert data["zero_test_time"]["reached"] == [True, True, False]
    assert data["grokking_time"]["value"][:2] == [50, 70]
    assert data["grokking_time"]["low"][:2] == [40, 60]  # the zeros lie up to one step of 10 before their records
    assert data["grokking_time"]["high"][:2] == [60, 80]
    # Kaplan-Meier by hand: 1 to 50, 2/3 to 70, 1/3 to the end of the third run, 130 after its zero training error.
    assert data["mean_grokking_time"]["all"]["mean"] == pytest.approx(50 + 2 / 3 * 20 + 1 / 3 * 60)
    assert data["mean_grokking_time"]["reached"]["mean"] == pytest.approx(60)


def test_text_says_who_never_gets_there(tmp_path, capsys):
    code, out, _ = outcome(capsys, table(tmp_path / "metrics.csv", rows()))
    text = " ".join(out.split())
    assert code == 0
    assert "All 3 reach zero training error" in text
    assert "1 of 3 has not got there when the record ends and counts as later than that" in text
    assert "nan" not in text.lower()


def test_no_run_that_groks(tmp_path, capsys):
    path = table(tmp_path / "metrics.csv", [row for row in rows() if row[0] == 2])
    code, out, _ = outcome(capsys, path, "--member", "seed", "--json", "--plot", tmp_path / "t.png")
    data = json.loads(out)
    assert code == 0
    assert data["zero_test_time"]["reached"] == [False]
    assert data["exponent"] is None
    assert (tmp_path / "t.png").stat().st_size > 1000


def test_missing_numbers_are_not_zero_errors(tmp_path, capsys):
    """Without the record at 90 the first run's zero is seen at 100, after 80; empty training cells change nothing."""
    lines = [[*row[:3], "" if row[:2] == [0, 90] else row[3]] for row in rows()]
    code, out, _ = outcome(capsys, table(tmp_path / "metrics.csv", lines), "--json")
    data = json.loads(out)["zero_test_time"]
    assert code == 0
    assert (data["low"][0], data["value"][0]) == (80, 100)


def test_a_run_that_went_on_from_a_checkpoint(tmp_path, capsys):
    """What was given up does not count, and the text says so."""
    run = [row for row in rows() if row[0] == 0]
    given_up = [[*row[:3], 1.0] if 50 <= row[1] <= 80 else row for row in run[:9]]
    code, out, _ = outcome(capsys, table(tmp_path / "metrics.csv", [*given_up, *run[5:]]), "--json")
    data = json.loads(out)
    assert code == 0
    assert data["zero_test_time"]["value"] == [90]
    assert data["read"]["rows_superseded"] == 4
    assert any("Restarted on the way" in sentence for sentence in data["sentences"])


def test_a_run_that_began_anew(tmp_path, capsys):
    """Two runs, or one begun again?  Refused with both ways out."""
    run = [row for row in rows() if row[0] == 0]
    path = table(tmp_path / "metrics.csv", [*[[*row[:3], 1.0] for row in run], *run])
    code, out, err = outcome(capsys, path, "--json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--restart resume" in err
    code, out, _ = outcome(capsys, path, "--restart", "resume", "--json")
    assert code == 0
    assert json.loads(out)["zero_test_time"]["value"] == [90]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--train", "foo", "--test", "val_acc"), "'foo'"),
        (("--train", "foo"), "metrics.csv has no 'foo'; it has 'seed', 'step', 'train_acc', 'val_acc'"),
        (("--test", "foo"), "metrics.csv has no 'foo'; it has 'seed'"),
        (("--train", "seed"), "say which column is the test accuracy, or error (--test)"),
        (("--member", "foo"), "'foo'"),
        (("--time", "foo"), "'foo'"),
        (("--tolerance", "-1"), "tolerance"),
        (("--window", "5", "1"), "window"),
        (("--plot", "t.doc"), "plot must end in"),
        (("--which", "last"), "which"),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(tmp_path, capsys, arguments, named):
    path = table(tmp_path / "metrics.csv", rows())
    code, out, err = outcome(capsys, path, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert named in err


@pytest.mark.parametrize(
    ("header", "lines", "named"),
    [
        (("seed", "step", "a", "b"), rows(), "'a', 'b'"),
        (("seed", "step", "train_acc", "val_acc"), [], "metrics.csv"),
        (("seed", "step", "train_acc", "val_acc"), [[0, 1, "high", 0.5]], "train_acc"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, capsys, header, lines, named):
    code, out, err = outcome(capsys, table(tmp_path / "metrics.csv", lines, header))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert named in err


def text_of(lines, header="seed,step,train_acc,val_acc", separator=","):
    names = header.replace(",", separator)
    return names + "\n" + "".join(separator.join(map(str, line)) + "\n" for line in lines)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", text_of(rows(), separator=";")),
        ("tabs.csv", text_of(rows(), separator="\t")),
        ("mark.csv", "\ufeff" + text_of(rows(), '"seed","step","train_acc","val_acc"')),
        ("spaces.csv", text_of(rows(), "seed, step, train_acc , val_acc", ", ")),
        ("old_mac.csv", text_of(rows()).replace("\n", "\r")),
        ("windows.csv", text_of(rows()).replace("\n", "\r\n")),
        ("quoted.csv", text_of([[f'"{entry}"' for entry in row] for row in rows()])),
        ("comma_at_the_end.csv", text_of([[*row, ""] for row in rows()])),
        ("no_last_end.csv", text_of(rows()).rstrip("\n")),
        ("blank_end.csv", text_of(rows()) + "   "),
        ("power_cut.csv", text_of(rows()) + "\0" * 9),
        ("notes.csv", text_of([[*row, '"a, b\nc, d, e, f, g, h"'] for row in rows()], "seed,step,train_acc,val_acc,n")),
        # An accuracy of 0. would be read as one of zero, and a step of 20 as a step back in time.
        ("killed.csv", text_of(rows()) + "2,200,0."),
        ("killed_early.csv", text_of(rows()) + "2,20"),
        ("upper.CSV", text_of(rows())),
    ],
)
def test_what_programs_make_of_a_table(tmp_path, capsys, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    code, out, _ = outcome(capsys, path, "--json")
    data = json.loads(out)
    assert code == 0
    assert data["zero_train_time"]["value"] == list(ZERO_TRAIN)
    assert data["zero_test_time"]["value"] == [90, 120, STEPS[-1]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "it is empty"),
        ("a.csv", "\n\n", "it is empty"),
        ("a.csv", "step,train_acc,val_acc\n", "'train_acc' holds no number"),
        ("a.csv", b"\xda\xff\x00binary", "it is not text in UTF-8"),
        ("a.csv", text_of(rows()).encode("utf-16"), "it is not text in UTF-8"),
        ("a.csv", bytes(5000), "a.csv has a single column, '\\x00"),
        (
            "a.csv",
            text_of(rows(), separator="|"),
            "a.csv has a single column, 'seed|step|train_acc|val_acc': columns are",
        ),
        ("a.csv", text_of(rows()).split("\n", 1)[1], "a.csv has no names of columns: its first line holds numbers"),
        (
            "a.csv",
            text_of([*rows(), [3, 0, 0.5, 0.5, 0.5]]),
            "a.csv, line 62, has more fields than the header has names: 4",
        ),
        ("a.csv", text_of([['"1"', *row] for row in rows()]), "a.csv, line 2, has more fields"),
        (
            "a.csv",
            text_of([[*row, 0.5] for row in rows()], "seed,step,train_acc,val_acc,val_acc"),
            "a.csv has 2 columns",
        ),
        ("a.csv", text_of(rows()) + text_of(rows()), "'step' must hold numbers, got 'step' in row 61"),
        ("a.csv", text_of([[*row[:3], "50%"] for row in rows()]), "'val_acc' must hold numbers, got '50%' in row 1"),
        ("a.csv", text_of([[*row[:3], ""] for row in rows()]), "'val_acc' holds no number"),
        ("a.csv", text_of(rows(), "seed,step,train_loss,val_loss"), "(--train, --test): "),
        (
            "a.csv",
            text_of(rows(), "Step,x,run-1 - val_acc,run-2 - val_acc"),
            "a.csv has columns of single runs ('run-1 - ",
        ),
        (
            "a.jsonl",
            '{"step": 0, "train_acc": [0.5], "val_acc": 0.5}',
            "'train_acc' must hold numbers, got '[0.5]' in row 1",
        ),
        ("a.json", '{"step": [0, 1], "train_acc": [0.5, 1], "val_acc": [0.5, 1]}', "got '[0, 1]' in row 1"),
        ("a.json", '{"step": %s, "train_acc": [], "val_acc": []}' % ([0] * 999), "0, 0,...' in row 1"),
        ("a.json", '{\n "step": 1\n}', "a.json, line 1, is not JSON, one a line: '{'"),
        ("a.jsonl", b"\x8f\xff\n", "a.jsonl, line 1, is not JSON"),
        ("a.parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("tfevents.1", b"", "holds no TensorBoard scalars"),
        ("a.xlsx", b"PK", "cannot tell the format of a.xlsx"),
        ("folder/a.csv", text_of(rows()), "holds no TensorBoard event files: name the files in it, such as"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(tmp_path, capsys, name, content, said):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, err = outcome(capsys, path if path.parent == tmp_path else path.parent)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert len(err) < 400


def test_runs_in_different_units_are_refused(tmp_path, capsys):
    """Fractions of at most 1 among percents would count as accuracies below one percent."""
    one = table(
        tmp_path / "percent.csv", [row[1:] for row in rows(percent=True) if row[0] == 0], ("step", "tr_acc", "val_acc")
    )
    two = table(tmp_path / "fraction.csv", [row[1:] for row in rows() if row[0] == 1], ("step", "tr_acc", "val_acc"))
    code, out, err = outcome(capsys, one, two)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "fraction.csv never exceed 1, those of others reach 100: is all of it percent?" in err
    code, out, _ = outcome(capsys, one, two, "--values", "accuracy percent", "--json")
    assert code == 0
    assert json.loads(out)["zero_test_time"]["reached"] == [True, False]


def test_a_run_without_test_records_has_not_failed(tmp_path, capsys):
    lines = [[*row[:3], "" if row[0] == 2 else row[3]] for row in rows()]
    code, out, _ = outcome(capsys, table(tmp_path / "metrics.csv", lines), "--json")
    data = json.loads(out)
    assert code == 0
    assert data["runs"] == 2
    assert data["share"]["zero_test_time"]["value"] == 1
    assert "Left out, as one of the two was not recorded: 2." in data["sentences"]
    nothing_in_common = [[*row[:2], row[2] if row[0] else "", "" if row[0] else row[3]] for row in rows()]
    code, _, err = outcome(capsys, table(tmp_path / "metrics.csv", nothing_in_common))
    assert (code, err) == (2, "grokphase: no run has numbers of both 'train_acc' and 'val_acc'\n")


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path, capsys):
    run = [["[/red]", *row[1:]] for row in rows() if row[0] == 0]
    path = table(tmp_path / "metrics.csv", [*run[:9], *run[5:]], ("run", "step", "[/train_acc]", "val_acc:x:"))
    code, out, _ = outcome(capsys, path)
    assert code == 0
    assert "accuracy '[/train_acc]' and accuracy 'val_acc:x:'" in " ".join(out.split())
    assert "run [/red]." in " ".join(out.split())


@pytest.mark.parametrize("steps", [[0], [0, 10]])
def test_runs_that_start_at_zero_error(tmp_path, capsys, steps):
    path = table(tmp_path / "metrics.csv", [[step, 1.0, 1.0] for step in steps], ("step", "train_acc", "val_acc"))
    code, out, err = outcome(capsys, path, "--plot", tmp_path / "t.svg")
    text = " ".join(out.split())
    assert (code, err) == (0, "")
    assert "It reaches zero test error (every test example right) at its first record." in text
    assert "There is no delay between the two" in text
    assert "zero-test time step 0 at the first record" in text


def test_inset_shows_the_fit_on_the_records(tmp_path):
    """Fitted points lie among the recorded mean errors they were made of, on the same axis."""
    rng = np.random.default_rng(0)
    zero, steps = rng.uniform(300, 800, 30), np.arange(0.0, 1000.0, 2.0)
    error = np.minimum(rng.uniform(0.8, 1.2, 30)[:, None] * np.maximum(zero[:, None] - steps, 0) / 400, 0.5)
    data = {"time": steps, "train_error": np.zeros_like(error), "test_error": error}
    found = analyze(data, time="time", train="train_error", test="test_error")
    assert found.data["exponent"]["refused"] is None
    inset = found.draw().axes[1].child_axes[0]
    records, fit = inset.lines[0], inset.lines[-1]
    low, high = np.min(records.get_xdata()), np.max(records.get_xdata())
    assert np.min(fit.get_xdata()) >= low * (1 - 1e-12)  # a mean of one distance, rounded
    assert np.max(fit.get_xdata()) <= high
    at_fit = np.interp(fit.get_xdata(), records.get_xdata()[::-1], records.get_ydata()[::-1])
    # A bin is a tenth of a decade, over which a linear law changes by a quarter.
    np.testing.assert_allclose(fit.get_ydata(), at_fit, rtol=0.25)
