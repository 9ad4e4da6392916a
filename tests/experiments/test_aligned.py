"""Figs. 19, 20, 24 and 25: what is measured, against made-up runs of which everything is known.

Statistical tests: fixed seeds, false-alarm rates stated where they are; with each a control that must fail.
"""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase import reproduce
from grokphase.experiments import _aligned as aligned
from grokphase.experiments import _aligned_figures as shared
from grokphase.experiments import fig19, fig20, fig24, fig25
from grokphase.experiments._ensembles import BONDS, REGULARISATIONS, name_of, published
from grokphase.experiments._framework import generator_for, published_curves, published_rows
from grokphase.experiments._style import style
from grokphase.reproduce import run_experiment

ALL = {"fig19": fig19, "fig20": fig20, "fig24": fig24, "fig25": fig25}
REACHES = {"fig19": (1,), "fig20": (1,), "fig24": (2, 3), "fig25": (2, 3)}
RATE, LAST = 0.005, 1200  # epochs of a made-up run
LARGEST_SVG = 600_000  # bytes; the figure with twelve panels and noise in every line


def made_up(
    epochs_of_zero,
    error,
    *,
    regularisation="none",
    train=0.1,
    dimension=lambda since: np.full(np.shape(since), 2.0),
):
    """Runs with given zero test times in epochs (inf: never); error and D_eff are functions of epochs since then."""
    zero = np.asarray(epochs_of_zero, float)
    count, epochs = zero.size, np.arange(4, LAST + 1, 4)
    since = epochs - np.where(np.isfinite(zero), zero, 2 * LAST)[:, None]
    member = np.arange(count)[:, None]
    before = np.arange(33)
    near = np.where((before <= zero[:, None]) & np.isfinite(zero)[:, None], error(-before + 0 * member, member), np.nan)
    l1, l2 = REGULARISATIONS[regularisation]
    over_time = {
        "train_error": np.zeros(since.shape),
        "test_error": error(since, member),
        "effective_dimension": dimension(since),
    }
    return xr.Dataset(
        {
            **{name: (("member", "time"), values) for name, values in over_time.items()},
            "approach_error": (("member", "before"), near),
            "zero_train_time": ("member", np.broadcast_to(train, count).astype(float)),
            "zero_test_time": ("member", zero * RATE),
        },
        coords={"time": epochs * RATE, "before": before * RATE, "member": np.arange(count)},
        attrs={"scenario": gp.Scenario(30, l1=l1, l2=l2).to_text()},
    )


def power_law(exponent, reach=100, top=0.5, amplitude=1.0):
    """Error that falls from ``top`` to zero over ``reach`` epochs."""

    def error(since, member):
        distance = np.clip(-np.asarray(since, float) / reach, 0, 1)
        return top * np.broadcast_to(np.asarray(amplitude), (np.shape(member)[0],))[:, None] * distance**exponent

    return error


def table_of(run, reach=1, bond=10):
    """The same run for all three regularisations."""
    return {name_of(reach, key, bond): run for key in REGULARISATIONS}


def errors_of(run, reach=1, bond=10, seed=0):
    data = aligned.aligned_errors(table_of(run, reach, bond), (reach,), (bond,), np.random.default_rng(seed))
    return data.isel(reach=0, bond=0).sel(regularisation="none")


def dimensions_of(run, seed=0):
    data = aligned.aligned_dimensions(table_of(run), (1,), (10,), np.random.default_rng(seed))
    return data.isel(reach=0, bond=0).sel(regularisation="none", selection="reached")


class TestWhoEnters:
    def run(self):
        def error(since, member):
            wrong = np.isin(member, [5])  # wrong everywhere at its zero test time and ever after
            return np.where(wrong, 1.0, power_law(1.0)(since, member))

        zero = np.r_[300:305, 310, 10, np.inf, 320:332] * 1.0
        return made_up(zero, error, train=np.r_[np.full(18, 0.1), 9.0, np.inf])

    def test_counts(self):
        found = errors_of(self.run())
        counts = {name: int(found[f"{name}_count"]) for name in ("runs", *aligned.COUNTS)}
        # member 6 has t_ε = 0.05 before its zero training time, so have the last two
        assert counts == {"runs": 20, "reached": 18, "delayed": 15, "never": 1, "wrong": 1}
        text = shared.composition(found)
        assert text.startswith("of 20 runs 18 reach zero test error, 15 of them with t_G > 0; 5.0% never do, 1 count")

    def test_wrong_everywhere_is_left_out(self):
        error = errors_of(self.run())["error"]
        assert float(error.sel(selection="reached", offset=0.0)) == 0
        assert float(error.sel(selection="reached", offset=0.5)) == 0

    def test_too_few_runs_give_nothing(self):
        found = errors_of(made_up(np.arange(300, 307.0), power_law(1.0)))
        assert np.isnan(found["error"]).all()
        assert np.isnan(found["exponent"]).all()
        assert np.isinf(found["exponent_stderr"]).all()
        assert fig19.EXPERIMENT.draw(found.expand_dims(reach=1, bond=1, regularisation=1)) is not None


