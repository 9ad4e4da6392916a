"""The guard of loss spikes in ensembles: who goes back where, and that nothing else changes."""

import jax
import numpy as np
import pytest
import xarray as xr

from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario, chunk, run_block
from grokphase.training.numerics import pinned
from grokphase.training.parameters import Adam
from grokphase.transition.spike_rule import Action, SpikeRule

IDENTITY = CellularAutomaton(np.array([-1, 1]))  # reach 0; a small student learns it at once

PLAIN = Scenario(
    IDENTITY,
    4,
    l1=0.01,
    lengths=(4, 6),
    batch=16,
    learning_rate=0.02,
    duration=1.5,
    observe=4.0,
    test_sites=50,
    test_strings=128,
    record_every=1,
)
GUARDED = PLAIN.replace(guard=True)


@pytest.fixture(scope="module")
def guarded():
    return run_block(GUARDED, range(18), snapshots=(2.0, "zero_test", "last"))


@pytest.fixture(scope="module")
def plain():
    return run_block(PLAIN, range(18), snapshots=(2.0, "zero_test", "last"))


def returns(data, member):
    """Records after which a member went back."""
    return np.flatnonzero(data.spike_action.values[member] == Action.ROLL_BACK)


def test_some_go_back_and_some_do_not(guarded):
    """What the other tests rest on."""
    assert (guarded.rollbacks.values > 1).sum() >= 3
    assert (guarded.rollbacks.values == 0).sum() >= 2
    assert (guarded.spike_action.values == Action.KEEP).any()


def test_dataset(guarded, plain):
    assert set(guarded.variables) - set(plain.variables) == {"spike_action", "returned_to", "rollbacks"}
    for name in ("spike_action", "returned_to", "rollbacks"):
        assert {"long_name", "units"} <= set(guarded[name].attrs)
    action, time = guarded.spike_action.values, guarded.time.values
    assert guarded.spike_action.attrs["flag_meanings"] == "none kept rolled-back gave-up"
    np.testing.assert_array_equal(guarded.rollbacks.values, (action == Action.ROLL_BACK).sum(axis=1))
    np.testing.assert_array_equal(np.isfinite(guarded.returned_to.values), action == Action.ROLL_BACK)
    followed = time <= guarded.last_time.values[:, None] + 1e-9
    np.testing.assert_array_equal(action == -1, ~followed)
    for name in ("train_loss", "train_error", "test_error", "effective_dimension"):
        assert (np.isfinite(guarded[name].values) == followed).all()


def test_without_a_return_nothing_changes(guarded, plain):
    """To the last bit, until the first return; after it, everything is different."""
    for member in range(18):
        back = returns(guarded, member)
        end = int(back[0]) + 1 if back.size else guarded.sizes["time"]
        for name in ("train_loss", "train_error", "test_error", "effective_dimension"):
            ours, theirs = (data[name].values[member] for data in (guarded, plain))
            np.testing.assert_array_equal(ours[:end], theirs[:end])
            if name == "train_loss" and back.size and np.isfinite(ours[end] + theirs[end]):
                assert ours[end] != theirs[end]
        if not back.size:
            xr.testing.assert_identical(
                guarded.isel(member=member)[list(plain.data_vars)].drop_attrs(),
                plain.isel(member=member).drop_attrs(),
            )


@pytest.mark.parametrize(
    "how",
    [
        {"members": [13]},
        {"members": range(3, 8)},
        {"members": [17, 2, 11, 0]},
        {"members": range(18), "threads": 2, "chunk_windows": 3},
        {"members": range(18), "chunk_windows": 2},
    ],
    ids=["one", "some", "any order", "threads and long chunks", "chunks"],
)
def test_members_are_bitwise_the_same_however_they_are_computed(guarded, how):
    found = run_block(GUARDED, how.pop("members"), snapshots=(2.0, "zero_test", "last"), **how)
    xr.testing.assert_identical(found, guarded.sel(member=found.member.values))


def test_decisions_are_those_of_the_rule_for_one_run(guarded):
    """The rule, fed with what was recorded of one member alone; its first snapshot is after the first record."""
    rule, time = SpikeRule(), guarded.time.values
    for member in range(18):
        state = rule.start()
        state.saved[0] = 0
        for record, loss in enumerate(guarded.train_loss.values[member]):
            if not np.isfinite(loss):
                break
            state, verdict = rule.update(state, loss, guarded.effective_dimension.values[member, record])
            assert guarded.spike_action.values[member, record] == verdict.action
            if verdict.action == Action.ROLL_BACK:
                assert guarded.returned_to.values[member, record] == time[int(verdict.restored_record)]


