"""Every experiment of the solvable models at toy size, and what its verdicts rest on.

Simulated numbers are allowed 4.5 standard errors: false-alarm rate 7e-6 each, and there are about 60 of them here, all
with a fixed seed.
"""

import hashlib
import io
import re
from collections.abc import Callable
from functools import cache
from importlib import resources

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from grokphase import BallModel, ExponentialModel, published
from grokphase.experiments import NAMES, Comparison, Experiment, claims, fig03, fig05, fig07, fig08, fig09, load
from grokphase.experiments._framework import (
    compare_curve,
    generator_for,
    line_reading_error,
    published_curves,
    published_rows,
)
from grokphase.experiments._style import style

TOY = {"fig03": None, "fig04": 300, "fig05": 100, "fig07": 6, "fig08": 400, "fig09": 6, "claims": 40}
LARGEST_SVG = 250_000  # bytes; the report embeds two pictures an experiment


def toy_run(name: str, seed: int) -> tuple[xr.Dataset, list[float]]:
    experiment = load(name)
    fractions: list[float] = []
    draws = TOY[name]
    options = {} if draws is None else {"draws": draws}
    return experiment.compute("quick", generator_for(name, seed), fractions.append, **options), fractions


@cache
def toy(name: str) -> xr.Dataset:
    return toy_run(name, 0)[0]


@cache
def toy_rows(name: str) -> dict[str, Comparison]:
    return {row.quantity: row for row in load(name).compare(toy(name))}


@pytest.fixture(params=TOY)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def experiment(name: str) -> Experiment:
    return load(name)


class TestEveryExperiment:
    def test_is_listed(self, name: str, experiment: Experiment) -> None:
        assert name in NAMES
        assert experiment.name == name
        assert len(experiment.title) < 60
        assert experiment.summary.endswith(".")

    def test_same_seed_same_numbers(self, name: str) -> None:
        again, fractions = toy_run(name, 0)
        xr.testing.assert_identical(again, toy(name))
        assert fractions[-1] == pytest.approx(1.0)
        assert (np.diff(fractions) >= 0).all()

    def test_seed_matters_where_something_is_drawn(self, name: str) -> None:
        other, _ = toy_run(name, 1)
        assert other.identical(toy(name)) == (TOY[name] is None)

    def test_dataset_explains_itself(self, name: str) -> None:
        data = toy(name)
        for key, variable in data.variables.items():
            if variable.dtype.kind == "U":  # names of panels and the like
                continue
            assert np.isfinite(variable.values).all(), key
            assert len(variable.attrs["long_name"]) > 5, key
            assert variable.attrs["units"], key

    def test_dataset_survives_the_store(self, name: str) -> None:
        stored = bytes(toy(name).to_netcdf(engine="scipy"))
        with xr.open_dataset(io.BytesIO(stored), engine="scipy") as data:
            xr.testing.assert_equal(data.load(), toy(name))

    def test_draws_small_pictures(self, experiment: Experiment, name: str) -> None:
        makers: list[Callable[[], Figure]] = [lambda: experiment.draw(toy(name))]
        if experiment.draw_published is not None:
            makers.append(experiment.draw_published)
        for make in makers:
            figure = make()
            buffer = io.BytesIO()
            with style():
                figure.savefig(buffer, format="svg")
            assert 5_000 < buffer.tell() < LARGEST_SVG

    def test_comparisons_are_readable(self, name: str) -> None:
        rows = list(load(name).compare(toy(name)))
        assert rows
        assert len({row.quantity for row in rows}) == len(rows)
        for row in rows:
            assert type(row.agrees) is bool
            assert row.verdict in ("agrees", "erratum", "differs")
            for text in (row.quantity, row.published, row.computed, row.uncertainty, row.why):
                assert text == text.strip()
                assert text
                assert not re.search(r"\bnan\b", text)
            assert len(row.why) > 20

    def test_needs_a_known_scale(self, name: str, experiment: Experiment) -> None:
        if TOY[name] is not None:
            with pytest.raises(ValueError, match="scale"):
                experiment.compute("huge", np.random.default_rng(0), lambda fraction: None)
            with pytest.raises(ValueError, match="draws"):
                experiment.compute("quick", np.random.default_rng(0), lambda fraction: None, draws=-1)


