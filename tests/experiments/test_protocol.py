"""The protocol study: its table on made-up runs with known answers, its verdicts, and that words follow numbers.

Statistical tests have a fixed seed; deviations are allowed 4.5 standard errors (false-alarm rate 7e-6 each).
"""

import io
import re

import numpy as np
import pytest
import xarray as xr

from grokphase.experiments import _protocol_table as table
from grokphase.experiments import protocol
from grokphase.experiments._aligned import RATE, Estimate
from grokphase.experiments._ensembles import BONDS, REGULARISATIONS, name_of, published
from grokphase.experiments._legends import legends
from grokphase.experiments._protocol_matches import matches
from grokphase.experiments._statements import DECISIVE, STATEMENTS, UNDECIDED, Counts, Statement, fate, judge, judge_all
from grokphase.experiments._style import style
from grokphase.report import Section, render, svg_of

READINGS = ("published", *[name for name in table.READINGS if name != "published"])
EXPONENT = 1.5
FALL = 2.0


# --- ensembles ---


class TestEnsembles:
    def test_names_and_sizes(self):
        found = table.ensembles("quick", 5)
        assert list(found)[:3] == list(published("quick", 5, reaches=[1]))
        assert len(found) == 9
        assert {ensemble.scenario.members for ensemble in found.values()} == {32, 16}
        paper = table.ensembles("paper", 0)
        assert len(paper) == 27 + 2 * 9
        assert sum(ensemble.scenario.members for ensemble in paper.values()) == 27_000 + 18 * 200

    def test_published_ones_are_those_of_the_figures(self):
        """Equal scenarios are simulated once."""
        found = table.ensembles("paper", 0)
        for name, ensemble in published("paper", 0, reaches=[1, 2, 3]).items():
            assert found[name] == ensemble

    def test_strict_variant_trains_the_same_runs(self):
        """Whatever training depends on is equal: only tests, records and the number of members differ."""
        found = table.ensembles("quick", 0, members=8)
        one, other = (found[name].scenario for name in ("K=1, L1, d=10", "K=1, L1, d=10, no wrong cell"))
        assert other == one.replace(zero="error", exact_lengths=(10,), record_every=1)
        assert one.members == 8

    def test_clean_variant(self):
        scenario = table.ensembles("quick", 0)["K=1, L2, d=10, all inputs"].scenario
        assert (scenario.protocol, scenario.zero, scenario.l2) == ("all-inputs", "error", 1e-4)
        assert scenario.steps_per_epoch == 1
        assert scenario.record_every * RATE / table.CLEAN_UNIT == 0.02  # the published distance of records

    def test_parts(self):
        assert set(table.ensembles("paper", 0, reaches="2,3", bonds="20")) == {
            name_of(reach, penalty, 20) for reach in (2, 3) for penalty in REGULARISATIONS
        }
        for wrong in ("4", "1,1", "one"):
            with pytest.raises(ValueError, match="reaches must be different numbers out of 1, 2, 3"):
                table.reaches_of("quick", wrong)
        with pytest.raises(ValueError, match="scale"):
            table.reaches_of("huge")
        with pytest.raises(ValueError, match="members"):
            table.ensembles("quick", 0, members=-1)


# --- made-up runs ---


def made_up(scenario, rng, *, mean=0.6, never=0.0):
    """Runs whose mean error is a power law of the distance to t_ε and whose D_eff falls by ``FALL`` in the last 0.1.

    In the published unit of time; training error is zero two epochs after the tensors are right for every third run.
    """
    scale = table.CLEAN_UNIT if scenario.protocol == "all-inputs" else 1.0
    size, time = scenario.members, np.asarray(scenario.record_epochs) * RATE / scale
    zero = np.ceil((0.3 + rng.exponential(mean, size)) / RATE) * RATE
    latest = scenario.duration / scale
    zero[(rng.random(size) < never) | (zero > latest)] = np.inf
    train = np.where(np.arange(size) % 3 == 0, np.minimum(zero, latest) + 2 * RATE, 0.25)
    last = np.where(np.isfinite(zero), np.minimum(zero + scenario.observe / scale, time[-1]), latest)
    before = np.where(np.isfinite(zero), zero, np.inf)[:, None] - time
    beyond = time > last[:, None] + 1e-9
    error = np.where(before > 1e-9, np.minimum(0.5, 0.4 * np.clip(before, 1e-9, 1.0) ** EXPONENT), 0.0)
    dimension = 3.0 + FALL * np.clip(before / 0.1, 0.0, 1.0)
    approach = 0.4 * (np.arange(33) * RATE) ** EXPONENT * np.where(np.isfinite(zero), 1.0, np.nan)[:, None]
    run = xr.Dataset(
        {
            "train_error": (("member", "time"), np.where(beyond, np.nan, error)),
            "test_error": (("member", "time"), np.where(beyond, np.nan, error)),
            "effective_dimension": (("member", "time"), np.where(beyond, np.nan, dimension)),
            "approach_error": (("member", "before"), approach * rng.uniform(0.9, 1.1, (size, 1))),
            "zero_test_time": ("member", zero * scale),
            "zero_train_time": ("member", np.where(np.isfinite(zero), train, np.inf) * scale),
            "last_time": ("member", last * scale),
        },
        coords={"member": np.arange(size), "time": time * scale, "before": np.arange(33) * RATE},
        attrs={"scenario": scenario.to_text()},
    )
    if scenario.exact_lengths:  # right as soon as the test error is
        run["exact_error"] = (("member", "time", "length"), np.where(before > 1e-9, 0.1, 0.0)[..., None])
    return run


