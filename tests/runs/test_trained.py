"""A snapshot as attention and classifier: the same predictions as the trained student's own formula."""

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase.runs.trained import trained_student
from grokphase.student import all_inputs
from grokphase.training import run_block

LENGTH = 6


@pytest.fixture(scope="module")
def run() -> xr.Dataset:
    scenario = gp.Scenario(
        30,
        bond=3,
        members=4,
        lengths=(3, 4),
        batch=8,
        duration=0.05,
        observe=0.0,
        record_every=2,
        test_sites=64,
        exact_lengths=(LENGTH,),
        initial_scale=-1.0,
    )
    return run_block(scenario, range(4), snapshots=("zero_test", 0.02, "last"))


def naive_outputs(kept: xr.Dataset, x: np.ndarray) -> np.ndarray:
    """ŷ = c·h_{x_i} of Eqs. 60-62, with h normalised over the two states of the cell."""
    tensors, classifier = (kept[f"snapshot_{name}"].to_numpy().astype(float) for name in ("attention", "classifier"))
    scores = []
    for cell, spin in enumerate(x):
        left, right = (kept[f"snapshot_{name}"].to_numpy().astype(float) for name in ("left", "right"))
        for other in x[:cell]:
            left = left @ tensors[(other + 1) // 2]
        for other in x[:cell:-1]:
            right = tensors[(other + 1) // 2] @ right
        both = np.array([left @ matrix @ right for matrix in classifier])
        scores.append(float(kept["snapshot_scale"]) * both[(spin + 1) // 2] / np.linalg.norm(both))
    return np.array(scores)


@pytest.mark.parametrize("snapshot", [0.02, "last"])
def test_signs_are_those_of_the_trained_student(run: xr.Dataset, snapshot: float | str) -> None:
    for member in range(4):
        student = trained_student(run, member, snapshot)
        kept = run.sel(member=member, snapshot=str(snapshot))
        assert float(kept["snapshot_scale"]) < 0  # so that its sign matters
        for x in all_inputs(5):
            outputs, scores = naive_outputs(kept, x), student.attention.scores(x, student.classifier)
            np.testing.assert_array_equal(np.sign(scores), np.sign(outputs))


def test_error_is_the_recorded_one(run: xr.Dataset) -> None:
    """The training's own listing, in single precision; no score of these members is zero within its rounding."""
    errors = []
    for member in range(4):
        student = trained_student(run, member, "last")
        limit = gp.ThermodynamicLimit(student.attention, gp.CellularAutomaton(30))
        recorded = run["exact_error"].sel(member=member, length=LENGTH).dropna("time")[-1]
        found = limit.test_error(student.classifier, length=LENGTH).lower
        assert found == pytest.approx(float(recorded), rel=1e-6)  # single precision of the record
        errors.append(found)
    assert max(abs(error - 0.5) for error in errors) > 0.01  # so that the opposite sign would be noticed


def test_refuses_what_is_not_there(run: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"snapshot must be one of 'zero_test', '0\.02', 'last'"):
        trained_student(run, 0, 0.03)
    with pytest.raises(ValueError, match="member must be one of the runs 0 to 3, got 9"):
        trained_student(run, 9, "last")
    with pytest.raises(ValueError, match="run must have snapshots"):
        trained_student(run.drop_dims("snapshot"), 0, "last")
    assert np.isinf(run["zero_test_time"]).any()
    member = int(run["member"][np.isinf(run["zero_test_time"].to_numpy())][0])
    with pytest.raises(ValueError, match=f"snapshot 'zero_test' of member {member} does not exist"):
        trained_student(run, member)
