"""Figs. 23, 26, 27: which runs the published histograms hold, all runs with censoring, and the verdicts.

Made-up runs have known laws.  Statistical tests have a fixed seed; deviations are allowed 4.5 standard errors
(false-alarm rate 7e-6 each), Kolmogorov-Smirnov distances and dip tests have the stated 1e-3.
"""

import hashlib
import io
from importlib import resources

import numpy as np
import pytest
import xarray as xr

from grokphase import Scenario
from grokphase.experiments import _time_distributions as distributions
from grokphase.experiments import fig23, fig26, fig27
from grokphase.experiments._aligned import RATE, Estimate
from grokphase.experiments._ensembles import BONDS, REGULARISATIONS, name_of, published
from grokphase.experiments._framework import Experiment, published_rows
from grokphase.experiments._legends import Legend, figure_of, legend, legends, published_count
from grokphase.experiments._published_times import Row, compare_mean, distance, implied_mean, published_histogram
from grokphase.experiments._style import style
from grokphase.experiments._times import LATEST_GROKKING, latest, mean_of, restricted_mean, share_of, times_of

EXPERIMENTS = {"fig23": fig23.EXPERIMENT, "fig26": fig26.EXPERIMENT, "fig27": fig27.EXPERIMENT}
CELLS = [(reach, penalty, bond) for reach in (1, 2, 3) for penalty in REGULARISATIONS for bond in BONDS]


def made_up(test, train, penalty="none", bond=10, end=None):
    """A run with given zero times (infinite: never), ended at ``end`` where zero test error was not reached."""
    l1, l2 = REGULARISATIONS[penalty]
    scenario = Scenario(30, bond, l1=l1, l2=l2, members=len(test))
    test, train = (np.asarray(times, float) for times in (test, train))
    last = np.where(np.isfinite(test), test + scenario.observe, scenario.duration if end is None else end)
    return xr.Dataset(
        {
            "zero_test_time": ("member", test),
            "zero_train_time": ("member", train),
            "last_time": ("member", last),
        },
        attrs={"scenario": scenario.to_text()},
    )


def on_epochs(times):
    """The first epoch's end that is not before a time."""
    return np.ceil(np.asarray(times) / RATE - 1e-9) * RATE


def drawn(histogram, size, rng):
    """Times with the law of a published histogram, even within bins."""
    number = rng.choice(histogram.counts.size, size=size, p=histogram.counts / histogram.runs)
    return on_epochs(histogram.edges[number] + rng.random(size) * np.diff(histogram.edges)[number] - RATE)