class TestVerdicts:
    """Formula against published curve needs no draws, so these must hold at any size."""

    def verdicts(self, name: str, start: str) -> list[str]:
        found = [row.verdict for quantity, row in toy_rows(name).items() if quantity.startswith(start)]
        assert found
        return found

    @pytest.mark.parametrize(
        ("name", "start", "count"),
        [
            ("fig03", "test error against time", 2),
            ("fig03", "grokking time", 2),
            ("fig04", "P_G at", 9),
            ("fig05", "density of t_G", 9),
            ("fig05", "mean t_G", 9),
            ("fig09", "vary_", 3),
            ("fig09", "positions of the nine bars", 1),
            ("fig09", "heights of the nine bars", 1),
            ("claims", "exponent of the test error", 3),
        ],
    )
    def test_agree(self, name: str, start: str, count: int) -> None:
        assert self.verdicts(name, start) == ["agrees"] * count

    def test_figure_8_was_drawn_with_its_formula(self) -> None:
        rows = [row for quantity, row in toy_rows("fig08").items() if quantity.endswith("curve against its formula")]
        assert [row.verdict for row in rows] == ["agrees"] * 12

    @pytest.mark.parametrize(
        ("name", "start"),
        [
            ("fig03", "zero-test time for the text's"),
            ("fig08", "P_vs_D: the series labelled N = 20"),
            ("fig08", "P_vs_eps: published curves against drawn"),
            ("fig08", "Eq. 86 to the letter"),
            ("fig09", "position of the atom"),
            ("fig09", "weight of the atom"),
            ("fig09", "weight of t_G > 0"),
            ("fig09", "position of the bar coloured as λ₂ = 0"),
            ("claims", "with L1 the best lower bound always exceeds 0.915: N = 1"),
            ("claims", "Eq. 34 gives an upper bound"),
            ("claims", "without L1 the probability is exponentially small in D: N = 10, ε = 1.05"),
            ("claims", "position of the Dirac part"),
        ],
    )
    def test_paper_corrected(self, name: str, start: str) -> None:
        assert set(self.verdicts(name, start)) == {"erratum"}

    @pytest.mark.parametrize("size", [2, 3])
    def test_bound_holds_from_two_samples_on(self, size: int) -> None:
        assert self.verdicts("claims", f"with L1 the best lower bound always exceeds 0.915: N = {size}") == ["agrees"]

    def test_without_l1_small_gaps_do_fail_in_many_dimensions(self) -> None:
        start = "without L1 the probability is exponentially small in D: N = 10, ε = 1.01"
        assert self.verdicts("claims", start) == ["agrees"]

    def test_a_slightly_wrong_law_is_found_out(self) -> None:
        """Control: each published curve of Fig. 5 against the exact law of one sample more must differ."""
        for panel, curves in published_curves("fig05").items():
            for series, (time, density) in curves.items():
                time = np.maximum(time, 0.0)
                model = ExponentialModel(class_gap=float(panel.removeprefix("eps_lambda=")))
                wrong = model.grokking_time(int(series.removeprefix("N=")) + 1).pdf(time)
                error = line_reading_error(curves, time, wrong)
                assert not compare_curve("", density, wrong, reading_error=error, why="").agrees


class TestFigure3:
    @pytest.mark.parametrize("panel", fig03.INITIAL)
    def test_training_set_has_the_mean_that_fits(self, panel: str) -> None:
        inputs, labels = fig03._training_set(panel)
        assert inputs.shape == (20,)
        assert (inputs * labels > 1).all()  # outside the gap, on its own side
        np.testing.assert_allclose(inputs.mean(), fig03.MEAN, rtol=1e-12)  # rounding

    def test_shift_is_five(self) -> None:
        """The paper says so; each step is read to 0.0032 in t, which is some 0.1 in the sample it stands for."""
        typical, shifted = (np.sort(fig03._training_set(panel)[0][:10]) for panel in fig03.INITIAL)
        np.testing.assert_allclose(shifted - typical, 5.0, atol=0.1)