@pytest.fixture(scope="module")
def small():
    """Table of nine ensembles of 60 and 40 made-up runs: with L1 four times as quick, and L2 as without penalty."""
    rng = np.random.default_rng(11)
    ensembles = table.ensembles("quick", 0, members=200)
    runs = {
        name: made_up(
            ensemble.scenario.replace(members=200),
            rng,
            mean=0.15 if ensemble.scenario.l1 else 0.6,
            never=0.0 if ensemble.scenario.l1 else 0.1,
        )
        for name, ensemble in ensembles.items()
    }
    fractions = []
    data = protocol.compute("quick", np.random.default_rng(0), fractions.append, runs)
    assert fractions[-1] == pytest.approx(1.0)
    return data, runs


def estimate(data, statistic, reading, penalty, bond=10):
    at = data.sel(statistic=statistic, reading=reading, reach=1, regularisation=penalty, bond=bond)
    return Estimate(float(at["value"]), float(at["stderr"]))


class TestTable:
    def test_exponent_of_the_recipe(self, small):
        """Each run is a power law, so the mean is; the amplitudes scatter, the slope does not."""
        for reading in ("published", "delayed", "error"):
            assert estimate(small[0], "nu", reading, "L2").value == pytest.approx(EXPONENT, abs=1e-6)

    def test_dimension(self, small):
        """It falls by FALL over the last 0.1 and not before: between two records, at most one record's part is lost."""
        for reading, record in (("published", 0.02), ("error", RATE), ("all-inputs", 0.02)):
            found = estimate(small[0], "fall", reading, "L2")
            assert found.value <= FALL + 1e-6
            assert found.value >= FALL * (1 - record / 0.1) - 1e-6
            sharp = estimate(small[0], "sharpness", reading, "L2")
            assert 0.7 * FALL < sharp.value <= FALL + 1e-6
            assert estimate(small[0], "dimension", reading, "L2").value == pytest.approx(3.0)

    def test_times_of_all_runs(self, small):
        """Means cut at τ against the law they were drawn from: 0.3 plus an exponential, or never."""
        for reading in ("all", "error", "all-inputs"):
            found = estimate(small[0], "t_eps_cut", reading, "none")
            exact = 0.1 * 3.0 + 0.9 * (0.3 + 0.6 * (1 - np.exp(-2.7 / 0.6)))
            assert abs(found.value - exact) < 4.5 * found.stderr + RATE
            share = estimate(small[0], "never", reading, "none")
            assert abs(share.value - 0.1) < 4.5 * share.stderr + 0.002  # and a run in 600 that is too late

    def test_training_error_at_fixed_parameters(self, small):
        """It vanishes with the test error in the made-up runs: none is delayed; by the other clock two thirds are."""
        assert estimate(small[0], "not_delayed", "fixed", "L1").value == 1.0
        assert estimate(small[0], "not_delayed", "error", "L1").value == pytest.approx(1 / 3, abs=0.01)
        assert estimate(small[0], "t_G_cut", "fixed", "L1").value == 0.0
        assert np.isnan(estimate(small[0], "t_eps", "fixed", "L1").value)

    def test_selection_is_as_published(self, small):
        data, runs = small
        run = runs[name_of(1, "L1", 10)]
        delay = (run["zero_test_time"] - run["zero_train_time"]).to_numpy()
        kept = np.isfinite(delay) & (delay > -2 * RATE + 1e-9) & (delay + 2 * RATE < 1.0)
        found = estimate(data, "t_G", "published", "L1")
        assert found.value == pytest.approx((delay[kept] + 2 * RATE).mean())
        assert found.stderr == pytest.approx(delay[kept].std(ddof=1) / np.sqrt(kept.sum()))

    def test_a_unit_of_all_inputs_is_as_many_steps(self):
        run = xr.Dataset(
            {name: ("member", [8.0, np.inf]) for name in ("zero_train_time", "zero_test_time", "last_time")}
        )
        found = table._in_published_units(run.assign_coords(time=[4.0, 8.0]))
        assert found["zero_test_time"].values.tolist() == [1.0, np.inf]
        assert found["time"].values.tolist() == [0.5, 1.0]

    def test_records_of_every_epoch_are_thinned(self):
        run = xr.Dataset(coords={"time": np.arange(1, 13) * RATE})
        np.testing.assert_allclose(table._every_fourth_epoch(run)["time"], np.array([4, 8, 12]) * RATE)
        assert table._every_fourth_epoch(run.isel(time=slice(3, None, 4))).sizes["time"] == 3

    def test_first_zero(self):
        errors = np.array([[0.2, 0.0, 0.1, 0.0], [0.3, 0.2, 0.1, 0.1]])
        run = xr.Dataset({"exact_error": (("member", "time", "length"), errors[..., None])}, {"time": [1.0, 2, 3, 4]})
        assert table._first_zero(run).tolist() == [2.0, np.inf]

    def test_refusals_are_kept(self, small):
        outcomes = small[0]["exponent_outcome"].values.ravel().astype(str)
        accepted = outcomes == table.ACCEPTED
        assert np.isfinite(small[0]["exponent"].values.ravel()).tolist() == accepted.tolist()
        assert all(len(text) > 10 for text in outcomes[~accepted])

    def test_survives_the_store(self, small):
        data = small[0]
        for name, values in data.variables.items():
            assert len(values.attrs["long_name"]) > 5, name
        with xr.open_dataset(io.BytesIO(bytes(data.to_netcdf(engine="scipy"))), engine="scipy") as stored:
            assert [row.verdict for row in protocol.compare(stored.load())] == [
                r.verdict for r in protocol.compare(data)
            ]


