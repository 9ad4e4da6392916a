"""The rule decides as its description says: against a plain twin and gp.spikes, in a loop, in batches, compiled."""

from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from naive_spike_rule import NaiveSpikeRule
from scipy import integrate, stats

import grokphase as gp
from grokphase.transition import loss_spikes, spike_rule
from grokphase.transition.spike_rule import Action, Phase, SpikeRule

ACTIONS = {"continue": Action.CONTINUE, "keep": Action.KEEP, "roll back": Action.ROLL_BACK, "give up": Action.GIVE_UP}


def play(rule, losses, dimensions, state=None):
    """Verdicts on a record that does not react to them; all arrays stacked along a leading axis of records."""
    state = rule.start(np.shape(losses)[1:]) if state is None else state
    verdicts = []
    for loss, dimension in zip(losses, dimensions, strict=True):
        state, verdict = rule.update(state, loss, dimension)
        verdicts.append(verdict)
    return state, type(verdict)(*(np.stack(field) for field in zip(*verdicts, strict=True)))


def decided(verdicts):
    return np.flatnonzero(verdicts.action != Action.CONTINUE)


def random_run(rng, records):
    """Decay, noise, spikes of all sizes and lengths, steps of D_eff, gaps, and sometimes what is not finite."""
    log = -np.arange(records) / 100 + rng.normal(0, rng.choice([0.0, 0.02, 0.2]), records)
    dimension = np.full(records, 3.0)
    for place in np.flatnonzero(rng.random(records) < 0.02):
        length = rng.integers(1, 40)
        log[place : place + length] += rng.uniform(0.2, 5.0) * rng.choice([1.0, rng.random()])
        dimension[place + rng.integers(0, 3) :] *= rng.choice([0.5, 1.0, 1.02, 2.0])
    loss = np.exp(log)
    loss[rng.random(records) < rng.choice([0.0, 0.0, 0.01])] = rng.choice([np.nan, np.inf])
    dimension = dimension * np.exp(rng.normal(0, 0.001, records))
    dimension[rng.random(records) < rng.choice([0.0, 0.8, 1.0], p=[0.6, 0.3, 0.1])] = np.nan
    return loss, dimension


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    window=st.integers(8, 40),
    snapshots=st.integers(2, 5),
    patience=st.integers(1, 60),
    max_rollbacks=st.integers(0, 3),
    tolerance=st.sampled_from([0.0, 0.05]),
)
def test_agrees_with_its_plain_twin(seed, window, snapshots, patience, max_rollbacks, tolerance):
    options = {
        **{"factor": 2.0, "window": window, "tolerance": tolerance, "patience": patience},
        **{"snapshots": snapshots, "max_rollbacks": max_rollbacks},
    }
    loss, dimension = random_run(np.random.default_rng(seed), 300)
    twin, rule = NaiveSpikeRule(**options), SpikeRule(**options)
    state = rule.start()
    slots = {0: -1}  # what the caller holds: here, when it was saved
    for record in range(loss.size):
        state, verdict = rule.update(state, loss[record], dimension[record])
        action, restored, effect, before, after = twin.update(loss[record], dimension[record])
        assert verdict.action == ACTIONS[action]
        if verdict.action == Action.ROLL_BACK:
            assert slots[int(verdict.restore_slot)] == verdict.restored_record == restored
        else:
            assert verdict.restore_slot == -1
        assert verdict.effect == effect
        if np.isfinite(loss[record]) and action != "continue":
            # The same numbers in the same order: a median of logarithms' scatter may differ in the last place.
            np.testing.assert_allclose(
                [verdict.dimension_before, verdict.dimension_after],
                [np.nan if value is None else value for value in (before, after)],
                rtol=1e-12,
            )
        if verdict.save_slot >= 0:
            slots[int(verdict.save_slot)] = record
        assert sorted(state.saved[state.saved > -2]) == sorted(twin.snapshots)
        assert max(slots) < snapshots


def random_runs(members, records):
    """Losses and effective dimensions, shape (records, members)."""
    runs = [random_run(np.random.default_rng(seed), records) for seed in range(members)]
    return (np.stack(column, axis=-1) for column in zip(*runs, strict=True))


