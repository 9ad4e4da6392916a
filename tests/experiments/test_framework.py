"""Rules by which a number agrees, and the helpers all experiments share."""

import numpy as np
import pytest

from grokphase.experiments import NAMES, Comparison, Scale, load
from grokphase.experiments._framework import (
    compare_curve,
    compare_number,
    compare_simulation,
    generator_for,
    line_reading_error,
    number_of_draws,
    published_curves,
    variable,
)
from grokphase.experiments._style import panels, published_panels


def test_unknown_experiment_is_named_with_all_others() -> None:
    with pytest.raises(ValueError, match="'fig99'") as error:
        load("fig99")
    assert all(name in str(error.value) for name in NAMES)


@pytest.mark.parametrize(
    ("agrees", "erratum", "verdict"),
    [(True, False, "agrees"), (True, True, "agrees"), (False, True, "erratum"), (False, False, "differs")],
)
def test_verdict(agrees: bool, erratum: bool, verdict: str) -> None:
    assert Comparison("q", "1", "1", "0", agrees, "because", erratum).verdict == verdict


@pytest.mark.parametrize(("computed", "agrees"), [(1.0189, True), (1.0191, False), (0.9811, True), (0.9809, False)])
def test_number_agrees_within_reading_and_standard_errors(computed: float, agrees: bool) -> None:
    row = compare_number("q", 1.0, computed, reading_error=0.01, stderr=0.002, why="because")
    assert row.agrees is agrees  # 0.01 + 4.5 · 0.002 = 0.019
    assert row.uncertainty == "reading 0.01, s.e. 0.002"


def test_exact_number_must_be_equal() -> None:
    assert compare_number("q", 2.0, 2.0, why="because").agrees
    row = compare_number("q", 2.0, 2.0 + 1e-12, why="because")
    assert not row.agrees
    assert row.uncertainty == "exact"


@pytest.mark.parametrize(("simulated", "agrees"), [(1.0044, True), (1.0046, False)])
def test_simulation_agrees_within_standard_errors(simulated: float, agrees: bool) -> None:
    assert compare_simulation("q", 1.0, simulated, stderr=0.001, why="because").agrees is agrees


def test_curve_agrees_only_if_every_point_does() -> None:
    published, x = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])
    good = compare_curve("q", published, published + 0.9e-3, reading_error=1e-3, x=x, why="because")
    assert good.agrees
    bad = compare_curve("q", published, published + np.array([0, 0, 2e-3]), reading_error=1e-3, x=x, why="because")
    assert not bad.agrees
    assert "0.002 at 30" in bad.computed
    assert "67% of points inside" in bad.uncertainty
    # a point with a larger error of its own may be off by more
    own = compare_curve("q", published, published + np.array([0, 0, 2e-3]), reading_error=[0, 0, 3e-3], why="because")
    assert own.agrees


def test_steep_lines_are_read_less_well() -> None:
    x = np.linspace(0, 2, 5)
    panel = {"flat": (x, np.zeros(5)), "steep": (x, 3 * x)}
    # 1e-4 of the height 6 and of the width 2
    np.testing.assert_allclose(line_reading_error(panel, x, np.zeros(5)), 6e-4)
    np.testing.assert_allclose(line_reading_error(panel, x, 3 * x), 6e-4 + 3 * 2e-4)


def test_generators_depend_on_name_and_seed_alone() -> None:
    first, again = (generator_for("fig04", 3).random(4) for _ in range(2))
    assert (first == again).all()
    assert not np.isclose(first, generator_for("fig05", 3).random(4)).any()
    assert not np.isclose(first, generator_for("fig04", 4).random(4)).any()


def test_number_of_draws() -> None:
    by_scale: dict[Scale, int] = {"quick": 10, "paper": 1000}
    assert number_of_draws("paper", 0, by_scale) == 1000
    assert number_of_draws("paper", 7, by_scale) == 7
    with pytest.raises(ValueError, match="draws"):
        number_of_draws("quick", -2, by_scale)
    with pytest.raises(ValueError, match="scale"):
        number_of_draws("slow", 0, by_scale)  # type: ignore[arg-type]


def test_variable_explains_itself() -> None:
    dims, values, attributes = variable("time", [0, 1], "time of the flow", "t")
    assert dims == "time"
    assert values.tolist() == [0, 1]
    assert attributes == {"long_name": "time of the flow", "symbol": "t", "units": "1"}


def test_published_curves_keep_the_order_of_the_file() -> None:
    curves = published_curves("fig05")
    assert list(curves) == ["eps_lambda=0.4", "eps_lambda=0.04", "eps_lambda=0.004"]
    time, density = curves["eps_lambda=0.4"]["N=2"]
    assert time.shape == density.shape == (41,)
    assert (np.diff(time) > 0).all()


def test_drawing_leaves_the_users_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    curves = {"one": {"lambda2=0.1": (np.arange(3.0), np.arange(1.0, 4.0))}}
    figure, axes = published_panels(
        curves, titles={"one": "title"}, xlabel="x", ylabel="y", log=["one"], own_legends=True
    )
    legend = axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == r"$\lambda_2$ = 0.1"
    assert axes[0].get_yscale() == "log"
    assert figure.get_size_inches()[0] == 3.5
    assert len(panels(2, 3)[1]) == 6
    assert dict(mpl.rcParams) == before
