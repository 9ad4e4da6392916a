"""Verdicts on students built by hand, so that what is right and wrong about each is known; no training here."""

import io
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import xarray as xr

import grokphase as gp
from grokphase.experiments import _verdicts as verdicts
from grokphase.experiments import certified
from grokphase.experiments._framework import generator_for
from grokphase.experiments._style import style
from grokphase.runs.trained import TrainedStudent
from grokphase.student import all_inputs

RULE = gp.CellularAutomaton(30)
SHORTEST = 6


def perfect(extra: int = 0) -> TrainedStudent:
    """Contexts that know both neighbours, and the rule's table as classifier; ``extra`` idle dimensions."""
    exact = gp.Attention.exact(1)
    tensors, classifier = (np.zeros((2, 4 + extra, 4 + extra)) for _ in range(2))
    tensors[:, :4, :4] = exact.tensors
    table = RULE.table.reshape(2, 2, 2)  # left, own, right
    for own, left, right in product(range(2), repeat=3):
        classifier[own, 2 * left : 2 * left + 2, right:4:2] = table[left, own, right]
    edges = [np.append(edge, np.zeros(extra)) for edge in (exact.left, exact.right)]
    return TrainedStudent(gp.Attention(tensors, left=edges[0], right=edges[1]), classifier)


def blind_at_the_end() -> TrainedStudent:
    """Right but for the first cell, which sees a left neighbour +1 where there is none."""
    student = perfect()
    left = np.array([0.0, 0.0, 1.0, 1.0])
    return student._replace(attention=gp.Attention(student.attention.tensors, left=left, right=student.attention.right))


def turning() -> TrainedStudent:
    """Right, until a hundred or more cells −1 in a row let a small component grow that changes sign at every cell."""
    student = perfect(1)
    tensors = student.attention.tensors.copy()
    tensors[0, 0, 4], tensors[0, 4, 4], tensors[1, 4, 4] = 2.0**-60, -1.5, 2.0**-4
    classifier = student.classifier.copy()
    classifier[:, 4, :4] = 0.5
    attention = gp.Attention(tensors, left=student.attention.left, right=student.attention.right)
    return TrainedStudent(attention, classifier)