def test_the_twin_would_notice():
    """The control: a window that is one record longer decides differently on some of these runs."""
    loss, dimension = random_runs(20, 300)
    actions = [play(SpikeRule(window=window), loss, dimension)[1].action for window in (20, 21)]
    assert (actions[0] != actions[1]).any(axis=0).sum() > 5


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_view_from_the_end(seed):
    """What gp.spikes finds in the finished run, and calls clear.

    A tolerance of 5% is five standard errors of the difference of two medians of three values with 1% of noise.
    """
    rng = np.random.default_rng(seed)
    log, dimension = rng.normal(0, 0.05, 2000) - np.arange(2000) / 800, np.full(2000, 4.0)
    planted = [(300, 30.0, 5.0, 0.7), (700, 5.0, 20.0, 1.4), (1200, 100.0, 10.0, 1.0), (1600, 8.0, 3.0, 1.3)]
    for place, factor, length, step in planted:
        log[place:] += np.log(factor) * np.exp(-np.arange(2000 - place) / length)
        dimension[place:] *= step
    loss, dimension = np.exp(log), dimension * np.exp(rng.normal(0, 0.01, 2000))

    _, verdicts = play(SpikeRule(max_rollbacks=0), loss, dimension)
    places = decided(verdicts)
    found = gp.spikes(loss, effective_dimension=dimension)
    assert len(found) == len(places) == 4
    names = {1: "complicated", -1: "simplified", 0: "unclear"}
    for place, spike, (_, factor, _, step) in zip(places, found, planted, strict=True):
        assert spike.end <= place <= spike.end + 2 * max(spike.duration, 3) + 2
        # Height over the lowest of fifty records instead of the higher of two feet: both within 4.5 deviations.
        assert np.log(verdicts.height[place]) == pytest.approx(np.log(factor), abs=0.45)
        assert verdicts.height[place] == pytest.approx(spike.height, rel=0.4)
        assert names[int(verdicts.effect[place])] == ("unclear" if step == 1 else spike.effect)
        if step != 1:
            assert spike.effect == names[int(np.sign(step - 1))]
        assert verdicts.dimension_before[place] == pytest.approx(spike.dimension_before, rel=0.04)
        assert verdicts.dimension_after[place] == pytest.approx(spike.dimension_after, rel=0.04)
    expected = [Action.GIVE_UP if step > 1 else Action.KEEP for *_, step in planted]
    assert list(verdicts.action[places]) == expected


def test_shares_its_thresholds_with_spikes():
    assert spike_rule._NOISE == loss_spikes._NOISE
    assert spike_rule._TO_DEVIATION == loss_spikes._TO_DEVIATION


def test_noise_is_rarely_a_spike(monkeypatch):
    """Gaussian noise of a size at which the factor does not help.

    A record is a false alarm if it exceeds the lowest of the 50 before by ten times the scatter, which is estimated
    from these: the rate is a mean, over estimates of the scatter, of a quadrature over the record.  That takes the
    lowest and the estimate as independent, hence the factor 3; of what is seen in 2.5e5 records, the bound is the
    1 - 1e-5 quantile of a Poisson law.
    """
    window = 50
    rng = np.random.default_rng(3)
    steps = np.diff(rng.normal(size=(500, window)), axis=-1)
    scatter = spike_rule._deviation(np, steps) / 2**0.5

    def exceeds(threshold):
        def density(x):
            return stats.norm.pdf(x) * -np.expm1(window * stats.norm.logcdf(threshold - x))

        return integrate.quad(density, -10, 10)[0]

    rate = np.mean([exceeds(10 * s) for s in scatter])
    assert rate < 1e-5
    losses = np.exp(rng.normal(0, 0.5, size=(250, 1000)))

    def seen():
        _, verdicts = play(SpikeRule(window=window, factor=1.01), losses, np.full_like(losses, np.nan))
        return np.count_nonzero(verdicts.action != Action.CONTINUE)

    bound = stats.poisson.ppf(1 - 1e-5, 3 * rate * losses.size)
    assert seen() <= bound
    monkeypatch.setattr(spike_rule, "_NOISE", 6.0)  # the control
    assert seen() > 10 * bound


# --- what happens, one by one ---

RULE = SpikeRule(window=10)