class TestMeanError:
    def test_is_that_of_the_law_at_every_offset(self):
        """A law linear in time, so that interpolation between records is exact; and runs whose scatter is known."""
        amplitude = np.linspace(0.5, 1.5, 40)
        run = made_up(np.arange(300, 340.0), power_law(1.0, reach=250, top=0.4, amplitude=amplitude))
        found = errors_of(run).sel(selection="reached")
        offset = found["offset"].to_numpy()
        assert offset[0] == -0.5
        assert offset[-1] == 1.0
        expected = 0.4 * np.clip(-offset / RATE / 250, 0, 1)
        np.testing.assert_allclose(found["error"], expected, atol=1e-12)  # rounding
        stderr = expected * amplitude.std(ddof=1) / np.sqrt(40)
        np.testing.assert_allclose(found["error_stderr"], stderr, atol=1e-12)

    def test_runs_enter_as_far_back_as_they_have_records(self):
        zero = np.r_[np.full(9, 40.0), np.full(9, 200.0)]
        run = made_up(zero, power_law(0.0, amplitude=np.r_[np.ones(9), np.zeros(9)]))
        error = errors_of(run).sel(selection="reached")["error"]
        # 40 epochs before zero there is a record of all but the first nine, whose first one is after four
        np.testing.assert_allclose(error.sel(offset=[-0.18, -0.16, -0.1, -0.005]), 0.25)
        np.testing.assert_allclose(error.sel(offset=[-0.2, -0.5]), 0.0)

    def test_every_epoch_of_the_approach(self):
        """A jump three epochs before zero is seen where it is, which records every fourth epoch cannot show."""
        run = made_up(np.arange(300, 340.0), lambda since, member: 0.5 * (since <= -3) + 0.0 * member)
        error = errors_of(run).sel(selection="reached")["error"]
        np.testing.assert_allclose(error.sel(offset=[-0.02, -0.015, -0.01, -0.005, 0.0]), [0.5, 0.5, 0, 0, 0])
        np.testing.assert_allclose(error.sel(offset=[0.02, 0.04, 1.0]), 0)


class TestExponent:
    @pytest.mark.parametrize("exponent", [0.4, 1.0, 2.8])
    @pytest.mark.parametrize("reach", [1, 2, 3])
    def test_of_an_exact_law(self, exponent, reach):
        found = errors_of(made_up(np.arange(300, 330.0), power_law(exponent)), reach)
        np.testing.assert_allclose(found["exponent"], exponent, rtol=1e-9)  # rounding
        np.testing.assert_allclose(found["exponent_stderr"], 0, atol=1e-9)

    def test_is_the_slope_that_polyfit_finds(self):
        rng = np.random.default_rng(0)
        distance, error = np.arange(2, 7) * RATE, rng.random((3, 5))
        for row, slope in zip(error, aligned.log_log_slope(distance, error), strict=True):
            assert slope == pytest.approx(np.polyfit(np.log(distance), np.log(row), 1)[0])

    def noisy(self, rng, runs=60):
        """Runs with an error of 1/2 with the probability of a law with exponent 1, as near a transition."""
        wrong = rng.random((runs, 33)) < np.arange(33) / 40
        return 0.5 * np.logical_or.accumulate(wrong, axis=1)

    def test_standard_error_is_the_scatter_between_ensembles(self):
        """Of 300 ensembles: their scatter is known to 4%, and 4.5 times that is allowed (false-alarm rate 7e-6)."""
        rng = np.random.default_rng(1)
        found = [aligned.exponent(self.noisy(rng), 2, rng) for _ in range(300)]
        values, errors = np.array(found).T
        assert np.isfinite(errors).all()
        assert np.sqrt(np.mean(errors**2)) / values.std() == pytest.approx(1, abs=0.18)

    def test_zero_mean_error_determines_none(self):
        approach = self.noisy(np.random.default_rng(2))
        approach[:, 4] = 0
        assert aligned.exponent(approach, 1, np.random.default_rng(0)) == pytest.approx((np.nan, np.inf), nan_ok=True)
        assert np.isfinite(aligned.exponent(approach, 3, np.random.default_rng(0))).all()
        approach[:, 4] = 0
        approach[0, 4] = 0.5  # one run alone: a third of all resamplings has none
        assert not np.isfinite(aligned.exponent(approach, 1, np.random.default_rng(0)).stderr)