def test_training_goes_on_from_where_it_went_back_to(guarded):
    """Members retrained a record at a time by the engine without a guard, which is told only when to go back whither.

    The same programs of another length; single precision may differ in the last digits, which chaos enlarges: losses
    are compared for three records after a return, to 1e-4 (a step moves a loss by more, see the control).
    """
    shape, rates = chunk.program(PLAIN), PLAIN.moments
    compared = 0
    for member in np.flatnonzero(guarded.rollbacks.values)[:4].tolist():
        with pinned(PLAIN):
            given, program = chunk.inputs(PLAIN), chunk.run(shape, 1, 1)
            root = jax.random.key_data(jax.random.fold_in(jax.random.key(0), 0))
            state = chunk.begin(shape)(root, np.full(chunk.WIDTH, member, np.int32))
            states, losses = [], []
            for record in range(int(returns(guarded, member)[0]) + 4):
                state, seen = program(state, given)
                states.append(state)
                losses.append(float(seen.train_loss[0, 0]))
                if record in returns(guarded, member):
                    to = int(np.argmin(np.abs(guarded.time.values - guarded.returned_to.values[member, record])))
                    there, steps = states[to], PLAIN.steps_per_epoch
                    # Adam divides moments by 1 − β^k with k counted on: what it divides by must not matter.
                    moments = [
                        moment * np.float32((1 - rate ** ((record + 1) * steps)) / (1 - rate ** ((to + 1) * steps)))
                        for moment, rate in zip(there.moments, rates, strict=True)
                    ]
                    state = there._replace(moments=Adam(*moments), epoch=state.epoch)
        ours = guarded.train_loss.values[member, : len(losses)]
        np.testing.assert_allclose(ours[-3:], losses[-3:], rtol=1e-4)
        assert abs(ours[-3] / losses[-4] - 1) > 1e-3
        compared += 1
    assert compared == 4


def test_a_loss_that_is_not_finite_is_undone(monkeypatch):
    """One member's 31st record is spoilt once; without a guard it would end there."""
    engine, spoilt = chunk.run, []

    def run(*shape, **options):
        program = engine(*shape, **options)

        def spoiling(state, given):
            moved, (seen, moments) = jax.tree.map(np.array, program(state, given))
            if not spoilt:  # the first chunk has 32 records
                seen.train_loss[30:, 1] = np.nan
                seen.alive[30:, 1] = False
                moved.alive[1] = False
                spoilt.append(True)
            return moved, (seen, moments)

        return spoiling

    expected = run_block(GUARDED, range(3))
    monkeypatch.setattr(chunk, "run", run)
    found = run_block(GUARDED, range(3))
    assert spoilt
    assert found.spike_action.values[1, :31].tolist() == [0] * 30 + [Action.ROLL_BACK]
    assert float(found.returned_to[1, 30]) == pytest.approx(0.02)  # snapshots are 50 records apart
    assert np.isnan(found.train_loss.values[1, 30])
    assert np.isfinite(found.train_loss.values[1, 31:200]).all()
    assert int(found.status[1]) in (0, 1)
    xr.testing.assert_identical(found.isel(member=[0, 2]), expected.isel(member=[0, 2]))


def test_a_first_loss_that_is_not_finite_ends_the_run():
    found = run_block(GUARDED.replace(initial_std=1e30), range(2))
    assert found.status.values.tolist() == [2, 2]
    assert found.rollbacks.values.tolist() == [0, 0]


def test_double_precision_and_one_step_an_epoch():
    """Records of several epochs, each of one step; training losses are those at the recorded parameters."""
    scenario = Scenario(
        IDENTITY, 3, l1=0.01, protocol="all-inputs", lengths=4, learning_rate=0.02, duration=1.5, observe=16.0,
        test_sites=50, record_every=4, precision="float64", guard=True,
    )  # fmt: skip
    found, again = (run_block(scenario, range(4), chunk_windows=windows) for windows in (1, 3))
    xr.testing.assert_identical(found, again)
    assert found.rollbacks.dtype == np.int32


def test_scenario(tmp_path):
    assert not Scenario(30).guard
    GUARDED.to_toml(tmp_path / "with.toml")
    assert Scenario.from_toml(tmp_path / "with.toml") == GUARDED
    assert "guard" not in PLAIN.to_text()  # stores from before there was a guard have this text
    assert GUARDED.to_text() == PLAIN.to_text() + "guard = true\n"
    assert chunk.program(GUARDED) == chunk.program(PLAIN)
    with pytest.raises(ValueError, match="guard must be"):
        PLAIN.replace(guard="always")