def run_with(spike, dimension=2.0, records=60, at=30):
    loss = np.full(records, 0.1)
    loss[at : at + len(spike)] = spike
    return loss, np.broadcast_to(dimension, records)


@pytest.mark.parametrize(
    ("change", "action", "effect"),
    [(1.5, Action.ROLL_BACK, 1), (0.5, Action.KEEP, -1), (1.04, Action.KEEP, 0), (np.nan, Action.KEEP, 0)],
)
def test_decision(change, action, effect):
    loss, _ = run_with([1.0, 2.0, 1.0])
    _, verdicts = play(RULE, loss, np.where(np.arange(60) < 31, 2.0, 2.0 * change))
    [place] = decided(verdicts)
    assert place == 36  # ends at 33, took four records from 29, so four of them are looked at
    assert (verdicts.action[place], verdicts.effect[place]) == (action, effect)
    assert verdicts.height[place] == pytest.approx(20.0)
    if action == Action.ROLL_BACK:
        assert verdicts.restored_record[place] == 19
        assert verdicts.save_slot[place] == -1
    else:
        assert verdicts.save_slot[place] >= 0


def test_dimension_measured_now_and_then():
    """Every tenth record in calm, every one while a spike is judged: as the PyTorch guard does."""
    loss, _ = run_with([1.0, 2.0, 1.0])
    state = RULE.start()
    for record in range(37):
        wanted = record % 10 == 0 or state.phase != Phase.CALM
        state, verdict = RULE.update(state, loss[record], (2.0 if record < 31 else 3.0) if wanted else np.nan)
    assert verdict.action == Action.ROLL_BACK
    assert (verdict.dimension_before, verdict.dimension_after) == (2.0, 3.0)


def test_a_loss_that_is_not_finite():
    for broken in (np.nan, np.inf):
        loss, dimension = run_with([broken])
        _, verdicts = play(RULE, loss, dimension)
        [place] = decided(verdicts)
        assert place == 30
        assert verdicts.action[place] == Action.ROLL_BACK
        assert verdicts.restored_record[place] == 19  # not 29: the step after it went wrong
        assert verdicts.height[place] == np.inf
        # In a spike whose effect would be called a simplification.
        loss, dimension = run_with([1.0, 1.0, broken], np.where(np.arange(60) < 30, 2.0, 1.0))
        _, verdicts = play(RULE, loss, dimension)
        assert verdicts.action[32] == Action.ROLL_BACK


def test_nowhere_to_go_back_to():
    """Weights that give no finite loss from the beginning, and for ever: said once."""
    _, verdicts = play(RULE, [np.nan] * 10, [2.0] * 10)
    assert list(decided(verdicts)) == [0]
    assert verdicts.action[0] == Action.GIVE_UP
    assert (verdicts.save_slot == -1).all()
    # After one good record nothing is known of the weights after it; those before it are the initial ones.
    _, verdicts = play(RULE, [1.0, np.nan], [2.0] * 2)
    assert (verdicts.action[1], verdicts.restored_record[1]) == (Action.ROLL_BACK, -1)


def test_a_rise_that_does_not_come_back_is_judged_in_the_end():
    loss, dimension = run_with(np.full(300, 1.0), 2.0, records=330)
    _, verdicts = play(RULE, loss, dimension)
    assert list(decided(verdicts)) == [50]  # 2 × window after it was noticed; and then that is the new level
    assert verdicts.action[50] == Action.KEEP
    dimension = np.where(np.arange(330) < 35, 2.0, 3.0)
    _, verdicts = play(RULE, loss, dimension)
    assert verdicts.action[50] == Action.ROLL_BACK


def test_noise_in_a_spike_is_forgotten_when_it_is_undone():
    """The scatter is that of before: the next rise, to three times the foot, counts."""
    spike = 10.0 ** np.array([1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2])
    loss, _ = run_with(spike, records=80)
    loss[56:58] = 0.3
    _, verdicts = play(RULE, loss, np.where((np.arange(80) > 31) & (np.arange(80) < 52), 3.0, 2.0))
    assert verdicts.action[decided(verdicts)].tolist() == [Action.ROLL_BACK, Action.KEEP]
    assert decided(verdicts)[1] > 56
    assert verdicts.dimension_before[decided(verdicts)].tolist() == [2.0, 2.0]