# --- statements ---


def filled(values, stderr=0.01, readings=READINGS, reaches=(1, 2, 3), bonds=BONDS, count=1000):
    """A table from ``values(statistic, reading, key)``."""
    found = table._Table(readings, reaches, bonds)
    for statistic in table.STATISTICS:
        for reading in readings:
            for key in table._keys(reaches, bonds):
                found.put(statistic, reading, key, Estimate(values(statistic, reading, key), stderr), count)
    return found.dataset()


def as_printed(statistic, reading, key):
    """The paper's numbers in every reading."""
    if statistic in ("t_eps", "t_G", "nu"):
        return legends()[statistic, *key].value
    if statistic == "dimension":
        return legends()[statistic, *key[:2], None].value
    if statistic.endswith("_implied"):
        return legends()[statistic.removesuffix("_implied"), *key].value
    if statistic.endswith("_cut"):
        return legends()[statistic.removesuffix("_cut"), *key].value
    return {"dip": 1e-4, "fall": 1.0, "sharpness": 0.5}.get(statistic, 0.1)


def complete(data):
    """With what else the experiment's dataset holds."""
    shape = tuple(data.sizes[name] for name in ("reach", "regularisation", "bond"))
    dims = ("reach", "regularisation", "bond")
    fits = {f"exponent{end}": (dims, np.full(shape, np.nan)) for end in ("", "_low", "_high")}
    outcome = {"exponent_outcome": (dims, np.full(shape, "too short: 0.3 decades"))}
    return table.with_printed(data).assign(fits | outcome)


def statement(start) -> Statement:
    (found,) = [each for each in STATEMENTS if each.text.startswith(start)]
    return found