class TestTimes:
    def test_of_six_runs(self):
        run = made_up(
            test=[0.100, 0.100, 0.100, np.inf, 0.100, np.inf], train=[0.100, 0.105, 0.050, 0.050, np.inf, np.inf]
        )
        times = times_of(run)
        assert times.never.tolist() == [False, False, False, True, False, True]
        assert times.not_delayed.tolist() == [True, True, False, False, True, False]
        assert times.test.low[3] == 10.0  # no penalty: followed to there
        np.testing.assert_allclose(times.grokking.low[3], 9.95)
        # The published clock of the training error is two epochs ahead: t_G of 0, −1, 10 epochs are 2, 1, 12.
        found = times.as_published("t_G", 1, "none")
        np.testing.assert_allclose(found / RATE, [2, 1, 12])
        np.testing.assert_allclose(times.delayed("t_G", 1, "none") / RATE, [10])
        np.testing.assert_allclose(times.as_published("t_eps", 1, "none"), [0.1, 0.1, 0.1])

    def test_two_epochs_too_early_is_not_published(self):
        times = times_of(made_up(test=[0.1, 0.1], train=[0.11, 0.115]))
        assert not times.as_published("t_G", 1, "none").size

    def test_each_quantity_has_its_own_cut(self):
        times = times_of(made_up(test=[1.2, 2.9, 3.5], train=[0.1, 2.8, 3.4], penalty="L1"))
        np.testing.assert_allclose(times.as_published("t_G", 1, "L1"), [0.11, 0.11])
        np.testing.assert_allclose(times.as_published("t_eps", 1, "L1"), [1.2, 2.9])

    def test_another_training_error_may_be_used(self):
        run = made_up(test=[0.1, 0.1], train=[0.2, 0.2])
        assert times_of(run).not_delayed.all()
        assert times_of(run, np.array([0.05, np.inf])).not_delayed.tolist() == [False, True]

    def test_share(self):
        found = share_of(np.arange(100) < 30)
        assert found.value == 0.3
        assert found.stderr == pytest.approx(np.sqrt(0.3 * 0.7 / 100))
        assert 0 < share_of(np.zeros(100, bool)).stderr < 0.02

    def test_restricted_mean_of_a_known_law(self):
        """Delays of an exponential law, mean 1, observed up to a time of 3 after a training time within 1."""
        rng = np.random.default_rng(0)
        train = on_epochs(rng.random(4000))
        test = on_epochs(train + rng.exponential(size=4000))
        late = test > 3.0
        times = times_of(made_up(np.where(late, np.inf, test), train, penalty="L1"))
        found = restricted_mean(times.grokking, 2.0)
        # rounding up to an epoch adds half of one; twice that is allowed
        assert abs(found.value - (1 - np.exp(-2.0))) < 4.5 * found.stderr + RATE
        reached = np.minimum(times.grokking.value[times.grokking.reached], 2.0)  # control: leaving them out
        assert abs(reached.mean() - (1 - np.exp(-2.0))) > 4.5 * mean_of(reached).stderr + RATE

    def test_nothing_is_made_up(self):
        nobody = times_of(made_up([np.inf] * 3, [np.inf] * 3))
        assert np.isnan(restricted_mean(nobody.grokking, 1.0).value)
        assert nobody.survival("t_G") is None
        assert nobody.modes("published", 1, "none", np.random.default_rng(0)) is None
        assert restricted_mean(nobody.test, 1.0) == Estimate(1.0, 0.0)  # all are known to be later

    def test_grid_of_epochs_is_not_many_modes(self):
        rng = np.random.default_rng(1)
        train = np.full(2000, 0.5)
        one = times_of(made_up(train + on_epochs(rng.exponential(0.03, 2000)), train))
        assert one.modes("published", 1, "none", rng).p_value > 1e-3
        two = times_of(made_up(train + on_epochs(rng.normal(np.where(rng.random(2000) < 0.7, 0.3, 1.2), 0.05)), train))
        assert two.modes("published", 1, "none", rng).p_value < 1e-3


class TestPublished:
    @pytest.mark.parametrize("quantity", ["t_G", "t_eps"])
    def test_histograms_hold_the_counted_runs(self, quantity):
        """Two readings of the figures: bins here, totals and ranges in another file."""
        ends = {}
        for row in published_rows("run_counts"):
            penalty = {v: k for k, v in REGULARISATIONS.items()}[float(row["lambda1"]), float(row["lambda2"])]
            ends[row["quantity"], int(row["rule_K"]), penalty, int(row["d"])] = (
                float(row["smallest_value"]),
                float(row["largest_value"]),
            )
        for reach, penalty, bond in CELLS:
            histogram = published_histogram(Row(reach, quantity), penalty, bond)
            assert histogram.runs == published_count(quantity, reach, penalty, bond)
            assert (histogram.edges[0], histogram.edges[-1]) == ends[quantity, reach, penalty, bond]
            assert histogram.edges[-1] < latest(quantity, reach, penalty)

    def test_every_printed_value_is_found_and_rounds_to_what_is_printed(self):
        assert len(legends()) == 90
        for (quantity, reach, _, _), found in legends().items():
            digits = len(found.printed.partition(".")[2])
            assert abs(found.value - float(found.printed)) <= 0.5 * 10**-digits * (1 + 1e-9)
            assert figure_of(quantity, reach).startswith("fig")
        assert legend("t_G", 3, "L2", 20).printed == "0.85"
        assert published_count("dimension", 1, "L1", None) == 1759 + 1307 + 1237

    def test_cuts_are_round(self):
        assert set(LATEST_GROKKING.values()) == {0.5, 1.0, 3.0, 5.0, 6.0, 10.0, 15.0}

    @pytest.mark.parametrize(
        ("name", "digest"),
        [("fig23", "b542f4de4a05bb50"), ("fig26", "6f656003170486f7"), ("fig27", "adb3e07ed013849d")],
    )
    def test_values_are_as_read(self, name, digest):
        content = resources.files("grokphase.experiments").joinpath("reference", f"{name}.csv").read_bytes()
        assert hashlib.sha256(content).hexdigest().startswith(digest)