def test_recovery_from_a_spike_is_no_spike():
    """A tail that is still twice the foot when the spike has been judged."""
    log = np.log(100) * np.exp(-np.arange(70) / 15)
    loss, dimension = run_with(0.1 * np.exp(log), records=100)
    _, verdicts = play(RULE, loss, dimension)
    [place] = decided(verdicts)
    assert loss[place] > 2 * 0.1


def test_losses_below_the_floor_do_not_count():
    loss = np.full(60, 1e-9)
    loss[::2] = 0.0
    _, verdicts = play(SpikeRule(window=10, floor=1e-8), loss, np.full(60, 2.0))
    assert decided(verdicts).size == 0


def trained(rule, records, repeats):
    """A caller whose training is a number that grows, and spikes at 40: always, or the first time only."""
    state, position, slots = rule.start(), 0, {0: 0}
    actions, visited = [], []
    for _ in range(records):
        harmful = repeats or not visited
        loss, dimension = (5.0 if 40 <= position < 43 and harmful else 0.1), (3.0 if position > 41 and harmful else 2.0)
        position += 1
        state, verdict = rule.update(state, loss, dimension)
        actions.append(Action(int(verdict.action)))
        if verdict.action == Action.ROLL_BACK:
            position = slots[int(verdict.restore_slot)]
            visited.append(position)
        if verdict.save_slot >= 0:
            slots[int(verdict.save_slot)] = position
    return actions, visited, position, state


def test_a_spike_that_repeats_itself_is_let_pass():
    actions, visited, position, state = trained(SpikeRule(window=10, max_rollbacks=3), 200, repeats=True)
    assert actions.count(Action.ROLL_BACK) == 3
    assert actions.count(Action.GIVE_UP) == 1
    assert max(visited) < 40
    assert position > 80
    assert state.rollbacks == 0


def test_a_spike_that_does_not_repeat_itself():
    actions, visited, position, state = trained(SpikeRule(window=10), 200, repeats=False)
    assert len(visited) == actions.count(Action.ROLL_BACK) == 1
    assert actions.count(Action.CONTINUE) == 199
    assert position > 150
    assert state.rollbacks == 0  # forgotten after a calm passage


# --- ensembles and compiled code ---


@pytest.fixture(scope="module")
def ensemble():
    loss, dimension = random_runs(20, 300)
    return loss, dimension, play(SpikeRule(window=12, max_rollbacks=1), loss, dimension)[1]


def test_batch_is_a_loop_over_members(ensemble):
    loss, dimension, verdicts = ensemble
    assert {int(action) for action in np.unique(verdicts.action)} == {0, 1, 2, 3}
    for member in range(0, loss.shape[1], 4):
        _, alone = play(SpikeRule(window=12, max_rollbacks=1), loss[:, member], dimension[:, member])
        for together, single in zip(verdicts, alone, strict=True):
            np.testing.assert_array_equal(together[:, member], single)


def test_compiled_with_jax(ensemble):
    """In single precision; of 6000 records none is within rounding of a threshold."""
    loss, dimension, verdicts = ensemble
    rule = SpikeRule(window=12, max_rollbacks=1)
    start = jax.tree.map(jax.numpy.asarray, rule.start(loss.shape[1:], dtype=np.float32))

    @partial(jax.jit)
    def compiled(state, loss, dimension):
        return lax.scan(lambda state, record: rule.update(state, *record), state, (loss, dimension))

    _, found = compiled(start, loss.astype(np.float32), dimension.astype(np.float32))
    for name in ("action", "save_slot", "restore_slot", "restored_record", "effect"):
        np.testing.assert_array_equal(getattr(found, name), getattr(verdicts, name), err_msg=name)
    np.testing.assert_allclose(found.dimension_after, verdicts.dimension_after, rtol=1e-6)
    assert found.dimension_after.dtype == np.float32


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("factor", 1.0), ("window", 7), ("window", 8.5), ("tolerance", -0.1), ("patience", 0), ("snapshots", 1)],
        *[("snapshots", 51), ("max_rollbacks", -1), ("floor", 0.0), ("factor", "big")],
    ],
)
def test_bad_input(option, value):
    with pytest.raises(ValueError, match=option):
        SpikeRule(**{option: value})
