"""Figs. 21 and 22: structure of contexts and spikes, each part against something that knows nothing of it.

Statistical tests: fixed seeds, 4.5 standard errors (false-alarm rate 7e-6 each); there are three.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import mpmath
import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase.experiments import _structure as structure
from grokphase.experiments import fig21, fig22
from grokphase.experiments._framework import generator_for, published_rows
from grokphase.experiments._structure import Record
from grokphase.experiments._style import style

RATE = 0.005
BOTH = {"fig21": fig21, "fig22": fig22}


def record_with(steps: dict[int, float], *, epochs: int = 400, zero: float = 0.5, error: float = 0.0) -> Record:
    """A smooth run with spikes of height 20 at some epochs, over each of which ln D_eff changes by a given step."""
    count = np.arange(1, epochs + 1)
    time = (RATE * count).astype(np.float64)
    loss = 0.25 * np.exp(-time)
    dimension = np.full(epochs, 1.5)
    for epoch, step in steps.items():
        loss[epoch - 2 : epoch + 1] *= [5, 20, 4]
        dimension[epoch - 1 :] *= np.exp(step)
    wrong = np.where(time < zero - RATE / 2, 0.5, error)
    return Record("L1", 0, zero, time, loss, wrong, dimension)


class TestRecord:
    def test_a_spike_is_told_from_its_control(self) -> None:
        record = record_with({200: 0.3})
        (spike,), (control,) = record.spikes(), record.spikes(control=True)
        assert spike.time == control.time == pytest.approx(1.0)
        assert (spike.effect, control.effect) == ("complicated", "unclear")
        assert fig21.step(spike) == pytest.approx(0.3)
        assert fig21.step(control) == 0

    def test_only_after_zero_test_error(self) -> None:
        assert [round(spike.time, 3) for spike in record_with({60: 0.3, 200: -0.2}).spikes()] == [1.0]

    def test_around_a_spike(self) -> None:
        record = record_with({105: 0.1, 200: 0.3, 395: -0.1})
        early, middle, late = record.spikes()
        values = record.time**2
        for spike in (early, middle, late):
            before, after = record.around(spike, values)
            inside = [t for t in record.time if spike.start - 0.1 <= t < spike.start and t > record.zero_test_time]
            outside = [t for t in record.time if spike.end < t <= spike.end + 0.1]
            assert np.isnan(before) == (spike is early)
            assert np.isnan(after) == (spike is late)
            assert np.isnan(before) or before == np.median(np.square(inside))
            assert np.isnan(after) or after == np.median(np.square(outside))

    def test_steady(self) -> None:
        rng = np.random.default_rng(3)
        error = np.repeat(rng.choice([0.0, 0.3, 0.5], size=40), 10)
        record = Record("L1", 0, 0.5, record_with({}).time, np.ones(400), error, rng.random(400) + 1)
        for epoch in range(5, 395):  # at the ends the record is continued by its mirror image
            near = slice(epoch - 5, epoch + 6)
            assert record.steady("right")[epoch] == (error[near] < 0.01).all()
            assert record.steady("high")[epoch] == (error[near] >= 0.4).all()
            assert record.steady_dimension[epoch] == np.median(record.dimension[near])

    def test_records_of_a_dataset(self) -> None:
        time = RATE * np.arange(1, 11)
        curves = np.tile(np.linspace(1, 2, 10), (3, 1))
        curves[1, 6:] = np.nan
        run = xr.Dataset(
            dict.fromkeys(("train_loss", "test_error", "effective_dimension"), (("member", "time"), curves))
            | {"zero_test_time": ("member", [np.inf, 0.02, 0.03]), "last_time": ("member", [0.05, 0.03, 0.05])},
            {"member": [4, 5, 6], "time": time},
        )
        first, second = structure.records({"L2": run})
        assert (first.name, first.member, first.time.size, second.member, second.time.size) == ("L2", 5, 6, 6, 10)
        assert first.followed == pytest.approx(0.01)


class TestRules:
    def test_the_largest_lasting_step_is_picked(self) -> None:
        small, large, wrong = record_with({200: 0.2}), record_with({220: 0.3}), record_with({200: 0.5}, error=0.2)
        assert fig21.picked([small, large, wrong], "complicated")[0] is large
        down = record_with({200: -0.1, 300: -0.4})
        record, spike = fig21.picked([small, down], "simplified")
        assert record is down
        assert spike.time == pytest.approx(1.5)
        with pytest.raises(ValueError, match="members must be more: none of 2 runs has a spike that simplifies"):
            fig21.picked([small, large], "simplified")

    def test_contradiction(self) -> None:
        record = record_with({300: 0.4}, zero=0.5)
        dimension = record.dimension.copy()
        dimension[40:60] = 1.1
        score, lowest, largest = fig22.contradiction(
            Record("L1", 0, 0.5, record.time, record.loss, record.error, dimension)
        )
        assert score == pytest.approx(np.log(1.5 * np.exp(0.4) / 1.1))
        assert 0.2 < lowest < 0.3
        assert largest >= 1.5
        assert fig22.contradiction(record_with({}, error=0.2))[0] == -np.inf  # never right


class TestNumbers:
    def test_standard_error_of_a_ratio(self) -> None:
        rng = np.random.default_rng(7)
        bottom = rng.poisson(3.0, size=(4000, 60))
        top = rng.binomial(bottom, np.clip(rng.normal(0.4, 0.2, size=bottom.shape), 0, 1))  # runs differ
        found = np.array([structure.ratio(*pair) for pair in zip(top, bottom, strict=True)])
        scatter, told = found[:, 0].std(), np.sqrt(np.mean(found[:, 1] ** 2))
        # The standard deviation of 4000 numbers is known to 1/√8000; the formula is of leading order in 1/60.
        assert abs(told / scatter - 1) < 4.5 / np.sqrt(8000) + 1 / 60
        independent = np.sqrt(0.4 * 0.6 / (3.0 * 60))  # the control: spikes of a run taken as independent
        assert abs(independent / scatter - 1) > 4.5 / np.sqrt(8000) + 1 / 60

    def test_ratio_of_nothing(self) -> None:
        for pair in (([], []), ([1], [1]), ([0, 0], [0, 0])):
            assert np.isnan(structure.ratio(*pair)).all()

    @pytest.mark.parametrize("penalties", [(0.0, 2e-3), (0.0, 1e-4), (1e-3, 0.0), (1e-3, 1e-3)])
    def test_loss_at_rest(self, penalties: tuple[float, float]) -> None:
        l1, l2 = penalties
        with mpmath.workdps(30):
            size = 1 / mpmath.sqrt(2)

            def wrong(scale: mpmath.mpf) -> mpmath.mpf:
                return 1 / (1 + mpmath.exp(scale * size))

            def slope(scale: mpmath.mpf) -> mpmath.mpf:
                return -2 * size * wrong(scale) ** 2 * (1 - wrong(scale)) + l1 + l2 * scale

            best = mpmath.findroot(slope, (2, 20), solver="bisect", maxsteps=200)
            exact = float(wrong(best) ** 2)
        # The minimum is found to about √(rounding) of the scale, 1e-8, and d ln loss/d scale is below √2.
        assert structure.loss_at_rest(l1, l2) == pytest.approx(exact, rel=1e-6)

    def test_principal_axes(self) -> None:
        rng = np.random.default_rng(1)
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        points = (rng.standard_normal((500, 3)) * [3.0, 1.0, 0.2]) @ turn + [5.0, -2.0, 1.0]
        cloud, parts = structure._principal(points)
        variances = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
        np.testing.assert_allclose(parts, variances[:2] / variances.sum(), rtol=1e-12)
        np.testing.assert_allclose(np.cov(cloud.T), np.diag(variances[:2]), atol=1e-12 * variances[0])
        again, _ = structure._principal(points[::-1])
        np.testing.assert_allclose(again[::-1], cloud, atol=1e-12)  # no sign is left to chance


class TestPublished:
    def test_the_run_of_figure_21(self) -> None:
        record = structure.published_record("fig21")
        assert record.zero_test_time == pytest.approx(0.19)
        (spike,) = record.spikes()
        assert spike.effect == "complicated"
        assert spike.time == pytest.approx(1.105)
        # at rest with λ₂ = 0.002 within the reading, and with nothing near it
        assert record.loss[-1] == pytest.approx(structure.loss_at_rest(0.0, 2e-3), rel=fig21.READING)
        for other in (1.9e-3, 2.1e-3):
            assert record.loss[-1] != pytest.approx(structure.loss_at_rest(0.0, other), rel=fig21.READING)

    def test_the_run_of_figure_22(self) -> None:
        record = structure.published_record("fig22")
        assert record.time.size == 245
        assert record.zero_test_time == pytest.approx(0.675)

    @pytest.mark.parametrize("name", BOTH)
    def test_lines_pass_through_the_markers(self, name: str) -> None:
        record = structure.published_record(name)
        found = {"D_eff": record.dimension, "train_loss": record.loss, "E_test": record.error}
        # the errors between points that the readings state
        between = {"D_eff": 2e-3, "train_loss": 2e-3 if name == "fig21" else 1.3e-4, "E_test": 8e-4}
        for row in published_rows(f"{name}_markers"):
            place = np.argmin(np.abs(record.time - float(row["t"])))
            assert found[row["panel"]][place] == pytest.approx(float(row["value"]), abs=between[row["panel"]])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, xr.Dataset]]:
    """A small ensemble with the penalty that makes spikes, for a shorter time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_DURATION", 1.0)
        patch.setattr(structure, "_OBSERVE", 1.0)
        scenario = structure.ensembles("quick", 0, members=16)["L1"].scenario
        yield {"L1": gp.simulate(scenario, store=Path(tmp_path_factory.mktemp("runs")) / "L1")}


