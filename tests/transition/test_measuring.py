"""The whole of a transition: modes, words, plain data, and what it refuses."""

import json

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from synthetic import as_runs, power_law_runs

import grokphase as gp


def with_times(train, test, length=200):
    """Runs whose errors become zero at the given times (after the last record: never)."""
    time = np.arange(float(length))
    return {
        "time": time,
        "train_error": np.where(time >= np.asarray(train)[:, None], 0.0, 0.5),
        "test_error": np.where(time >= np.asarray(test)[:, None], 0.0, 0.5),
    }


def test_times_are_per_member_and_the_delay_is_their_difference():
    transition = gp.measure(with_times([10, 20, 500, 30], [50, 15, 60, 500]))
    assert_array_equal(transition.zero_train_time.reached, [True, True, False, True])
    assert_array_equal(transition.zero_test_time.value, [50, 15, 60, 199])
    assert_array_equal(transition.grokking_time.reached, [True, True, False, False])
    assert_array_equal(transition.grokking_time.value[:2], [40, -5])
    assert (transition.grokking_time.high[2], transition.grokking_time.low[3]) == (60 - 199, 199 - 30)
    assert_array_equal(transition.zero_train_time.resolution[[0, 1, 3]], 1.0)


def test_anything_that_can_be_read_can_be_measured(tmp_path):
    table = with_times([10, 20], [50, 60])
    transition = gp.measure(table)
    dataset = gp.read_runs(table)
    assert_array_equal(gp.measure(dataset).grokking_time.value, transition.grokking_time.value)
    long = dataset.to_dataframe().reset_index()
    long.to_csv(tmp_path / "a.csv", index=False)
    assert_array_equal(gp.measure(gp.read_runs(long, member="member")).grokking_time.value, [40, 40])
    with pytest.raises(ValueError, match=r"different numbers for the same time 10 of run 0: .*member="):
        gp.measure(tmp_path / "a.csv")  # two runs, and nothing said of what tells them apart
    xr.testing.assert_identical(gp.measure(dataset).runs, gp.read_runs(dataset))


@pytest.mark.parametrize("step", [1.0, 10.0])
def test_modes_of_times_on_a_grid(step):
    """One mode stays one mode on a coarse grid, and two are found with their places."""
    rng = np.random.default_rng(0)

    def modes(delays):
        time = np.arange(0.0, 400.0, step)
        train = np.where(time >= 20, 0.0, 0.5) * np.ones((delays.size, 1))
        test = np.where(time >= 20 + delays[:, None], 0.0, 0.5)
        return gp.measure({"time": time, "train_error": train, "test_error": test}).modes()

    one = modes(rng.normal(150, 15, 400))
    assert not one.bimodal
    assert one.locations[0] == pytest.approx(150, abs=15)
    two = modes(np.concatenate([rng.normal(60, 15, 200), rng.normal(200, 15, 200)]))
    assert two.bimodal
    assert two.p_value < 0.01
    assert two.locations == pytest.approx((60, 200), abs=15)
    assert two.test == "dip"


def test_modes_leave_censored_runs_out_and_need_one_that_grokked():
    with pytest.raises(ValueError, match="no run reached zero training and test error"):
        gp.measure(with_times([10, 20], [500, 500])).modes()


def numbers_in(value):
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers_in(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers_in(part)]
    return [value]


EMPTY = {"time": np.arange(5.0), "train_error": np.full((2, 5), 0.3), "test_error": np.full((2, 5), 0.3)}
SCENES = {
    "continuous": (1.0, {"noise": 0.1}),
    "first": (1.0, {"jump": 0.2}),
    "few": (1.0, {"members": 3}),
    "one": (1.0, {"members": 1}),
}


@pytest.mark.parametrize("scene", [*SCENES, "nothing", "two grok", "all at once"])
def test_words_and_plain_data(scene):
    runs = {
        "nothing": lambda: EMPTY,
        "two grok": lambda: with_times([10, 20, 30], [50, 60, 500]),
        "all at once": lambda: with_times([0, 0], [0, 0]),
    }
    made = (
        runs[scene]()
        if scene in runs
        else as_runs(*power_law_runs(np.random.default_rng(1), *SCENES[scene][:1], **SCENES[scene][1]))
    )
    transition = gp.measure(made)
    data = transition.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert all(number is None or isinstance(number, bool | int | float | str) for number in numbers_in(data))
    text = transition.describe()
    assert "\n" not in text
    assert text.endswith(".")
    assert "nan" not in text
    assert " inf" not in text
    assert data["runs"] == len(made["test_error"])
    if scene == "continuous":
        fit = transition.exponent()
        assert data["exponent"]["value"] == fit.value
        assert data["exponent_refused"] is None
        assert f"to the power {fit.value:.2f}, the exponent" in text
        assert "falls to zero gradually, without a jump" in text
    if scene == "first":
        assert data["order"]["kind"] == "first"
        assert data["exponent_refused"] is not None
        assert "of first order" in text
        assert "A jump has no exponent" in text
    if scene == "two grok":
        # The third run shows no more than that its delay exceeds 169; dropping it would have said 40.
        assert data["mean_grokking_time"]["reached"]["mean"] == 40.0
        assert data["mean_grokking_time"]["all"]["mean"] == pytest.approx(40 * 2 / 3 + 169 / 3 + 0)
        assert "1 of 3 has not got there when the record ends" in text
        assert "leaving it out would have said 40" in text
    if scene == "nothing":
        assert data["exponent"] is None
        assert data["survival"] is None
        assert "there is no grokking time" in text


def test_bad_input():
    runs = with_times([10], [20])
    with pytest.raises(ValueError, match="tolerance must be"):
        gp.measure(runs, tolerance=-0.1)
    with pytest.raises(ValueError, match=r"tolerance must be between 0 and 1 \(exclusive\)"):
        gp.measure(runs, tolerance=1.0)
    with pytest.raises(ValueError, match="which must be one of 'first', 'final'"):
        gp.measure(runs, which="last")
    with pytest.raises(ValueError, match="seed must be integer"):
        gp.measure(runs).modes(seed=-1)
