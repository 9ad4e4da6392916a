"""TensorBoard event files: ``logs/tensorboard`` was written by torch 2.13.0 (SummaryWriter) with TensorBoard 2.21.0.

seed0 holds single numbers and a second file, opened at a restart from step 300; seed1 holds tensors (``new_style``).
"""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import grokphase as gp
from grokphase.transition._event_files import event_files, read_scalars

FOLDER = Path(__file__).parent / "logs" / "tensorboard"
SINGLE = 6e-8  # half a unit in the last place of float32 below 1


def test_numbers_are_those_written():
    found = read_scalars(event_files(FOLDER / "seed0"))
    step, value = found["train/acc"]
    assert_array_equal(step, [0, 100, 200, 300, 400, 500, 300, 400])
    assert_array_equal(value, np.float32([0.5, 0.7, 0.9, 1.0, 1.0, 1.0, 0.9, 1.0]).astype(float))
    step, value = read_scalars(event_files(FOLDER / "seed1"))["val/acc"]
    assert_array_equal(step, [0, 200])
    assert_array_equal(value, [0.5, 0.5])


def test_a_folder_of_runs():
    runs = gp.read_runs(FOLDER, train="train/acc", test="val/acc")
    assert_array_equal(runs["member"], ["seed0", "seed1"])
    assert_array_equal(runs["time"], [0, 100, 200, 300, 400])
    # seed0 after its restart: 500 was given up, 300 and 400 are the later ones.
    assert_allclose(runs["test_error"][0], [0.5, 0.4, 0.3, 0.3, 0.25], atol=SINGLE)
    assert_allclose(runs["train_error"][0], [0.5, 0.3, 0.1, 0.1, 0.0], atol=SINGLE)
    assert_allclose(runs["test_error"][1], [0.5, np.nan, 0.5, np.nan, np.nan])
    assert runs.attrs["resumed"] == "seed0"
    assert runs.attrs["rows_superseded"] == 6
    transition = gp.measure(runs)
    assert_array_equal(transition.zero_train_time.value, [400, 200])
    assert_array_equal(transition.zero_train_time.low, [300, 100])


def test_one_run_and_one_file():
    runs = gp.read_runs(FOLDER / "seed1", train="train/acc", test="val/acc")
    assert_array_equal(runs["member"], ["seed1"])
    file = event_files(FOLDER / "seed1")[0]
    assert_array_equal(gp.read_runs(file, train="train/acc", test="val/acc")["train_error"], runs["train_error"])


def test_an_unfinished_record_is_left_out(tmp_path):
    content = event_files(FOLDER / "seed1")[0].read_bytes()
    whole = read_scalars(event_files(FOLDER / "seed1"))
    for cut in (1, 5, 20):
        path = tmp_path / "events.out.tfevents.cut"
        path.write_bytes(content[:-cut])
        found = read_scalars([path])
        assert sum(step.size for step, _ in found.values()) == sum(step.size for step, _ in whole.values()) - 1


def test_what_is_no_event_file_is_refused(tmp_path):
    path = tmp_path / "events.out.tfevents.bad"
    record = b"\x2a\xff\xff\xff\xff\x0f"  # a summary that claims to be longer than its record
    path.write_bytes(struct.pack("<QI", len(record), 0) + record + b"\0" * 4)
    with pytest.raises(ValueError, match="is damaged, or no TensorBoard event file"):
        read_scalars([path])
    with pytest.raises(ValueError, match="has no 'loss'; it has 'train/acc', 'val/acc'"):
        gp.read_runs(FOLDER, train="train/acc", test="loss")
    with pytest.raises(ValueError, match="leave member out"):
        gp.read_runs(FOLDER, train="train/acc", test="val/acc", member="seed")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no TensorBoard event files"):
        gp.read_runs(tmp_path / "empty", train="train/acc", test="val/acc")


def test_a_subfolder_without_these_tags_is_no_run(tmp_path):
    shutil.copytree(FOLDER / "seed1", tmp_path / "runs" / "a")
    other = tmp_path / "runs" / "b"
    other.mkdir()
    (other / "events.out.tfevents.1").write_bytes(b"")
    runs = gp.read_runs(tmp_path / "runs", train="train/acc", test="val/acc")
    assert_array_equal(runs["member"], ["a"])


def event(tag, step, value):
    """One record, written by hand after the format's definition; steps below 128, negative ones in ten bytes."""
    number = struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + number
    summary = b"\x0a" + bytes([len(summary)]) + summary
    step_bytes = bytes([step]) if step >= 0 else bytes([step & 127 | 128, *[255] * 8, 1])
    content = b"\x10" + step_bytes + b"\x2a" + bytes([len(summary)]) + summary
    return struct.pack("<QI", len(content), 0) + content + b"\0" * 4


def test_records_written_by_hand(tmp_path):
    path = tmp_path / "events.out.tfevents.0"
    path.write_bytes(event("loss", 7, 0.25) + event("loss", -1, np.inf) + event("other", 0, 3.0))
    found = read_scalars([path])
    assert_array_equal(found["loss"], [[7, -1], [0.25, np.inf]])
    assert_array_equal(found["other"], [[0], [3.0]])
