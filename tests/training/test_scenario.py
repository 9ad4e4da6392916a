"""Scenarios: presets, checks, text files; and that they need no JAX."""

import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario

DESIGN_OPTIONS = {
    "boundary": "fixed",
    "normalise_scores": True,
    "trained_scale": True,
    "lengths": (6, 10),
    "batch": 128,
    "penalise": "all",
    "initial_std": 1.0,
    "initial_scale": 1.0,
    "learning_rate": 0.005,
    "moments": (0.9, 0.999),
    "adam_epsilon": 1e-8,
    "observe": 2.0,  # 400 epochs
    "zero": "domain-size",
    "zero_domain_size": 0.99,
    "test_strings": 1000,
    "test_sites": 1000,
}


def test_published_preset_has_the_options_that_made_the_figures():
    scenario = Scenario(30)
    assert {name: getattr(scenario, name) for name in DESIGN_OPTIONS} == DESIGN_OPTIONS
    assert scenario.steps_per_epoch == 8
    assert [Scenario(30, l1=l1, l2=l2).duration for l1, l2 in ((0, 0), (0, 1e-4), (1e-3, 0))] == [10, 5, 3]
    assert scenario.last_epoch == 2000
    assert scenario.record_epochs[-1] * scenario.learning_rate == pytest.approx(12)


def test_all_inputs_preset():
    scenario = Scenario(30, protocol="all-inputs", l1=0.001)
    assert (scenario.lengths, scenario.batch, scenario.boundary) == ((8, 8), "all", "trained")
    assert scenario.steps_per_epoch == 1
    assert scenario.point_training
    assert scenario.duration == 10


def test_replace_keeps_everything_else():
    scenario = Scenario(110, bond=7, l2=1e-4, seed=3, observe=0.5)
    changed = scenario.replace(lengths=(6, 9), batch=64)
    assert (changed.lengths, changed.batch, changed.bond, changed.observe) == ((6, 9), 64, 7, 0.5)
    assert changed.duration == scenario.duration == 5.0
    assert scenario.lengths == (6, 10)
    assert changed.replace(lengths=(6, 10), batch=128) == scenario
    assert hash(changed.replace(lengths=(6, 10), batch=128)) == hash(scenario)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "other"}, "protocol"),
        ({"bond": 1}, "bond"),
        ({"l1": -1.0}, "l1"),
        ({"members": 0}, "members"),
        ({"seed": -1}, "seed"),
        ({"batch": 100}, "batch must be a power of two"),
        ({"batch": 2048}, "batch must be a power of two"),
        ({"batch": "some"}, "batch"),
        ({"lengths": (7, 6)}, "lengths"),
        ({"lengths": (6, 7, 8)}, "lengths"),
        ({"lengths": 30}, "lengths"),
        ({"moments": (0.9, 1.0)}, "moments"),
        ({"moments": 0.9}, "moments"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"zero_domain_size": 1.5}, "zero_domain_size"),
        ({"trained_scale": "yes"}, "trained_scale"),
        ({"exact_lengths": 8}, "exact_lengths"),
        ({"precision": "float16"}, "precision"),
        ({"learning_rte": 0.1}, "unknown option learning_rte"),
        ({"rule": CellularAutomaton(0, 6)}, "rule.reach"),
        ({"rule": 256}, "rule"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Scenario(**{"rule": 30, **options})


def test_protocol_cannot_be_replaced():
    with pytest.raises(ValueError, match="protocol"):
        Scenario(30).replace(protocol="all-inputs")


def test_frozen_and_picklable():
    scenario = Scenario(30)
    with pytest.raises(AttributeError):
        scenario.bond = 3
    assert pickle.loads(pickle.dumps(scenario)) == scenario


scenarios = st.builds(
    Scenario,
    rule=st.one_of(
        st.integers(0, 255),
        st.integers(0, 2**32 - 1).map(lambda number: CellularAutomaton(number, 2)),
        st.integers(0, 2**128 - 1).map(lambda number: CellularAutomaton(number, 3)),
    ),
    bond=st.integers(2, 50),
    l1=st.floats(0, 1),
    l2=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
    protocol=st.sampled_from(["published", "all-inputs"]),
    learning_rate=st.floats(1e-6, 1),
    lengths=st.sampled_from([(2, 8), 9, (6, 10)]),
    batch=st.sampled_from(["all", 1, 256]),
    exact_lengths=st.lists(st.integers(2, 14), max_size=3),
    trained_scale=st.booleans(),
)


@settings(max_examples=50, deadline=None)
@given(scenario=scenarios)
def test_text_file_round_trip(scenario, tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "scenario.toml"
    scenario.to_toml(path)
    assert Scenario.from_toml(path) == scenario


def test_short_text_file_and_its_errors(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text('rule = 30\nprotocol = "all-inputs"\nlengths = 6\n')
    assert Scenario.from_toml(path) == Scenario(30, protocol="all-inputs", lengths=6)
    for text, message in (
        ("rule = 30\nbnd = 3", "unknown option bnd"),
        ("bond = 3", "must name a rule"),
        ("rule = {reach = 1}", "rule must have a number or a table"),
        ("rule = {number = 3, tabel = 1}", "rule must have"),
        ('rule = {table = "012", reach = 1}', "digits"),
        ("rule = 30\nschema = 99", "schema"),
        ("rule = ", "not a TOML file"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Scenario.from_toml(path)


def test_scenarios_need_no_jax():
    code = (
        "import sys; from grokphase.training import Scenario; Scenario(30).replace(bond=3).to_text()\n"
        "print([name for name in ('jax', 'optax', 'xarray', 'scipy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