@pytest.fixture(scope="module")
def computed(runs: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    found = {}
    for name, module in BOTH.items():
        fractions: list[float] = []
        found[name] = module.compute("quick", generator_for(name, 0), fractions.append, runs, members=16)
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
    return found


class TestEnsembles:
    def test_same_for_both_figures(self) -> None:
        named = structure.ensembles("quick", 3)
        for module in BOTH.values():
            assert module.EXPERIMENT.ensembles is structure.ensembles
        assert {name: (each.scenario.l1, each.scenario.l2) for name, each in named.items()} == structure.PENALTIES
        assert structure.ensembles("paper", 3, members=5)["L1"].scenario.members == 5
        with pytest.raises(ValueError, match="scale"):
            structure.ensembles("huge", 0)  # type: ignore[arg-type]

    def test_scenario_is_found_again(self, runs: dict[str, xr.Dataset]) -> None:
        scenario = structure.scenario_of(runs["L1"], structure.ensembles, "quick")
        assert scenario.to_text() == runs["L1"].attrs["scenario"]
        other = runs["L1"].assign_attrs(scenario=scenario.replace(bond=4).to_text())
        with pytest.raises(ValueError, match="ensembles that this experiment names"):
            structure.scenario_of(other, structure.ensembles, "quick")

    def test_trains_again_to_the_last_bit_or_refuses(self, runs: dict[str, xr.Dataset]) -> None:
        record = next(structure.records(runs))
        scenario = structure.scenario_of(runs["L1"], structure.ensembles, "quick")
        times = (0.05, record.zero_test_time)
        again = structure.trained_again(scenario, record, times)
        np.testing.assert_allclose(again["snapshot_time"], times, atol=1e-9)
        loss = record.loss.copy()
        loss[3] = np.nextafter(np.float32(loss[3]), np.float32(1))
        changed = Record(record.name, record.member, record.zero_test_time, record.time, loss, record.error, loss)
        with pytest.raises(ValueError, match="does not come out again"):
            structure.trained_again(scenario, changed, times)

    def test_recorded_dimension_is_that_of_the_contexts(self, runs: dict[str, xr.Dataset]) -> None:
        record = next(structure.records(runs))
        scenario = structure.scenario_of(runs["L1"], structure.ensembles, "quick")
        times = (0.05, 0.1)
        again = structure.trained_again(scenario, record, times)
        rng = np.random.default_rng(5)
        for mark, time in enumerate(times):
            attention = structure.attention_of(again.isel(snapshot=mark))
            contexts = attention.contexts(rng.choice([-1, 1], size=(300, 1000)))[0][:, ::4]
            samples = gp.effective_dimension(contexts)  # each as the recorded one, of its own string
            recorded = record.dimension[round(time / RATE) - 1]
            assert abs(recorded - samples.mean()) < 4.5 * samples.std()
            assert abs(samples.mean() - 1) > 4.5 * samples.std()  # so that a collapsed cloud would be noticed

    def test_spikes_are_counted(self, runs: dict[str, xr.Dataset], computed: dict[str, xr.Dataset]) -> None:
        data = computed["fig21"]
        number, time, simplified = 0, 0.0, 0
        for member in range(16):
            run = runs["L1"].isel(member=member)
            if np.isfinite(run["zero_test_time"]):
                kept = run.sel(time=slice(float(run["zero_test_time"]) + RATE / 2, float(run["last_time"]) + RATE / 2))
                found = gp.spikes(kept["train_loss"], kept["time"], effective_dimension=kept["effective_dimension"])
                number += len(found)
                simplified += sum(spike.effect == "simplified" for spike in found)
                time += float(run["last_time"] - run["zero_test_time"])
        for name in ("L1", "all"):
            part = data.sel(penalties=name)
            assert part["spikes"] == number > 5
            assert float(part["rate"]) == pytest.approx(number / time)
            assert float(part["share"].sel(which="spikes", effect="simplified")) == pytest.approx(simplified / number)
        assert data["height"].size == number
        assert data["spikes"].sel(penalties="L2") == 0

    def test_marks_stand_where_they_should(self, runs: dict[str, xr.Dataset], computed: dict[str, xr.Dataset]) -> None:
        for part in (*(computed["fig21"].sel(shown=name) for name in fig21.SHOWN), computed["fig22"]):
            times, places = part["mark_time"].to_numpy(), part["mark_record"].to_numpy().astype(int)
            assert (np.diff(times) > 0).all()
            np.testing.assert_allclose(part["time"][places], times, atol=RATE / 2 + 1e-9)
            run = runs["L1"].sel(member=int(part["member"]))
            known = np.isfinite(part["train_loss"].to_numpy())
            np.testing.assert_array_equal(part["train_loss"][known], run["train_loss"][: known.sum()])
            assert float(run["zero_test_time"]) in times
        for name in fig21.SHOWN:
            part = computed["fig21"].sel(shown=name)
            before, after = (float(part["mark_time"][mark]) for mark in (2, 3))
            within = (part["spike_time"] > before) & (part["spike_time"] < after)
            assert structure.EFFECTS.index(name) in part["spike_effect"].to_numpy()[within.to_numpy()]

    def test_neighbours_are_those_of_the_string(self, runs: dict[str, xr.Dataset]) -> None:
        """Contexts of the exact attention of reach 1 tell the cell on the left, and nothing else."""
        spins = np.random.default_rng(structure.scenario_of(runs["L1"], structure.ensembles, "quick").seed)
        string = spins.choice([-1, 1], size=structure._CELLS)
        record = next(structure.records(runs))
        scenario = structure.scenario_of(runs["L1"], structure.ensembles, "quick")
        shown = structure.portrait(scenario, record, (0.05, 0.06, 0.07, 0.08))
        classes = shown["neighbours"].to_numpy().astype(int)
        contexts = gp.Attention.exact(1).contexts(string)[0][structure._SKIPPED :]
        for left in (0, 1):
            same = contexts[classes // 2 == left]
            np.testing.assert_allclose(same, same[:1].repeat(len(same), axis=0), atol=1e-12)
        assert np.abs(contexts[classes // 2 == 0][0] - contexts[classes // 2 == 1][0]).max() > 0.5
        second = contexts[:-1][classes[1:] % 2 == 1]  # the second cell on the left is the first one of the cell before
        np.testing.assert_allclose(second, second[:1].repeat(len(second), axis=0), atol=1e-12)

    @pytest.mark.parametrize("name", BOTH)
    def test_survives_the_store(self, name: str, computed: dict[str, xr.Dataset]) -> None:
        stored = bytes(computed[name].to_netcdf(engine="scipy"))
        with xr.open_dataset(io.BytesIO(stored), engine="scipy") as data:
            xr.testing.assert_equal(data.load(), computed[name])
            for key, variable in data.variables.items():
                assert variable.dtype.kind in "UOS" or len(variable.attrs["long_name"]) > 5, key

    @pytest.mark.parametrize("name", BOTH)
    def test_pictures(self, name: str, computed: dict[str, xr.Dataset]) -> None:
        experiment = BOTH[name].EXPERIMENT
        for figure in (experiment.draw(computed[name]), experiment.draw_published()):
            drawing = io.BytesIO()
            with style():
                figure.savefig(drawing, format="svg")
            assert 20_000 < drawing.tell() < 400_000

    @pytest.mark.parametrize("name", BOTH)
    def test_comparisons_are_readable(self, name: str, computed: dict[str, xr.Dataset]) -> None:
        rows = BOTH[name].EXPERIMENT.compare(computed[name])
        assert len({row.quantity for row in rows}) == len(rows) > 4
        for row in rows:
            assert type(row.agrees) is bool
            assert not re.search(r"\bnan\b", row.computed + row.uncertainty + row.why)
        if name == "fig21":
            assert [row.verdict for row in rows[:3]] == ["agrees", "erratum", "erratum"]