class TestDistance:
    def test_by_counting(self):
        histogram = published_histogram(Row(1, "t_eps"), "L1", 10)
        values = on_epochs(np.random.default_rng(0).exponential(0.4, 300))
        by_hand = max(
            abs((values < edge - 1e-9).mean() - histogram.counts[: place + 1].sum() / histogram.runs)
            for place, edge in enumerate(histogram.edges[1:-1])
        )
        assert distance(values, histogram) == pytest.approx(by_hand)

    def test_own_law_passes_and_another_does_not(self):
        """100 samples at a level of 1e-3: one false alarm has a probability of 0.1, three of 2e-4."""
        histogram, rng = published_histogram(Row(1, "t_eps"), "L2", 20), np.random.default_rng(0)
        allowed = distributions.CRITICAL * np.sqrt(1 / 400 + 1 / histogram.runs)
        assert pytest.approx(1.9495, abs=1e-4) == distributions.CRITICAL  # tables of Kolmogorov's law
        assert sum(distance(drawn(histogram, 400, rng), histogram) > allowed for _ in range(100)) < 3
        assert distance(1.3 * drawn(histogram, 400, rng), histogram) > allowed

    def test_mean_implied_by_a_histogram(self):
        """A sample with the published counts has the implied mean; who is missing counts in the middle of its bin."""
        histogram, rng = published_histogram(Row(1, "t_G"), "L2", 10), np.random.default_rng(0)
        bins = np.repeat(np.arange(histogram.counts.size), histogram.counts.astype(int))
        values = histogram.edges[bins] + 1e-4 + rng.random(bins.size) * (np.diff(histogram.edges)[bins] - 2e-4)
        assert implied_mean(values, histogram) == pytest.approx(values.mean(), rel=1e-12)
        middle = (histogram.edges[1:] + histogram.edges[:-1]) / 2
        assert implied_mean(middle[:1], histogram) == pytest.approx(histogram.counts @ middle / histogram.runs)

    @pytest.mark.parametrize(
        ("ours", "histogram", "verdict"),
        [(0.51, 0.50, "agrees"), (0.40, 0.41, "erratum"), (0.40, 0.52, "differs"), (0.60, 0.60, "differs")],
    )
    def test_verdict_of_a_mean(self, ours, histogram, verdict):
        row = compare_mean("t", Legend(0.5, "0.50", 0.005), Estimate(ours, 0.01), Estimate(histogram, 0.01), "who")
        assert row.verdict == verdict
        assert ("later ones" in row.why) == (histogram == 0.41)


def ensembles_with(law, experiment: Experiment, bonds=BONDS, size=600):
    """Made-up runs for every ensemble of an experiment: times drawn by ``law(row, penalty, bond, size, rng)``."""
    rng, runs = np.random.default_rng(7), {}
    for row in experiment.draw.args[0]:  # the rows of the figure
        for penalty in REGULARISATIONS:
            for bond in bonds:
                times = law(row, penalty, bond, size, rng)
                late = np.full(size, 0.3)
                train = np.maximum(times - late, RATE) if row.quantity == "t_eps" else late
                test = times if row.quantity == "t_eps" else late + times - 2 * RATE
                runs[name_of(row.reach, penalty, bond)] = made_up(test, train, penalty, bond)
    return runs


def as_drawn_in_the_paper(row, penalty, bond, size, rng):
    return drawn(published_histogram(row, penalty, bond), size, rng)


def computed(experiment, runs, **options):
    fractions = []
    data = experiment.compute("paper", np.random.default_rng(0), fractions.append, runs, **options)
    assert fractions[-1] == pytest.approx(1.0)
    assert (np.diff(fractions) > 0).all()
    return data


@pytest.fixture(scope="module")
def figure26():
    return computed(fig26.EXPERIMENT, ensembles_with(as_drawn_in_the_paper, fig26.EXPERIMENT))


