"""TensorBoard event files: ``logs/tensorboard`` was written by torch 2.13.0 (SummaryWriter) with TensorBoard 2.21.0.

seed0 holds single numbers and a second file, opened at a restart from step 300; seed1 holds tensors (``new_style``).
"""

import shutil
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import grokphase as gp
from event_writer import event, scalar
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
    assert runs.attrs["rows_superseded"] == 3
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


def test_records_written_by_hand(tmp_path):
    path = tmp_path / "events.out.tfevents.0"
    path.write_bytes(
        event(7, scalar("loss", 0.25)) + event(-1, scalar("loss", np.inf)) + event(0, scalar("other", 3.0))
    )
    found = read_scalars([path])
    assert_array_equal(found["loss"], [[7, -1], [0.25, np.inf]])
    assert_array_equal(found["other"], [[0], [3.0]])


ANY_SCALAR = st.tuples(
    st.sampled_from(["a", "b", "loss/train", "loss/valid"]),
    st.floats(width=32, allow_nan=False),
    st.sampled_from("fd "),
)
STEPS = st.sampled_from([0, 1, 127, 128, 129, 16_383, 16_384, 2**40, -3])


@given(st.lists(st.tuples(STEPS, st.lists(ANY_SCALAR, max_size=2)), max_size=12), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_records_decoded_together_are_those_decoded_one_by_one(rows, repeats):
    """Any mixture of tags, types and lengths; repeated, so that records alike are decoded together."""
    written = [(step, scalars) for _ in range(repeats) for step, scalars in rows]
    content = b"".join(
        event(step, *(scalar(tag, value, tensor=kind.strip()) for tag, value, kind in scalars), clock=float(place))
        for place, (step, scalars) in enumerate(written)
    )
    expected: dict[str, list[tuple[int, float]]] = {}
    for step, scalars in written:
        for tag, value, _ in scalars:
            expected.setdefault(tag, []).append((step, value))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.out.tfevents.0"
        path.write_bytes(content)
        found = read_scalars([path])
    assert set(found) == set(expected)
    for tag, pairs in expected.items():
        assert_array_equal(np.stack(found[tag], axis=1), pairs)