class TestStatements:
    def test_printed_numbers(self):
        """The paper's own numbers and its text: they disagree on how t_G depends on the model size."""
        data = table.with_printed(filled(as_printed, stderr=1e-4))
        for start, counts in (
            ("L1 shortens the zero-test", Counts(9, 0, 0)),
            ("L2 shortens the zero-test", Counts(9, 0, 0)),
            ("L1 shortens the grokking", Counts(9, 0, 0)),
            ("regularisation lowers ν", Counts(17, 0, 1)),  # K = 3, d = 10: 1.59 without penalty and with L2
            ("regularisation lowers D_eff", Counts(3, 0, 0)),
            ("with L2, t_G increases", Counts(0, 2, 0)),
        ):
            assert judge(data, statement(start), "printed") == counts, start

    def test_three_standard_errors_decide(self):
        for step, verdict in ((2.9, "open"), (3.1, "holds"), (-3.1, "reversed")):
            data = filled(lambda statistic, reading, key, step=step: 1 + step * 0.01 * 2**0.5 * (key[1] == "none"))
            assert judge(data, statement("L1 shortens the zero-test"), "all").verdict == verdict

    def test_false_alarms(self):
        """Means of 100 exponential times without a difference: 2.7e-3 of the pairs are decided.

        Of 9000 pairs 24 ± 5; skewness is the same on both sides.  60 is 7 standard deviations away.
        """
        rng = np.random.default_rng(5)
        decided = 0
        for _ in range(1000):
            draws = rng.exponential(size=(27, 100))
            mean, stderr = draws.mean(axis=1), draws.std(axis=1, ddof=1) / 10
            pairs = (mean[:9] - mean[9:18]) / np.hypot(stderr[:9], stderr[9:18])
            decided += int((np.abs(pairs) > DECISIVE).sum())
        assert 0 < decided < 60

    def test_times_with_censored_runs_are_cut(self):
        """Where there is no plain mean, the cut one is compared."""

        def values(statistic, reading, key):
            if statistic == "t_eps" and reading == "all":
                return np.nan
            return 1.0 + (key[1] == "none") * (0.5 if statistic == "t_eps_cut" else -0.5)

        data = filled(values)
        assert judge(data, statement("L1 shortens the zero-test"), "all") == Counts(9, 0, 0)
        assert judge(data, statement("L1 shortens the zero-test"), "published") == Counts(0, 9, 0)

    def test_bimodality(self):
        data = filled(lambda statistic, reading, key: 1e-4 if key[2] == 20 else 0.5, reaches=(1, 2))
        assert judge(data, statement("t_G is bimodal"), "published") == Counts(2, 0, 2)

    def test_not_measured_is_not_counted(self):
        data = filled(lambda statistic, reading, key: np.nan if key[2] == 40 else 1.0, reaches=(1,))
        assert judge(data, statement("L1 shortens the zero-test"), "all").tests == 2
        assert judge_all(filled(as_printed, reaches=(1,)), statement("t_G increases with the range")) == {}

    def test_fate(self):
        yes, no, part, unclear = Counts(5, 0, 1), Counts(0, 5, 1), Counts(3, 2, 0), Counts(1, 0, 4)
        assert fate({"printed": no, "published": yes, "all": yes}) == "survives"
        assert fate({"published": yes, "all": yes, "fixed": part}) == "depends on the choices"
        assert fate({"published": part}) == "holds in part"
        assert fate({"published": unclear, "all": yes}) == UNDECIDED
        assert fate({"all": yes}) == "was not tested"

    def test_words_follow_the_numbers(self):
        """The same page from the paper's numbers and from their negatives: every fate turns round."""
        good = complete(filled(as_printed, stderr=1e-4))
        bad = complete(filled(lambda *which: -as_printed(*which), stderr=1e-4))
        claim = "“L1 shortens the zero-test time t_ε” (Figs. 23, 27)"
        assert any(text.startswith(f"{claim} survives") for text in protocol.findings(good))
        assert any(text.startswith(f"{claim} is not what we find") for text in protocol.findings(bad))

        def hidden(statistic, reading, key):
            return (-1 if reading == "fixed" else 1) * as_printed(statistic, reading, key)

        (text,) = [
            text for text in protocol.findings(complete(filled(hidden, stderr=1e-4))) if "L1 shortens the g" in text
        ]
        assert "depends on the choices" in text
        assert "training error at fixed parameters: 0 of 9, reversed in 9" in text


# --- printed values ---


