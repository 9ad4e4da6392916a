"""Fig. 18: which runs are shown, and what is said of them, each against something that knows nothing of it."""

import io
import re
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase.experiments import _ensembles, fig18
from grokphase.experiments import _structure as structure
from grokphase.experiments._framework import Ensemble, generator_for, published_curves
from grokphase.experiments._style import style

MEMBERS = 8
STRINGS, MOMENTS = 24, 8
READING = 1.1e-7  # of a training error, and its rounding to seven digits


def small(scale: str, seed: int, *, members: int = 0) -> dict[str, Ensemble]:
    """The ensembles, for a shorter time."""
    named = fig18.published("quick", seed, reaches=(1,), members=members or MEMBERS, bonds=(fig18.BOND,))
    return {name: Ensemble(each.scenario.replace(duration=0.8, observe=0.3)) for name, each in named.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    folder = Path(tmp_path_factory.mktemp("runs"))
    return {
        name: gp.simulate(each.scenario, store=folder / name.replace(" ", ""))
        for name, each in small("quick", 0).items()
    }


@pytest.fixture(scope="module")
def computed(runs: dict[str, xr.Dataset]) -> xr.Dataset:
    fractions: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig18, "ensembles", small)
        patch.setitem(fig18.STRINGS, "quick", STRINGS)
        patch.setitem(fig18.MOMENTS, "quick", MOMENTS)
        data = fig18.compute("quick", generator_for("fig18", 0), fractions.append, runs)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    return data


