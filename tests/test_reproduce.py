"""Experiments on ensembles: what is simulated, shared, kept through a kill -9, and taken up again."""

import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import grokphase as gp
from grokphase import reproduce, runs
from grokphase.experiments import Experiment, load
from grokphase.experiments._framework import Ensemble, variable
from grokphase.reproduce import run_experiment, simulated, store_of

BLOCK = 16
TINY = gp.Scenario(30, bond=2, members=20, lengths=(3, 4), batch=8, duration=0.3, observe=0.1, test_sites=64)


def ensembles(scale, seed, members=20):
    """Two ensembles; those of 20 members are computed in two blocks."""
    scenario = TINY.replace(seed=seed, members=members)
    return {"first": Ensemble(scenario), "second": Ensemble(scenario.replace(bond=3), snapshots=("last",))}


def compute(scale, rng, progress, runs, members=20):
    progress(0.5)
    means = [float(run["train_loss"].mean()) for run in runs.values()]
    scale_of_second = runs["second"]["snapshot_scale"].to_numpy()
    return xr.Dataset(
        {
            "mean": variable("ensemble", means, "mean training loss"),
            "scale": variable(("member", "snapshot"), scale_of_second, "last trained scale"),
            "draw": variable((), rng.random(), "a random number"),
        },
        coords={"ensemble": list(runs)},
    )


TOY = Experiment(
    name="toy",
    title="Toy",
    summary="Two small ensembles.",
    compute=compute,
    draw=lambda data: Figure(),
    compare=lambda data: [],
    options={"members": 20},
    ensembles=ensembles,
)

# The notes come when a block is safe on the disk; the one after the first block of the second ensemble never returns.
SCRIPT = f"""
import sys, time
from pathlib import Path

sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_reproduce
from grokphase import reproduce
from grokphase.runs import ensemble

reproduce.load = lambda name: test_reproduce.TOY
ensemble._default_block_size = lambda *given: {BLOCK}

def note(text):
    print(text, flush=True)
    if text.startswith("second (2 of 2): 16 of 20 runs"):
        time.sleep(1000)

if __name__ == "__main__":
    reproduce.run_experiment("toy", Path(sys.argv[1]), note=note)
"""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("grokphase.runs.ensemble._default_block_size", lambda *given: BLOCK)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(reproduce, "load", lambda name: TOY)


def stores(folder: Path) -> list[Path]:
    return sorted((folder / "ensembles").iterdir())


def sessions(store: Path) -> int:
    """How often somebody began to compute something for a store."""
    return (store / "manifest.jsonl").read_text().count('"kind": "session"')


def test_a_run_killed_in_its_second_ensemble_ends_with_the_same_bytes(tmp_path, toy):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(script), str(killed)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("second (2 of 2): 16 of 20 runs"))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not list(killed.glob("*.nc"))
    (killed / ".toy.nc.partial").write_bytes(b"CDF\x01")  # as a kill while the result was being written leaves it
    (killed / "toy.nc").write_bytes(b"CDF\x01")  # as a file system without order may leave it
    notes: list[str] = []
    run_experiment("toy", killed, note=notes.append)
    assert notes[0] == "first (1 of 2): 20 of 20 runs"  # nothing to do
    assert notes[1] == "second (2 of 2): 16 of 20 runs"
    assert notes[-1].startswith("second (2 of 2): 20 of 20 runs, ")
    assert [sessions(store_of(ensemble, killed)) for ensemble in ensembles("quick", 0).values()] == [1, 2]
    run_experiment("toy", whole)
    assert (killed / "toy.nc").read_bytes() == (whole / "toy.nc").read_bytes()
    assert not list(killed.glob(".*"))


class TestSimulated:
    def test_members_are_those_of_the_scenario(self, tmp_path):
        found = simulated(ensembles("quick", 3), tmp_path)
        xr.testing.assert_equal(found["first"].load(), gp.simulate(TINY.replace(seed=3)))
        assert found["second"]["snapshot_scale"].dims == ("member", "snapshot")

    def test_equal_ensembles_share_a_store_and_are_taken_up(self, tmp_path):
        scenario = TINY.replace(members=4)
        simulated({"a": Ensemble(scenario), "b": Ensemble(scenario)}, tmp_path)
        notes: list[str] = []
        simulated({"c": Ensemble(scenario)}, tmp_path, note=notes.append)
        assert [sessions(store) for store in stores(tmp_path)] == [1]
        assert notes == ["c: 4 of 4 runs"]

    def test_progress_grows_to_one(self, tmp_path):
        fractions: list[float] = []
        notes: list[str] = []
        simulated(ensembles("quick", 0), tmp_path, fractions.append, notes.append)
        assert (np.diff(fractions) >= 0).all()
        assert fractions[0] == 0
        # weights 2 and 3 for bond dimensions 2 and 3; 16 of 20 members after the first block of each
        assert fractions[1:3] == pytest.approx([0.4 * 0.8, 0.4])
        assert fractions[-1] == pytest.approx(1)
        assert re.fullmatch(
            r"first \(1 of 2\): 16 of 20 runs, [\d,]+ model-steps a second, \d+ s left, about \d+ s for all", notes[1]
        )