class TestExperiments:
    @pytest.mark.parametrize("name", EXPERIMENTS)
    def test_is_what_it_says(self, name):
        experiment = EXPERIMENTS[name]
        assert experiment.name == name
        assert len(experiment.title) < 60
        assert experiment.summary.endswith((".", ".)"))
        reaches = sorted({row.reach for row in experiment.draw.args[0]})
        assert experiment.ensembles("quick", 3) == published("quick", 3, reaches=reaches)

    def test_runs_of_the_published_law_agree(self, figure26):
        """18 distances at a level of 1e-3 each, with only our noise."""
        rows = [row for row in fig26.EXPERIMENT.compare(figure26) if row.quantity.startswith("distribution")]
        assert len(rows) == 18
        assert sum(row.verdict != "agrees" for row in rows) <= 1

    def test_runs_of_another_law_do_not(self):
        def longer(*args):
            return on_epochs(1.5 * as_drawn_in_the_paper(*args))

        found = computed(fig26.EXPERIMENT, ensembles_with(longer, fig26.EXPERIMENT, bonds=(10,)), bonds="10")
        rows = [row for row in fig26.EXPERIMENT.compare(found) if row.quantity.startswith("distribution")]
        assert len(rows) == 6
        assert sum(row.verdict == "differs" for row in rows) >= 4

    def test_modes_are_told(self):
        def humps(row, penalty, bond, size, rng):
            return on_epochs(rng.normal(np.where(rng.random(size) < 0.6, 0.3, 1.2), 0.06))

        def hump(row, penalty, bond, size, rng):
            return on_epochs(rng.gamma(4.0, 0.1, size))

        for law, verdict in ((humps, "agrees"), (hump, "differs")):
            runs = ensembles_with(law, fig26.EXPERIMENT, bonds=(20,))
            rows = fig26.EXPERIMENT.compare(computed(fig26.EXPERIMENT, runs, bonds="20"))
            found = [row for row in rows if row.quantity.startswith("is t_G bimodal")]
            assert [row.verdict for row in found] == [verdict] * 2
        assert "no second mode" in found[0].computed

    def test_who_never_gets_there_is_not_left_out(self):
        rng = np.random.default_rng(3)
        test = np.where(rng.random(500) < 0.4, np.inf, 0.5)
        runs = {name_of(1, penalty, 10): made_up(test, np.full(500, 0.4), penalty) for penalty in REGULARISATIONS}
        data = computed(fig23.EXPERIMENT, runs, bonds="10")
        one = data.sel(row="K=1 t_eps", regularisation="L2", bond=10)
        never = np.isinf(test).mean()
        assert float(one["never"]) == never
        assert float(one["mean"]) == pytest.approx(0.5)
        assert float(one["mean_of_all"]) == pytest.approx(0.5 * (1 - never) + 5 * never)
        assert float(one["survival"][-1]) == pytest.approx(never)
        assert float(one["kept_survival"][-1]) == 0.0

    def test_ensembles_in_which_nobody_gets_there(self):
        never = np.full(20, np.inf)
        runs = {name_of(1, penalty, 10): made_up(never, never, penalty) for penalty in REGULARISATIONS}
        data = computed(fig23.EXPERIMENT, runs, bonds="10")
        assert [row for row in fig23.EXPERIMENT.compare(data) if row.quantity.startswith(("mean t_ε, ", "dist"))] == []
        fig23.EXPERIMENT.draw(data)

    def test_another_bond_has_nothing_to_be_compared_with(self):
        runs = {name_of(1, penalty, 4): made_up([0.5, 0.6], [0.4, 0.4], penalty, 4) for penalty in REGULARISATIONS}
        data = computed(fig23.EXPERIMENT, runs, bonds="4")
        assert not fig23.EXPERIMENT.compare(data)
        fig23.EXPERIMENT.draw(data)

    def test_dataset_explains_itself_and_survives_the_store(self, figure26):
        for name, values in figure26.variables.items():
            assert len(values.attrs["long_name"]) > 5, name
        with xr.open_dataset(io.BytesIO(bytes(figure26.to_netcdf(engine="scipy"))), engine="scipy") as stored:
            xr.testing.assert_equal(stored.load(), figure26)

    def test_rows_are_readable(self, figure26):
        rows = fig26.EXPERIMENT.compare(figure26)
        assert len({row.quantity for row in rows}) == len(rows) == 18 * 2 + 6 + 6
        for row in rows:
            for text in (row.quantity, row.published, row.computed, row.uncertainty, row.why):
                assert text == text.strip() != ""
                assert "nan" not in text

    def test_pictures(self, figure26):
        for figure in (fig26.EXPERIMENT.draw(figure26), fig26.EXPERIMENT.draw_published()):
            buffer = io.BytesIO()
            with style():
                figure.savefig(buffer, format="svg")
            assert 5_000 < buffer.tell() < 500_000