def naive_test_error(snapshot: xr.Dataset, spins: np.ndarray) -> float:
    """Rule 30 and the student, one cell after the other."""
    left, right, tensors, classifier = (
        snapshot[f"snapshot_{name}"].to_numpy().astype(float) for name in ("left", "right", "attention", "classifier")
    )
    wrong = 0
    for string in spins:
        before, after = [left], [right]
        for spin in string[:-1]:
            row = before[-1] @ tensors[(spin + 1) // 2]
            before.append(row / np.linalg.norm(row))
        for spin in string[:0:-1]:
            column = tensors[(spin + 1) // 2] @ after[-1]
            after.append(column / np.linalg.norm(column))
        padded = np.concatenate([[-1], string, [-1]])
        for cell, spin in enumerate(string):
            output = padded[cell] * (1 if max(spin, padded[cell + 2]) < 0 else -1)  # left XOR (own OR right)
            score = before[cell] @ classifier[(spin + 1) // 2] @ after[len(string) - 1 - cell]
            wrong += not score * float(snapshot["snapshot_scale"]) * output > 0
    return wrong / spins.size


class TestRules:
    def test_the_typical_run(self) -> None:
        rng = np.random.default_rng(4)
        train, test = np.exp(rng.normal(size=(2, 51)))
        place = fig18.nearest_to_medians(train, test)
        middle = [np.median(np.log(times)) for times in (train, test)]  # odd number: ln and median commute
        distance = [np.hypot(np.log(a) - middle[0], np.log(b) - middle[1]) for a, b in zip(train, test, strict=True)]
        assert distance[place] == min(distance)
        assert fig18.nearest_to_medians(100 * train, test) == place  # whatever the unit

    def test_runs_shown_follow_the_rules(self, runs: dict[str, xr.Dataset], computed: xr.Dataset) -> None:
        for name, key in (("typical", "none"), ("typical, L2", "L2"), ("typical, L1", "L1")):
            run = runs[_ensembles.name_of(1, key, fig18.BOND)]
            shown = computed.sel(shown=name)
            chosen = np.flatnonzero(_ensembles.selected(run))
            times = np.log([run["zero_train_time"].to_numpy()[chosen], run["zero_test_time"].to_numpy()[chosen]])
            middle = np.log(np.median(np.exp(times), axis=1, keepdims=True))
            assert int(shown["shown_member"]) == run["member"][chosen[np.hypot(*(times - middle)).argmin()]]
        plain = runs[_ensembles.name_of(1, "none", fig18.BOND)]
        both = zip(plain["zero_train_time"].to_numpy(), plain["zero_test_time"].to_numpy(), strict=True)
        delay = [test - train for train, test in both if max(train, test) < np.inf]
        for name, quantile in fig18.QUANTILES.items():
            shown = computed.sel(shown=name)
            found = float(shown["shown_test_time"] - shown["shown_train_time"])
            assert found == np.quantile(delay, quantile, method="nearest")

    def test_too_few_runs(self, runs: dict[str, xr.Dataset]) -> None:
        run = next(iter(runs.values()))
        never = run.assign(zero_test_time=xr.full_like(run["zero_test_time"], np.inf))
        with pytest.raises(ValueError, match="members must be more"):
            fig18._typical(never)
        with pytest.raises(ValueError, match="members must be more"):
            fig18._at_quantile(never, 0.5)


class TestNumbers:
    def test_test_error_cell_by_cell(self, runs: dict[str, xr.Dataset]) -> None:
        name, each = next(iter(small("quick", 0).items()))
        record = next(structure.records({name: runs[name]}))
        again = structure.trained_again(each.scenario, record, (0.04, record.zero_test_time + 0.02))
        spins = np.random.default_rng(2).choice([-1, 1], size=(4, 60))
        errors = [fig18._test_error(again.isel(snapshot=mark), spins) for mark in range(2)]
        assert errors == [naive_test_error(again.isel(snapshot=mark), spins) for mark in range(2)]
        assert errors[0] > 0.3
        assert errors[1] < 0.1

    def test_curves_are_the_recorded_ones(self, runs: dict[str, xr.Dataset], computed: xr.Dataset) -> None:
        for name in fig18.SHOWN:
            shown = computed.sel(shown=name)
            run = runs[_ensembles.name_of(1, name[-2:] if "," in name else "none", fig18.BOND)]
            run = run.sel(member=int(shown["shown_member"]))
            np.testing.assert_array_equal(shown["train_error"], run["train_error"])
            times = shown["moment_time"].to_numpy()
            times = times[np.isfinite(times)]
            assert (np.diff(times) > 0).all()
            assert times[-1] >= float(run["zero_test_time"])
            assert np.isin(times.round(6), run["time"].to_numpy().round(6)).all()

    def test_zero_test_error_is_what_the_threshold_says(self, computed: xr.Dataset) -> None:
        """Before the plateau ends the error is a half; it is small after zero test error, in most runs for good."""
        ends = []
        for name in fig18.SHOWN:
            shown = computed.sel(shown=name)
            error = shown["test_error"].to_numpy()
            assert error[0] == pytest.approx(0.5, abs=0.1)  # strings may err as a whole: 24 of them, s.d. at most 0.1
            ends.append(error[np.isfinite(error)][-1])
        assert np.median(ends) < 0.02


class TestPublished:
    def test_times(self) -> None:
        """The record of the panels goes on for 353, 401 and 401 epochs after the error falls below 1e-4."""
        curves = published_curves("fig18")
        found = {panel: fig18._published_times(curve) for panel, curve in curves.items()}
        expected = {"left": (0.21, 2.625), "middle": (0.545, 0.66), "right": (0.385, 0.385)}
        for panel, times in expected.items():
            np.testing.assert_allclose(found[panel], times, atol=1e-9)
        for panel in ("middle", "right"):
            time, error = curves[panel]["test"]
            np.testing.assert_allclose(time[np.argmax(error < 1e-4)], found[panel][1], atol=1e-9)

    def test_training_was_on_random_lengths(self) -> None:
        """The smallest training errors are a few cells, each 1 in 1024 times a length from 6 to 10."""
        errors = np.concatenate([panel["train"][1] for panel in published_curves("fig18").values()])
        single, several = np.sort(errors[errors > 0])[:2]
        assert abs(single - 1 / 10240) < READING
        few = [
            sum(1 / (1024 * length) for length in lengths)
            for count in range(1, 6)
            for lengths in combinations_with_replacement(range(6, 11), count)
        ]
        assert np.abs(np.array(few) - several).min() < READING
        for error in (single, several):  # not k cells of all inputs of length 8, nor of the same in minibatches
            assert abs(8192 * error - round(8192 * error)) > 8192 * READING


class TestFaces:
    def test_ensembles_are_shared_with_figure_19(self) -> None:
        named = fig18.ensembles("paper", 3)
        theirs = _ensembles.published("paper", 3, reaches=(1,))
        assert list(named) == ["K=1, none, d=10", "K=1, L2, d=10", "K=1, L1, d=10"]
        assert all(theirs[name] == each for name, each in named.items())

    def test_survives_the_store(self, computed: xr.Dataset) -> None:
        stored = bytes(computed.to_netcdf(engine="scipy"))
        with xr.open_dataset(io.BytesIO(stored), engine="scipy") as data:
            xr.testing.assert_equal(data.load(), computed)
            for key, variable in data.variables.items():
                assert variable.dtype.kind in "UOS" or len(variable.attrs["long_name"]) > 5, key

    def test_pictures(self, computed: xr.Dataset) -> None:
        for figure in (fig18.draw(computed), fig18.draw_published()):
            drawing = io.BytesIO()
            with style():
                figure.savefig(drawing, format="svg")
            assert 20_000 < drawing.tell() < 300_000

    def test_comparisons_are_readable(self, computed: xr.Dataset) -> None:
        rows = fig18.compare(computed)
        assert len({row.quantity for row in rows}) == len(rows) > 8
        for row in rows:
            assert type(row.agrees) is bool
            assert not re.search(r"\bnan\b", row.computed + row.uncertainty + row.why)
        assert rows[-1].verdict == "erratum"