class TestMatches:
    def test_all_ninety(self):
        data = complete(filled(as_printed))
        found = matches(data)
        assert len(found) == 90
        assert {match.row.verdict for match in found} == {"agrees"}
        assert "90 are compared here and 90 agree" in protocol.findings(data)[0]
        assert len({row.quantity for row in protocol.compare(data)}) == len(protocol.compare(data))

    @pytest.mark.parametrize(("away", "agrees"), [(4.4, True), (4.6, False)])
    def test_both_standard_errors_count(self, away, agrees):
        """1000 of our runs, 1058 published: the standard error of the difference is √(1 + 1000/1058) of ours."""
        both = 0.01 * np.sqrt(1 + 1000 / 1058)

        def values(statistic, reading, key):
            return as_printed(statistic, reading, key) + away * both * (key == (1, "none", 10) and statistic == "nu")

        (found,) = [match for match in matches(filled(values)) if match.name == "ν, K=1, none, d=10"]
        assert found.ours.stderr == pytest.approx(both)
        # half of the last printed digit is allowed besides
        assert (abs(found.ours.value - found.printed.value) - found.printed.error < 4.5 * both) == found.row.agrees
        assert found.row.agrees == (agrees or away * both < 4.5 * both + found.printed.error)

    def test_smallest_dimension_needs_all_bonds(self):
        assert {m.quantity for m in matches(filled(as_printed, bonds=(10, 20)))} == {"t_eps", "t_G", "nu"}
        (found,) = [
            m for m in matches(filled(as_printed, reaches=(1,))) if m.name.startswith("smallest D_eff, K=1, L1")
        ]
        # a mean of three values with equal errors; 4303 runs were published
        assert found.ours.stderr == pytest.approx(
            0.01 / 3 * np.sqrt(sum(1 + 1000 / count for count in (1759, 1307, 1237)))
        )

    def test_a_printed_mean_that_is_not_of_its_histogram(self):
        def values(statistic, reading, key):
            shift = 0.2 if statistic in ("t_eps", "t_eps_implied") else 0.0
            return as_printed(statistic, reading, key) - shift

        found = [m.row for m in matches(filled(values)) if m.quantity == "t_eps"]
        assert {row.verdict for row in found} == {"erratum"}


# --- the whole ---


class TestWhole:
    def test_is_what_it_says(self):
        experiment = protocol.EXPERIMENT
        assert experiment.name == "protocol"
        assert experiment.ensembles is table.ensembles
        assert experiment.summary.endswith(".")

    def test_choices(self, small):
        rows = {row.quantity: row for row in protocol.compare(small[0])}
        assert len(rows) == len(protocol.compare(small[0]))
        row = rows["do the choices matter? t_G, K=1, L1, d=10"]
        assert row.verdict == "differs"  # at fixed parameters nothing is delayed
        assert "training error at fixed parameters" in row.why
        for found in rows.values():
            for text in (found.quantity, found.published, found.computed, found.uncertainty, found.why):
                assert text == text.strip() != ""
                assert not re.search(r"\bnan\b", text)

    def test_page(self, small):
        said = protocol.findings(small[0])
        assert [text for text in said if not text.endswith((".", ".)")) or re.search(r"\bnan\b", text)] == []
        assert any("L1 shortens the zero-test time t_ε” (Figs. 23, 27) survives" in text for text in said)
        assert any(text.startswith("All inputs in every step: without penalty") for text in said)

    def test_report_shows_the_page(self, small):
        picture = svg_of(protocol.draw(small[0]))
        assert 5_000 < len(picture) < 400_000
        section = Section(protocol.EXPERIMENT, picture, None, protocol.compare(small[0]), 1.0, ["a < b."])
        page = render([section], scale="quick", seed=0, version="0")
        assert '<ul class="findings"><li>a &lt; b.</li></ul>' in page
        assert '<ul class="findings">' not in render(
            [Section(protocol.EXPERIMENT, picture, None, [], 1.0)], scale="quick", seed=0, version="0"
        )

    def test_picture_of_other_reaches(self):
        svg_of(protocol.draw(complete(filled(as_printed, readings=READINGS[:3], reaches=(2, 3), bonds=(20,)))))


@pytest.mark.slow
def test_on_real_runs():
    """A few real students, stopped early: everything goes through, whoever gets there."""
    import grokphase as gp

    ensembles = table.ensembles("quick", 0, members=4, bonds="3")
    runs = {
        name: gp.simulate(ensemble.scenario.replace(duration=0.4, observe=0.1)) for name, ensemble in ensembles.items()
    }
    data = protocol.compute("quick", np.random.default_rng(0), lambda fraction: None, runs, bonds="3")
    assert not matches(data)
    assert protocol.findings(data)
    with style():
        protocol.draw(data)
    never = data["value"].sel(statistic="never", reading="all")
    assert np.isfinite(never).all()
