"""The code of docs/measuring.md runs as it stands there, in its order, and prints what is shown."""

import ast
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from grokphase.cli import main

GUIDE = (Path(__file__).parents[1] / "docs" / "measuring.md").read_text("utf-8")
BLOCKS = re.findall(r"```(python|bash|text)\n(.*?)```", GUIDE, flags=re.DOTALL)
STATED = re.compile(r" (\[[\d. ]+\]|\([\d, ]+\)|[\d.]+)(?=:|$)")  # a number, list or pair that begins a comment


def run_python(block, names):
    """Statements one by one; how many expressions have their value in a comment, which must be right."""
    checked = 0
    lines = block.splitlines()
    for statement in ast.parse(block).body:
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "measuring.md", "exec"), names)
            continue
        value = eval(compile(ast.Expression(statement.value), "measuring.md", "eval"), names)
        stated = STATED.match(lines[statement.lineno - 1].partition("#")[2])
        if stated:
            expected = [float(part) for part in re.findall(r"[\d.]+", stated[1])]
            np.testing.assert_array_equal(np.ravel(value), expected)
            checked += 1
    return checked


def run_shell(block):
    """Output of the commands; one that is said to fail ends with code 2."""
    output = StringIO()
    for line in block.splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "grokphase"
        with redirect_stdout(output), redirect_stderr(output):
            assert main(arguments) == (2 if line.endswith("# fails") else 0)
    return output.getvalue()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Names that the guide defines, texts shown with the outputs they follow, and how many values were checked."""
    folder = tmp_path_factory.mktemp("guide")
    names, shown, checked, output = {}, [], 0, ""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")  # no line of the table is broken
        for kind, block in BLOCKS:
            if kind == "python":
                checked += run_python(block, names)
            elif kind == "bash":
                output = run_shell(block)
            else:
                shown.append((block, output))
    assert (folder / "transition.svg").stat().st_size > 1000
    return names, shown, checked


def words(text):
    return " ".join(text.split())


def test_texts_are_what_is_printed(ran):
    _, shown, _ = ran
    assert len(shown) == 3
    for text, output in shown:
        for part in text.split("[...]"):
            assert words(part) in words(output)


def test_numbers_are_the_values(ran):
    names, _, checked = ran
    assert checked == 6
    assert (names["mean"], round(names["stderr"], 1)) == (8977.5, 234.8)
    assert names["transition"].mean_grokking_time(runs="reached").mean == 10250
    spike = names["spike"]
    assert (spike.time, round(spike.height), round(spike.duration), spike.effect) == (3010.0, 29, 18, "simplified")


def test_what_the_text_says_holds(ran):
    names, _, _ = ran
    transition = names["transition"]
    np.testing.assert_array_equal(names["same"].zero_test_time.value, transition.zero_test_time.value)
    assert names["data"]["zero_test_time"]["reached"].count(False) == 4
    with pytest.raises(ValueError, match="4 runs have not grokked"):
        transition.mean_grokking_time()
    assert float(np.abs(names["means"]["selection_bias"]).max()) == 0
    assert names["at_fixed_times"].attrs["runs"] == 40
    gap, features, labels = names["gap"], names["features"], names["labels"]
    # Every example is at least 1 from one plane, so the best one keeps no less.
    assert (labels * features[:, 0]).min() >= 1
    assert gap.gap >= 1 - gap.duality_gap
    # Seven directions of variance 1, and one of the mean of (1 + |z|)².  2000 examples tell each variance to 3%, their
    # shares' entropy to 1% (its slope in the share of the large one, 0.34, is ln 3.6): four standard errors.
    variances = np.array([2 + 2 * np.sqrt(2 / np.pi), *[1.0] * 7])
    share = variances / variances.sum()
    assert names["gp"].effective_dimension(features) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=0.04)
    assert names["edge"].low < names["edge"].value < names["edge"].high
    assert set(names["errors"].data_vars) == {"train_error", "test_error"}