class TestFigure5:
    def test_simulated_runs_are_complete(self) -> None:
        times = fig05._simulate(ExponentialModel(class_gap=0.04), 2, 57, np.random.default_rng(0))
        assert times.shape == (57,)
        assert (times > 0).all()


class TestFigure7:
    def test_last_time_above_a_level(self) -> None:
        time, error = np.array([0.0, 1.0, 2.0, 3.0]), np.array([[1.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
        assert fig07._last_above(time, error, 0.1).tolist() == [2.0, 0.0]

    def test_shifted_sets_lie_towards_the_other_class(self) -> None:
        inputs, labels = fig07._training_sets("shifted", 3, np.random.default_rng(0))
        centre = np.zeros(128)
        centre[0] = 1.2
        distance = np.linalg.norm(inputs - labels[..., None] * centre, axis=-1)
        assert ((distance > np.sqrt(0.8)) & (distance < 1)).all()
        toward = (inputs * labels[..., None])[..., 0]
        assert (toward > 0).all()  # still on its own side ...
        assert (toward < 1.2).all()  # ... but nearer than the centre


class TestFigure8:
    def test_drawn_formula_is_the_corrected_one_where_both_hold(self) -> None:
        """With α₃ as corrected and Eq. 84's variance the formula is the library's; ε = 1 makes the two α₃ equal."""
        gap = np.array([1.0 + 1e-9])
        for dimension in (2, 5, 20):
            law = BallModel(dimension=dimension, class_gap=gap, l2=3.0).grokking_probability(10**6)
            drawn = fig08.as_drawn(dimension=dimension, class_gap=gap, l2=3.0, samples_per_class=10**6)
            # at N = 10⁶ w₁ fluctuates by some 1e-4 of its mean, which enters squared, times D²/2
            np.testing.assert_allclose(drawn, law, rtol=1e-4)

    def test_sum_over_w1_is_converged(self) -> None:
        """Against Monte Carlo of the formula's own two Gaussians, 10⁶ draws, 4.5 standard errors."""
        dim, eps, l2, num = 5, 1.05, 0.1, 10
        ridge = l2 + 1 / 7
        total = ridge + eps**2
        spread = 1 / (2 * num * 7)
        along = np.sqrt(2) * spread * ((1 / total - 2 * eps**2 / total**2) ** 2 + 12 / 63 * (eps / total**2) ** 2)
        across = spread * ((1 / ridge - eps / (ridge * total)) ** 2 + (eps / (ridge * total)) ** 2 / 9)
        rng = np.random.default_rng(4)
        w1 = eps / total + np.sqrt(along) * rng.standard_normal(10**6)
        square = across * rng.chisquare(dim - 1, 10**6)
        found = ((w1 > 0) & (square <= (eps**2 - 1) * w1**2)).mean()
        exact = float(fig08.as_drawn(dimension=dim, class_gap=eps, l2=l2, samples_per_class=num))
        assert abs(found - exact) < 4.5 * np.sqrt(exact * (1 - exact) / 10**6)

    def test_corrected_law_does_not_meet_the_published_lines(self) -> None:
        """Control for the twelve agreements: the right coefficient gives other curves."""
        for label, dimension in fig08.DIMENSIONS.items():
            gap, drawn = published_curves("fig08")["P_vs_eps"][label]
            gap = np.maximum(gap, 1.0)
            law = BallModel(dimension=dimension, class_gap=gap, l2=0.1).grokking_probability(10)
            assert np.abs(law - drawn).max() > 0.04

    def test_failures_are_named(self) -> None:
        panel = fig08.PANELS[3]
        data = toy("fig08").copy(deep=True)
        name = panel.published
        data[f"{name}_stderr"][:] = 1e-4
        data[f"{name}_fraction"][:] = data[f"{name}_law_there"]
        assert fig08._law_against_truth(panel, data).agrees
        data[f"{name}_fraction"][1, 3:5] += 0.1
        row = fig08._law_against_truth(panel, data)
        assert row.verdict == "differs"
        assert "D = 10, ε = 1.03 to 1.04" in row.why


class TestFigure9:
    def test_median_error_of_a_uniform_sample(self) -> None:
        """Standard error of the median of n uniform numbers: 1/(2√n); the spacing of quantiles adds some 20 %."""
        times = np.random.default_rng(1).random(10_000)
        assert fig09._median_stderr(times) == pytest.approx(0.005, rel=0.2)

    def test_idealised_condition_comes_first(self) -> None:
        """Eq. 37 is weaker than zero test error, so no idealised time is negative, and none is NaN."""
        real, idealised = fig09._simulate(fig09.BASE, 20, 40, np.random.default_rng(2))
        assert (real >= 0).all()
        assert (idealised >= 0).all()

    def test_law_meets_idealised_flows_and_the_printed_one_does_not(self) -> None:
        rng = np.random.default_rng(3)
        data = toy("fig09").copy(deep=True)
        size = fig09.SIZES[-1]
        for case, model in enumerate(fig09.MODELS):
            _, judged = fig09._simulate(model, size, 40, rng)
            data["idealised_median"].loc[{"samples_per_class": size}][case] = np.median(judged)
            data["idealised_median_stderr"].loc[{"samples_per_class": size}][case] = fig09._median_stderr(judged)
        assert fig09._law_against_idealised(data).agrees
        data["law_median"][:] = [published.slow_time(model, corrected=False) for model in fig09.MODELS]
        assert not fig09._law_against_idealised(data).agrees

    def test_all_published_bars_have_a_model(self) -> None:
        assert set(fig09._published_bars()) == {(name, key) for name, p in fig09.PANELS.items() for key in p.series}


class TestClaims:
    def test_best_bound(self) -> None:
        """Against a grid over λ₁, whose spacing misses the flat top by less than 1e-6."""
        l1 = np.linspace(0, 1, 4001)
        for dimension, size in ((2, 1), (5, 3)):
            grid = BallModel(dimension=dimension, class_gap=1.0, l1=l1).grokking_probability(size, "lower-bound").max()
            assert claims._best_bound(dimension, size) == pytest.approx(grid, abs=1e-6)
        assert claims._best_bound(2, 1) == pytest.approx(0.79355, abs=1e-5)

    def test_real_time_is_never_below_eq_34(self) -> None:
        for size in (5, 50):
            real, bound = claims._both_times(size, 20, np.random.default_rng(size))
            assert (real >= bound - 1e-9).all()
            assert (real > bound + 1e-3).any()

    def test_depth_is_one_minus_h(self) -> None:
        model = BallModel(dimension=3, class_gap=2.0)
        weights = np.array([[1.0, 1.0, 0.5], [1.0, 1.7, 0.2]])
        h = 2.0 * weights[:, 0] / np.linalg.norm(weights, axis=1)
        np.testing.assert_allclose(claims._depth(model, weights), 1 - h, rtol=1e-13)  # rounding of 1 − h

    def test_a_slope_off_by_a_thousandth_is_seen(self) -> None:
        assert claims._slope(claims.FIT**2.5) == pytest.approx(2.5, abs=1e-9)
        data = toy("claims").copy(deep=True)
        data["measured"][3] += 1.1 * claims.EXPONENT_TOLERANCE
        assert [row.verdict for row in claims._on_exponents(data)] == ["agrees", "differs", "agrees"]


DIGESTS = {
    "fig03": "e4896aebccd62cba",
    "fig04": "5df85945db2100f3",
    "fig05": "43d0d5727f9c0e82",
    "fig07": "7dcba73d4bbc00f3",
    "fig08": "90a7ca6ab7742370",
    "fig09": "7660c9af1972f6b5",
    "fig09_bars": "1d2a8b9648217b01",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_published_values_are_as_read(name: str) -> None:
    """Nobody edits published numbers by accident."""
    content = resources.files("grokphase.experiments").joinpath("reference", f"{name}.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(DIGESTS[name])
    assert len(published_rows(name)) > 5