class TestDimension:
    def run(self, seed=0, runs=30):
        rng = np.random.default_rng(seed)
        zero = np.r_[rng.integers(150, 500, runs - 2), 1100, 1190].astype(float)
        error = (rng.random((runs, LAST // 4)) < 0.2) * 0.25
        dimension = rng.uniform(1, 9, (runs, LAST // 4))
        run = made_up(zero, power_law(1.0), dimension=lambda since: dimension)
        return run.assign(test_error=(("member", "time"), error))

    def by_hand(self, run, name):
        """Values by four epochs since zero, as lists, one run and record after the other."""
        found = {}
        for member in range(run.sizes["member"]):
            zero = round(float(run["zero_test_time"][member]) / RATE)
            for place, epoch in enumerate(range(4, LAST + 1, 4)):
                four = (epoch - zero) // 4
                found.setdefault(four, []).append((member, float(run[name][member, place])))
        return found

    def test_means_in_fours(self):
        run = self.run()
        found, expected = dimensions_of(run), self.by_hand(run, "effective_dimension")
        assert found["offset"].size == 75
        for offset, mean, stderr in zip(
            found["offset"].values, found["dimension"].values, found["dimension_stderr"].values, strict=True
        ):
            four = round((offset / RATE - 1.5) / 4)
            values = np.array(expected[four])[:, 1]
            assert mean == pytest.approx(values.mean())
            assert stderr == pytest.approx(values.std(ddof=1) / np.sqrt(values.size))

    def test_both_readings_of_the_smallest(self):
        run = self.run()
        dimension, error = (self.by_hand(run, name) for name in ("effective_dimension", "test_error"))
        own, means = {}, []
        for four in range(50):
            good = [
                (member, value)
                for (member, value), (_, wrong) in zip(dimension.get(four, []), error.get(four, []), strict=True)
                if wrong == 0
            ]
            for member, value in good:
                own[member] = min(own.get(member, np.inf), value)
            means += [np.mean([value for _, value in good])] if len(good) >= aligned.FEWEST else []
        found, values = dimensions_of(run), np.array(list(own.values()))
        assert float(found["smallest"]) == pytest.approx(values.mean())
        assert float(found["smallest_stderr"]) == pytest.approx(values.std(ddof=1) / np.sqrt(values.size))
        assert float(found["lowest_mean"]) == pytest.approx(min(means))
        assert 0 < float(found["lowest_mean_stderr"]) < 1

    def test_a_kink_at_zero_is_not_smeared(self):
        """D_eff jumps at t_ε: no mean may lie between both values, which interpolation would give."""
        run = made_up(np.arange(300, 340.0), power_law(1.0), dimension=lambda since: np.where(since < 0, 6.0, 2.0))
        found = dimensions_of(run)
        np.testing.assert_allclose(found["dimension"], np.where(found["offset"] < 0, 6.0, 2.0))
        assert float(found["smallest"]) == float(found["lowest_mean"]) == 2.0


class TestPublishedValues:
    def test_windows_and_slopes_are_those_of_the_table(self):
        rows = published_rows("exponent_refits")
        assert len(rows) == 27
        curves = {name: published_curves(name) for name in ("fig19", "fig24")}
        for row in rows:
            reach, bond, figure = int(row["rule_K"]), int(row["d"]), f"fig{row['figure']}"
            penalties = (float(row["lambda1"]), float(row["lambda2"]))
            (key,) = [name for name, values in REGULARISATIONS.items() if values == penalties]
            assert aligned.WINDOWS[reach] == (int(row["first_step"]), int(row["last_step"]))
            curve = shared.published_curve(curves[figure], figure, reach, key, bond)
            # rounding of the table; between two points of a curve it is known to 9e-4 only
            assert shared.slope_of(curve, reach) == pytest.approx(float(row["nu_refit"]), abs=0.005)
            assert shared.printed(figure, reach, key, bond)[0] == float(row["nu_printed"])

    def test_every_ensemble_has_its_values(self):
        for figure, reaches in REACHES.items():
            curves = published_curves(figure)
            for reach in reaches:
                for key in REGULARISATIONS:
                    assert set(curves[shared.panel_of(figure, reach, key)]) == {f"d={bond}" for bond in BONDS}
                    for bond in BONDS:
                        assert 335 <= shared.published_runs(reach, key, bond) <= 1936
        assert shared.printed("fig25", 3, "L1", "all") == (4.8, 4.8173)
        assert shared.published_runs(1, "L1", 10) == 1759

    def test_standard_error_of_a_difference(self):
        """Ours of 100 runs, theirs of 400: variances σ²/100 and σ²/400."""
        assert shared.pair_of_errors(0.1, 100, 400) == pytest.approx(np.hypot(0.1, 0.05))


class TestVerdicts:
    """Published curves against ensembles made from them: 1000 runs as bursts with the published mean."""

    def errors(self, shift=0, runs=1000):
        """Runs that are half wrong with the published probability, each epoch, one curve for all ensembles."""
        rng = np.random.default_rng(3)
        x, y = published_curves("fig19")["lambda1=0 lambda2=0.0001"]["d=10"]
        zero = rng.integers(250, 330, runs).astype(float)
        level = rng.random((runs, 1))

        def error(since, member):
            mean = np.interp((np.asarray(since, float) - shift) * RATE, x, y)
            return np.where(level < mean, 0.5, 0.0)

        return errors_of_all(made_up(zero, error))

    def rows(self, data):
        return {row.quantity: row for row in fig19.EXPERIMENT.compare(data) if ", L2, " in row.quantity}

    def test_same_law_agrees(self):
        rows = self.rows(self.errors())
        assert [row.verdict for row in rows.values()] == ["agrees"] * 3

    def test_a_transition_some_epochs_off_is_found_out(self):
        """Control: the same law, two epochs later."""
        rows = self.rows(self.errors(shift=2))
        assert rows["mean test error, K=1, L2, d=10, before t_ε"].verdict == "differs"
        assert "zeros that last for less" in rows["mean test error, K=1, L2, d=10, before t_ε"].why

    def test_no_error_at_all_where_some_is_published_is_judged_by_what_could_be(self):
        """0.03 after t_ε: none among 60 runs says nothing, none among 2000 does."""
        x = np.linspace(-0.5, 1.0, 301)
        curve = (x, np.where(x < 0, 1.0, 0.03))
        verdicts = []
        for runs in (60, 2000):
            zero = 250.0 + np.arange(runs) % 80
            here = errors_of(made_up(zero, lambda since, member: 0.5 * (since < 0) + 0.0 * member))
            means = {
                selection: shared.means_to_compare(
                    curve, here, "error", selection, runs=10**6, doubled=True, fours=False
                )
                for selection in aligned.SELECTIONS
            }
            rows = shared.compare_both_sides("q", means, reading_error=1e-3, why="because", if_not={})
            verdicts.append([row.verdict for row in rows])
        assert verdicts[0] == ["agrees", "agrees"]
        assert verdicts[1][1] == "differs"

    def test_dimension_is_compared_with_the_mean_over_the_same_epochs(self):
        x, y = published_curves("fig20")["lambda1=0.001 lambda2=0"]["d=10"]
        zero = 250.0 + np.arange(400) % 80
        for shift, verdict in ((0, "agrees"), (2, "differs")):
            run = made_up(
                zero,
                power_law(1.0),
                dimension=lambda since, shift=shift: np.interp((since - shift) * RATE, x, y),
            )
            data = aligned.aligned_dimensions(table_of(run), (1,), (10,), np.random.default_rng(0))
            rows = {row.quantity: row for row in fig20.EXPERIMENT.compare(data)}
            assert rows["mean D_eff, K=1, L1, d=10, before t_ε"].verdict == verdict

    def test_smallest_values_need_all_bond_dimensions(self):
        data = full_table("fig20")
        rows = [row.quantity for row in fig20.EXPERIMENT.compare(data) if row.quantity.startswith("smallest")]
        assert len(rows) == 6
        assert not [r for r in fig20.EXPERIMENT.compare(data.isel(bond=[0])) if r.quantity.startswith("smallest")]

    def test_smallest_value_is_the_mean_over_bond_dimensions(self):
        data = full_table("fig20").copy(deep=True)
        data["smallest"].loc[{"selection": "reached", "regularisation": "L1"}] = [[1.0, 2.0, 3.0]]
        data["smallest_stderr"].loc[{"selection": "reached", "regularisation": "L1"}] = [[0.3, 0.0, 0.4]]
        here = data.sel(reach=1, regularisation="L1")
        assert fig20.smallest(here, "smallest") == pytest.approx((2.0, 0.5 / 3))


def errors_of_all(run):
    return aligned.aligned_errors(table_of(run), (1,), (10,), np.random.default_rng(0))


def full_table(name):
    """All ensembles of a figure, made up, with noise."""
    rng = np.random.default_rng(5)
    runs = {}
    for key, ensemble in published("paper", 0, reaches=REACHES[name]).items():
        scenario = ensemble.scenario
        amplitude = rng.uniform(0.2, 1.0, 40)
        run = made_up(
            rng.integers(220, 400, 40).astype(float),
            power_law(1.5, reach=60, amplitude=amplitude),
            dimension=lambda since, bond=scenario.bond: 1 + bond / 4 * rng.random(since.shape) * (since < 0),
        )
        runs[key] = run
    measure = aligned.aligned_errors if name in ("fig19", "fig24") else aligned.aligned_dimensions
    return measure(runs, REACHES[name], BONDS, rng)


@pytest.mark.parametrize("name", ALL)
class TestEveryFigure:
    def test_names_its_ensembles(self, name):
        experiment = ALL[name].EXPERIMENT
        assert experiment.name == name
        assert len(experiment.title) < 60
        assert experiment.summary.endswith((".", ".)"))
        assert experiment.options == {"members": 0, "bonds": ""}
        quick, paper = (experiment.ensembles(scale, 3) for scale in ("quick", "paper"))
        assert quick == published("quick", 3, reaches=REACHES[name])
        assert len(paper) == 9 * len(REACHES[name])
        assert list(experiment.ensembles("quick", 0, members=4, bonds="20")) == [
            name_of(reach, key, 20) for reach in REACHES[name] for key in REGULARISATIONS
        ]

    def test_draws_small_pictures(self, name):
        experiment = ALL[name].EXPERIMENT
        for make in (lambda: experiment.draw(full_table(name)), experiment.draw_published):
            buffer = io.BytesIO()
            with style():
                make().savefig(buffer, format="svg")
            assert 20_000 < buffer.tell() < LARGEST_SVG

    def test_comparisons_are_readable(self, name):
        rows = list(ALL[name].EXPERIMENT.compare(full_table(name)))
        per_ensemble = 3 if name in ("fig19", "fig24") else 2
        assert len(rows) >= 9 * len(REACHES[name]) * per_ensemble
        assert len({row.quantity for row in rows}) == len(rows)
        for row in rows:
            for text in (row.quantity, row.published, row.computed, row.uncertainty, row.why):
                assert text == text.strip()
                assert text
                assert not re.search(r"\b(nan|inf)\b", text)

    def test_dataset_explains_itself(self, name):
        for key, values in full_table(name).variables.items():
            assert len(values.attrs["long_name"]) > 5, key


@pytest.mark.slow
def test_trained_students_end_in_a_report(tmp_path, monkeypatch):
    """From training to the rows of the report, small and short; Fig. 20 takes up what Fig. 19 trained."""

    def short(scale, seed, **options):
        return {
            key: replace(ensemble, scenario=ensemble.scenario.replace(duration=0.8, observe=0.1))
            for key, ensemble in published(scale, seed, reaches=(1,), **options).items()
        }

    monkeypatch.setattr(reproduce, "load", lambda name: replace(ALL[name].EXPERIMENT, ensembles=short))
    notes: list[str] = []
    options = {"members": "16", "bonds": "10"}
    section = run_experiment("fig19", tmp_path, options=options, note=notes.append)
    stores = sorted((tmp_path / "ensembles").iterdir())
    assert len(stores) == 3
    assert section.comparisons
    trained = len(notes)
    run_experiment("fig20", tmp_path, options=options, note=notes.append)
    assert notes[trained:] == [
        f"K=1, {key}, d=10 ({n} of 3): 16 of 16 runs" for n, key in enumerate(REGULARISATIONS, 1)
    ]
    assert sorted((tmp_path / "ensembles").iterdir()) == stores
    with xr.open_dataset(tmp_path / "fig19.nc", engine="scipy") as data:
        runs = reproduce.simulated(short("quick", 0, members=16, bonds="10"), tmp_path)
        again = aligned.aligned_errors(runs, (1,), (10,), generator_for("fig19", 0))
        xr.testing.assert_equal(data.load(), again)
        # an own look at one number: the mean over runs of their errors five epochs before zero
        run = runs["K=1, L1, d=10"].load()
        approach = run["approach_error"].to_numpy()
        entering = np.isfinite(run["zero_test_time"].to_numpy()) & ~(approach[:, 0] > 0.5)
        assert entering.sum() >= aligned.FEWEST
        found = float(data["error"].sel(selection="reached", regularisation="L1", offset=-0.025).item())
        assert found == pytest.approx(approach[entering, 5].mean(), rel=1e-6)  # single precision