class TestStore:
    def place(self, ensemble: Ensemble) -> str:
        return store_of(ensemble, Path("x")).name

    def test_all_that_matters_for_the_numbers_changes_its_place(self, monkeypatch):
        same = self.place(Ensemble(TINY))
        assert same == self.place(Ensemble(TINY.replace()))
        assert same.startswith("reach-1-bond-2-")
        others = [
            self.place(Ensemble(TINY.replace(seed=1))),
            self.place(Ensemble(TINY.replace(members=21))),
            self.place(Ensemble(TINY, snapshots=("last",))),
            self.place(Ensemble(TINY, snapshots=(0.1,))),
        ]
        monkeypatch.setattr(reproduce, "__version__", "9")  # a store of another version is refused
        others.append(self.place(Ensemble(TINY)))
        assert len({same, *others}) == 6

    @pytest.mark.parametrize(("part", "snapshots"), [("training", ()), ("rules", ()), ("student", ("last",))])
    def test_code_counts(self, monkeypatch, part, snapshots):
        before, without = self.place(Ensemble(TINY, snapshots)), self.place(Ensemble(TINY))
        code = reproduce._code_of
        monkeypatch.setattr(reproduce, "_code_of", lambda folder: b"other" if folder == part else code(folder))
        assert self.place(Ensemble(TINY, snapshots)) != before
        assert (self.place(Ensemble(TINY)) == without) == (part == "student")

    def test_comments_and_docstrings_do_not_count(self):
        source = 'def f(x):\n    """Text."""\n    return x + 1\n'
        same = '"""Module."""\n\n\ndef f(x):  # why\n    """Another text."""\n\n    return (x + 1)\n'
        assert reproduce._meaning(source) == reproduce._meaning(same)
        assert reproduce._meaning('class A:\n    """Text."""\n') == reproduce._meaning("class A:\n    pass\n")
        for other in (source.replace("+ 1", "+ 2"), source.replace("f(x)", "g(x)"), source.replace("x + 1", "'text'")):
            assert reproduce._meaning(other) != reproduce._meaning(source)


class TestRunExperiment:
    def test_options_seed_and_progress_reach_both_halves(self, tmp_path, toy):
        fractions: list[float] = []
        run_experiment("toy", tmp_path, seed=5, options={"members": "6"}, progress=fractions.append)
        with xr.open_dataset(tmp_path / "toy.nc", engine="scipy") as data:
            assert data.sizes["member"] == 6
            expected = float(gp.simulate(TINY.replace(seed=5, members=6))["train_loss"].mean())
            assert float(data["mean"][0]) == expected
            identity = data.attrs["grokphase"]
        assert '"members": 6' in identity
        assert '"seed": 5' in identity
        assert (np.diff(fractions) >= 0).all()
        assert fractions[-1] == 1

    def test_a_finished_result_needs_no_ensemble(self, tmp_path, toy, monkeypatch):
        run_experiment("toy", tmp_path, options={"members": 4})
        monkeypatch.setattr(runs, "simulate", None)
        run_experiment("toy", tmp_path, options={"members": 4})

    def test_new_code_elsewhere_measures_again_but_trains_nothing(self, tmp_path, toy, monkeypatch):
        run_experiment("toy", tmp_path, options={"members": 4})
        before = [sessions(store) for store in stores(tmp_path)]
        monkeypatch.setattr(reproduce, "_code_digest", lambda: "other")
        notes: list[str] = []
        run_experiment("toy", tmp_path, options={"members": 4}, note=notes.append)
        assert notes == ["first (1 of 2): 4 of 4 runs", "second (2 of 2): 4 of 4 runs"]
        assert [sessions(store) for store in stores(tmp_path)] == before

    def test_a_result_cut_off_anywhere_is_computed_again(self, tmp_path):
        whole = bytes(xr.Dataset({"a": ("m", np.arange(3.0))}).assign_attrs(grokphase="x").to_netcdf(engine="scipy"))
        path = tmp_path / "a.nc"
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            assert reproduce._earlier(path, "x") is None
        path.write_bytes(whole)
        assert reproduce._earlier(path, "y") is None
        assert reproduce._earlier(path, "x")["a"].values.tolist() == [0.0, 1.0, 2.0]

    def test_experiments_without_ensembles_are_called_as_ever(self, tmp_path, monkeypatch):
        plain = replace(load("fig04"), compute=lambda *given, **options: calls.append(given) or computed)
        calls: list[tuple] = []
        computed = load("fig04").compute("quick", np.random.default_rng(0), lambda fraction: None, draws=200)
        monkeypatch.setattr(reproduce, "load", lambda name: plain)
        run_experiment("fig04", tmp_path)
        assert [len(given) for given in calls] == [3]
        assert not (tmp_path / "ensembles").exists()
