"""The guard put to the test: its network, its measures and its statistics, each against something independent."""

import io
from itertools import product

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from grokphase.experiments import _modular_addition as modular
from grokphase.experiments import load, spikeguard
from grokphase.experiments._modular_addition import EVERY, Setting, train
from grokphase.experiments._style import style
from grokphase.experiments.spikeguard import REGULARISATIONS, SETTLED, Followed, difference, measured
from grokphase.transition.spike_rule import Action, SpikeRule

SMALL = Setting(prime=5, width=12, batch=8, steps=60, samples=20)


class TestNetwork:
    def test_loss_and_gradients(self) -> None:
        """Loss from its definition, pair by pair; gradients against central differences (error ~1e-9 at step 1e-5)."""
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, 10, 7)), rng.normal(size=(2, 7, 5))
        table = modular.pairs(5)
        chosen = rng.choice(25, size=(2, 6))
        inputs, targets = table.inputs[chosen].astype(float), table.sums[chosen].astype(float)
        loss, *gradients = modular.loss_and_gradients(first, second, inputs, targets)
        for network in range(2):
            total = 0.0
            for pair in chosen[network]:
                a, b = divmod(int(pair), 5)
                hidden = (first[network, a] + first[network, 5 + b]) ** 2
                total += sum((hidden @ second[network, :, k] - ((a + b) % 5 == k)) ** 2 for k in range(5))
            assert loss[network] == pytest.approx(total / (6 * 5), rel=1e-12)

        for weights, gradient in zip((first, second), gradients, strict=True):
            for place in [(0, 1, 2), (1, 3, 4), (1, 0, 0), (0, 6, 3)]:
                kept, ends = weights[place], []
                for step in (1e-5, -1e-5):
                    weights[place] = kept + step
                    ends.append(modular.loss_and_gradients(first, second, inputs, targets)[0][place[0]])
                weights[place] = kept
                assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-8)

    def test_a_step_is_that_of_adamw(self) -> None:
        """Three steps of one network, weight by weight in double precision; single precision rounds at 1e-7."""
        rng = np.random.default_rng(1)
        first, second = rng.normal(size=(1, 10, 12)), rng.normal(size=(1, 12, 5))
        networks = modular._Networks(SMALL, first, second)
        table = modular.pairs(5)
        weights, means, squares = [first.copy(), second.copy()], [0.0, 0.0], [0.0, 0.0]
        for count in (1, 2, 3):
            chosen = rng.choice(25, size=(1, 8))
            inputs, targets = table.inputs[chosen], table.sums[chosen]
            networks.step(inputs, targets)
            _, *gradients = modular.loss_and_gradients(*weights, inputs.astype(float), targets.astype(float))
            for layer, gradient in enumerate(gradients):
                means[layer] = 0.9 * means[layer] + 0.1 * gradient
                squares[layer] = 0.999 * squares[layer] + 0.001 * gradient**2
                mean, square = means[layer] / (1 - 0.9**count), squares[layer] / (1 - 0.999**count)
                weights[layer] = weights[layer] * (1 - 0.1 * 0.03) - 0.1 * mean / (np.sqrt(square) + 1e-8)
        for ours, theirs in zip(networks.weights, weights, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)  # a gradient near nought is all rounding

    def test_pairs(self) -> None:
        table = modular.pairs(7)
        a, b = table.inputs[:, :7].argmax(axis=1), table.inputs[:, 7:].argmax(axis=1)
        assert sorted(zip(a.tolist(), b.tolist(), strict=True)) == list(product(range(7), repeat=2))
        np.testing.assert_array_equal(table.sums.argmax(axis=1), (a + b) % 7)
        assert (table.inputs.sum(axis=1) == 2).all()
        assert (table.sums.sum(axis=1) == 1).all()

    def test_twins_are_one_until_the_guard_goes_back(self) -> None:
        """A rule that calls every rise a spike and every rise of D_eff a complication."""
        eager = SpikeRule(factor=1.05, window=8, tolerance=0.0)
        setting = Setting(prime=7, width=24, batch=16, steps=900, samples=49)
        found = train(setting, [None, eager, None], np.random.default_rng(2), 6, lambda fraction: None)
        assert found.loss.shape == (3, 6, 900 // EVERY)
        np.testing.assert_array_equal(found.loss[0], found.loss[2])
        assert not found.action[[0, 2]].any()
        returned = 0
        for network in range(6):
            back = np.flatnonzero(found.action[1, network] == Action.ROLL_BACK)
            end = back[0] + 1 if back.size else None
            for curves in (found.loss, found.test_error, found.dimension):
                np.testing.assert_array_equal(curves[0, network, :end], curves[1, network, :end])
            if back.size:
                returned += 1
                assert found.loss[0, network, end] != found.loss[1, network, end]
        assert returned >= 2

    def test_a_guard_restores_everything(self) -> None:
        rng = np.random.default_rng(3)
        networks = modular._Networks(SMALL, rng.normal(size=(2, 10, 12)), rng.normal(size=(2, 12, 5)))
        table = modular.pairs(5)
        guard = modular._Guard(SpikeRule(window=8), slice(1, 2), networks)

        def step() -> None:
            networks.step(table.inputs[None].repeat(2, axis=0), table.sums[None].repeat(2, axis=0))

        states = []
        for _ in range(12):
            step()
            guard.follow(np.array([1.0]), np.array([2.0]))
            states.append([part.copy() for part in networks.state])
        step()
        assert guard.follow(np.array([np.nan]), np.array([np.nan])).tolist() == [Action.ROLL_BACK]
        for now, at_seven in zip(networks.state, states[7], strict=True):  # snapshots are 8 records apart
            np.testing.assert_array_equal(now[1], at_seven[1])
            assert not np.array_equal(now[0], at_seven[0])


def followed(error: np.ndarray, *, zero: float = 1.0, after: int = 10) -> Followed:
    records = np.arange(error.size)
    loss = 0.1 * np.exp(-records / 1000)
    loss[120:123] *= [5, 20, 4]
    dimension = np.where(records < 121, 2.0, 2.5)
    return Followed(zero, after, loss, error, dimension, np.isin(records, [5, 150, 230]))


class TestMeasures:
    def test_a_run(self) -> None:
        error = np.zeros(300)
        error[70:90] = 0.5
        run = measured(followed(error), 200)
        start, stop = 10 + SETTLED, 210
        assert run.error == pytest.approx(0.5 * 20 / (stop - start))
        assert run.back == 1
        assert run.dimension == pytest.approx((2.0 * (121 - start) + 2.5 * (stop - 121)) / (stop - start))
        assert (run.spikes, run.complicated, run.rollbacks) == (1, 1, 2)

    def test_the_transition_itself_and_single_records_do_not_count(self) -> None:
        error = np.zeros(300)
        error[: 10 + SETTLED] = 0.5
        error[100:110] = 0.5  # ten records in a row
        assert measured(followed(error), 200).back == 0
        error[110] = 0.011
        assert measured(followed(error), 200).back == 1

    @pytest.mark.parametrize("run", [followed(np.zeros(209)), followed(np.zeros(300), zero=np.inf)])
    def test_censored(self, run: Followed) -> None:
        found = measured(run, 200)
        assert found.zero == run.zero
        assert np.isnan([found.error, found.back, found.dimension, found.spikes, found.rollbacks]).all()


class TestDifference:
    def test_against_scipy(self) -> None:
        """All signs: the permutation test of SciPy for pairs; mean and error: its one-sample t statistic."""
        rng = np.random.default_rng(4)
        first, second = rng.normal(size=(2, 9))
        ours = difference(first, second, rng)
        theirs = stats.permutation_test(
            (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
        )
        assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
        assert ours.mean / ours.stderr == pytest.approx(stats.ttest_rel(second, first).statistic, rel=1e-12)
        assert (ours.pairs, ours.differing) == (9, 9)

    def test_drawn_signs(self) -> None:
        """p of 20 pairs within 4.5 standard errors of that of all signs (false-alarm rate 7e-6)."""
        rng = np.random.default_rng(5)
        change = rng.normal(0.4, 1, size=16)
        drawn = difference(np.zeros(16), change, rng).p
        signs = np.array(list(product((-1, 1), repeat=16)))
        exact = np.mean(np.abs(signs @ change) >= abs(change.sum()) - 1e-12)
        assert abs(drawn - exact) < 4.5 * (exact * (1 - exact) / spikeguard.FLIPS) ** 0.5 + 1 / spikeguard.FLIPS

    @pytest.mark.parametrize(("shift", "rate"), [(0.0, (0.0, 0.01)), (4.0, (0.91, 1.0))])
    def test_rate_of_verdicts(self, shift: float, rate: tuple[float, float]) -> None:
        """Of a guard that does nothing at most 1 %; of a shift by 4 s.d. more than 91 %; up to 4.5 standard errors.

        The difference of two exponential numbers is above −4 with probability 1 − e⁻⁴/2; ten of one sign have
        p = 2/1024.
        """
        rng = np.random.default_rng(6)
        seen = []
        for _ in range(500):
            first, second = rng.exponential(size=(2, 10))
            seen.append(difference(first, second + shift, rng).p < spikeguard.LEVEL)
        low, high = (
            value + sign * 4.5 * (value * (1 - value) / 500) ** 0.5 for value, sign in zip(rate, (-1, 1), strict=True)
        )
        assert low <= np.mean(seen) <= high

    def test_nothing_to_compare(self) -> None:
        rng = np.random.default_rng(7)
        assert difference([np.nan], [1.0], rng).pairs == 0
        same = difference([1.0, 2.0], [1.0, 2.0], rng)
        assert (same.mean, same.p, same.differing) == (0.0, 1.0, 0)


def ensemble(errors: np.ndarray, *, guard: bool) -> xr.Dataset:
    """Runs that reach zero test error at t = 0.5 and then show given mean errors."""
    members, step = len(errors), 0.005
    time = step * np.arange(1, 404)
    curve = np.where(time > 0.5 + step / 2, errors[:, None], 0.5)
    found = {
        "train_loss": (("member", "time"), np.full(curve.shape, 0.1)),
        "test_error": (("member", "time"), curve),
        "effective_dimension": (("member", "time"), np.full(curve.shape, 2.0)),
        "zero_test_time": ("member", np.full(members, 0.5)),
        "last_time": ("member", np.full(members, 2.0)),
    }
    if guard:
        action = np.zeros(curve.shape, np.int8)
        action[:, 60] = Action.ROLL_BACK
        found["spike_action"] = (("member", "time"), action)
    return xr.Dataset(found, {"time": time, "member": np.arange(members)})


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    """No penalty: the guard changes nothing; L2: it helps; L1: it harms; networks: two, for show."""
    rng = np.random.default_rng(8)
    errors = rng.uniform(0.1, 0.2, size=12)
    runs = {}
    for name, factor in zip(REGULARISATIONS, (1.0, 0.5, 1.5), strict=True):
        runs[spikeguard._name(name, False)] = ensemble(errors, guard=False)
        runs[spikeguard._name(name, True)] = ensemble(errors * factor, guard=True)
    return spikeguard.compute("quick", rng, lambda fraction: None, runs, networks=2)


class TestExperiment:
    def test_ensembles(self) -> None:
        found = spikeguard.ensembles("paper", 3)
        assert list(found)[:2] == ["none, without guard", "none, with guard"]
        for without, guarded in zip(list(found.values())[::2], list(found.values())[1::2], strict=True):
            assert guarded.scenario == without.scenario.replace(guard=True)
            assert (without.scenario.guard, without.scenario.observe, without.scenario.members) == (False, 2.0, 250)
        durations = [found[f"{name}, with guard"].scenario.duration for name in REGULARISATIONS]
        assert durations == [10.0, 5.0, 3.0]
        assert spikeguard.ensembles("quick", 0, members=5)["L1, with guard"].scenario.members == 5

    def test_verdicts(self, data: xr.Dataset) -> None:
        rows = spikeguard.compare(data)
        assert [row.why.split(";")[0] for row in rows[:3]] == ["no difference at all", "helps", "harms"]
        assert [row.agrees for row in rows[:3]] == [True, True, False]
        assert "12 pairs, 12 of them differ" in rows[1].uncertainty

    def test_numbers(self, data: xr.Dataset) -> None:
        errors = data["error"].sel(case="L2", run=slice(0, 12)).to_numpy()
        np.testing.assert_allclose(errors[1], errors[0] / 2)
        assert float(data["difference_mean"].sel(measure="error", case="L2")) == pytest.approx(-errors[0].mean() / 2)
        assert data["rollbacks"].sel(case="L1", guard="with").sum() == 12
        assert np.isnan(data["error"].sel(case="MLP").to_numpy()[:, 2:]).all()

    def test_stored_drawn_and_told(self, data: xr.Dataset) -> None:
        stored = xr.open_dataset(io.BytesIO(bytes(data.to_netcdf(engine="scipy"))), engine="scipy")
        experiment = load("spikeguard")
        figure = experiment.draw(stored)
        with style():
            figure.canvas.draw()
        assert len(figure.axes) == 6
        assert experiment.findings is not None
        told = experiment.findings(stored)
        assert len(told) == 6
        assert told[1].startswith(
            "Student, L2: helps. Of 12 runs, 12 reach zero test error in time without and 12 with"
        )
        assert "larger in 0 and smaller in 12 of the pairs" in told[1]