def wrong_cells(student: TrainedStudent, length: int) -> np.ndarray:
    """Which cells of all inputs are wrong: plain products, cell by cell, nothing normalised but against overflow."""
    tensors = student.attention.tensors
    rows = []
    for x in all_inputs(length):
        lefts, rights = [student.attention.left], [student.attention.right]
        for cell in range(length - 1):
            lefts.append(lefts[-1] @ tensors[(x[cell] + 1) // 2])
            rights.append(tensors[(x[length - 1 - cell] + 1) // 2] @ rights[-1])
        scores = [lefts[i] @ student.classifier[(x[i] + 1) // 2] @ rights[length - 1 - i] for i in range(length)]
        rows.append(np.array(scores) * RULE(x) <= 0)
    return np.array(rows)


class TestJudge:
    def test_right(self) -> None:
        verdict = verdicts.judge(perfect(), RULE, SHORTEST)
        assert verdict.kind == verdicts.RIGHT
        assert verdict.length == 0
        assert not wrong_cells(perfect(), 7).any()

    @pytest.mark.parametrize("signs", verdicts.SIGNS)
    def test_right_or_wrong_throughout(self, signs: tuple[int, int, int]) -> None:
        student = verdicts.turned(perfect(), signs)
        verdict = verdicts.judge(student, RULE, SHORTEST)
        assert verdict.kind == verdicts.THROUGHOUT
        assert verdict.signs == signs
        name = verdicts.SIGNS[signs]
        for length in (6, 7):
            plus = (all_inputs(length) > 0).sum(axis=1)
            counted = length - plus if "−1" in name else plus if "+1" in name else np.full(len(plus), length)
            named = counted % 2 == (1 if "odd" in name else 0)
            if name == "every input":
                named[:] = True
            expected = np.repeat(named[:, None], length, axis=1)
            np.testing.assert_array_equal(wrong_cells(student, length), expected)

    def test_near_the_ends(self) -> None:
        student = blind_at_the_end()
        verdict = verdicts.judge(student, RULE, SHORTEST)
        assert verdict.kind == verdicts.ENDS
        assert verdict.bulk_error == (0.0, 0.0)
        assert verdict.certificate.counterexample is not None
        assert verdict.certificate.counterexample[1] == 0
        wrong = wrong_cells(student, 6)
        assert wrong[:, 0].any()
        assert not wrong[:, 1:].any()

    def test_everywhere(self) -> None:
        student = perfect()
        classifier = student.classifier.copy()
        classifier[1] *= -1
        verdict = verdicts.judge(student._replace(classifier=classifier), RULE, SHORTEST)
        assert verdict.kind == verdicts.ERRS
        assert verdict.length == SHORTEST
        assert verdict.bulk_error == (0.5, 0.5)  # half of the cells are +1, and all of these are wrong

    def test_long_counterexample_in_exact_arithmetic(self) -> None:
        """No short input is wrong; the long one is, in fractions without any rounding."""
        student = turning()
        assert not wrong_cells(student, 9).any()
        verdict = verdicts.judge(student, RULE, SHORTEST)
        assert verdict.kind == verdicts.ERRS
        assert verdict.invariant_cone == -1
        assert verdict.length > 100
        assert verdict.certificate.counterexample is not None
        spins, cell = verdict.certificate.counterexample
        assert exact_score(student, spins, cell) * RULE(spins)[cell] < 0
        # Control: the same with a component that does not grow is no counterexample.
        tensors = student.attention.tensors.copy()
        tensors[0, 4, 4] = -0.5
        attention = gp.Attention(tensors, left=student.attention.left, right=student.attention.right)
        tame = student._replace(attention=attention)
        assert exact_score(tame, spins, cell) * RULE(spins)[cell] > 0
        assert verdicts.judge(tame, RULE, SHORTEST).kind == verdicts.RIGHT


def exact_score(student: TrainedStudent, spins: np.ndarray, cell: int) -> Fraction:
    """Positive multiple of a score; every double is a fraction."""
    tensors, classifier = (
        [[[Fraction(float(n)) for n in row] for row in matrix] for matrix in part]
        for part in (student.attention.tensors, student.classifier)
    )
    row, column = ([Fraction(float(n)) for n in edge] for edge in (student.attention.left, student.attention.right))

    def before(vector: list[Fraction], matrix: list[list[Fraction]]) -> list[Fraction]:
        return [
            sum((v * line[k] for v, line in zip(vector, matrix, strict=True)), Fraction()) for k in range(len(vector))
        ]

    def behind(matrix: list[list[Fraction]], vector: list[Fraction]) -> list[Fraction]:
        return [sum((m * v for m, v in zip(line, vector, strict=True)), Fraction()) for line in matrix]

    for spin in spins[:cell]:
        row = before(row, tensors[(spin + 1) // 2])
    for spin in spins[:cell:-1]:
        column = behind(tensors[(spin + 1) // 2], column)
    row = before(row, classifier[(spins[cell] + 1) // 2])
    return sum((a * b for a, b in zip(row, column, strict=True)), Fraction())


class TestSampled:
    strings = np.random.default_rng(0).choice([-1, 1], size=(20, 50))

    def test_right_and_wrong_everywhere(self) -> None:
        assert certified.sampled(perfect(), RULE, self.strings) == (0.0, 0.0, 1.0)
        wrong = perfect()._replace(classifier=-perfect().classifier)
        assert certified.sampled(wrong, RULE, self.strings) == (1.0, 1.0, 1.0)

    def test_one_wrong_cell(self) -> None:
        """Rule 30 is the left cell XOR something, so the first cell is wrong in every string: two stretches."""
        assert certified.sampled(blind_at_the_end(), RULE, self.strings) == (1 / 50, 1.0, 0.5)


def run_of(students: list[TrainedStudent | None]) -> xr.Dataset:
    """Trajectories as far as the experiment reads them; None never reached zero test error."""
    bond = max(student.attention.bond for student in students if student is not None)
    scenario = gp.Scenario(30, bond, members=len(students))
    shape = (len(students), 2)
    arrays = {name: np.full((*shape, 2, bond, bond), np.nan) for name in ("attention", "classifier")}
    arrays |= {name: np.full((*shape, bond), np.nan) for name in ("left", "right")}
    arrays |= {"scale": np.full(shape, np.nan), "time": np.full(shape, np.nan)}
    for member, student in enumerate(students):
        if student is not None:
            attention = student.attention
            values = (attention.tensors, -0.5 * student.classifier, attention.left, attention.right, -2.0, 1.0)
            for array, value in zip(arrays.values(), values, strict=True):
                array[member] = value
    places = {"attention": ["spin", "bond", "bond_right"], "classifier": ["spin", "bond", "bond_right"]}
    places |= {"left": ["bond"], "right": ["bond"], "scale": [], "time": []}
    found: dict[str, Any] = {
        f"snapshot_{name}": (["member", "snapshot", *dims], arrays[name]) for name, dims in places.items()
    }
    found["zero_test_time"] = ("member", [np.inf if student is None else 1.0 for student in students])
    coords = {"member": range(len(students)), "snapshot": list(certified.TIMES)}
    return xr.Dataset(found, coords, {"scenario": scenario.to_text()})


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    turned = [verdicts.turned(perfect(), signs) for signs in ((-1, -1, 1), (-1, -1, -1), (1, -1, 1))]
    runs = {
        "published, none, d=4": run_of([perfect(), None, blind_at_the_end()]),
        "published, L1, d=4": run_of([*turned]),
        "published, L2, d=5": run_of([turning()]),
    }
    fractions: list[float] = []
    found = certified.compute("quick", generator_for("certified", 0), fractions.append, runs)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    return found


class TestExperiment:
    def test_kinds(self, data: xr.Dataset) -> None:
        right, throughout, ends, errs = verdicts.RIGHT, verdicts.THROUGHOUT, verdicts.ENDS, verdicts.ERRS
        expected = [[right, -1, ends], [throughout] * 3, [errs, -1, -1]]
        for at in certified.TIMES:
            np.testing.assert_array_equal(data["kind"].sel(at=at), expected)
        assert data["shorter"].to_numpy().sum() == 2  # the perfect student, at both times

    def test_exact_errors_are_those_of_a_plain_listing(self, data: xr.Dataset) -> None:
        error = data["exact_error"].isel(ensemble=0, run=2, at=0).sel(length=7)
        assert float(error) == pytest.approx(wrong_cells(blind_at_the_end(), 7).mean(), abs=1e-15)

    def test_listing_contradicts_nothing_but_a_false_verdict(self, data: xr.Dataset) -> None:
        assert certified.contradiction(data) == (0, 10)  # all but the long counterexample, at two times
        wrong = data.copy(deep=True)
        wrong["kind"][0, 2, 0] = verdicts.RIGHT
        wrong["wrong_throughout"][1, 0, 1] = list(verdicts.SIGNS).index((-1, -1, -1))  # even for odd lengths
        wrong["exact_error"][0, 2, 1] = 0.0
        assert certified.contradiction(wrong) == (3, 10)

    def test_words(self, data: xr.Dataset) -> None:
        rows = certified.compare(data)
        assert [row.verdict for row in rows] == ["differs", "agrees", "differs", "agrees", "agrees"]
        assert rows[0].computed == "1 of 6 proven; 5 refuted"
        text = " ".join(certified.findings(data))
        assert "In 4 cases inputs of odd length" not in text
        assert "In 2 cases inputs of odd length are wrong at every cell; the published criterion calls 2" in text
        assert "Undecided" not in text
        nobody = data.copy(deep=True)
        nobody["kind"][:] = certified.ABSENT
        assert certified.findings(nobody) == ["No run reached zero test error."]

    def test_picture_and_store(self, data: xr.Dataset) -> None:
        stored = bytes(data.to_netcdf(engine="scipy"))
        with xr.open_dataset(io.BytesIO(stored), engine="scipy") as again:
            xr.testing.assert_equal(again.load(), data)
            drawing = io.BytesIO()
            with style():
                certified.draw(again).savefig(drawing, format="svg")
        assert 20_000 < drawing.tell() < 250_000
        for key, value in data.data_vars.items():
            assert len(value.attrs["long_name"]) > 5, key

    def test_ensembles(self) -> None:
        named = certified.ensembles("quick", 3, members=5)
        assert list(named)[:2] == ["published, none, d=4", "published, none, d=10"]
        assert len(named) == 6
        assert len(certified.ensembles("paper", 3)) == 24
        for each in named.values():
            assert each.snapshots == ("zero_test", "last")
            assert each.scenario.members == 5
        with pytest.raises(ValueError, match="scale"):
            certified.ensembles("huge", 0)  # type: ignore[arg-type]
