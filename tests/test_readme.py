"""The README says what is true: its tour runs, its numbers hold, its files are there, its commands are the CI's."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from grokphase import experiments
from grokphase.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_tour_gives_the_numbers_in_its_comments():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    rng = np.random.default_rng(0)
    names = {
        "inputs": rng.standard_normal((6, 3)),
        "labels": np.array([1, 1, 1, -1, -1, -1]),
        "initial": np.zeros(3),
    }
    checked = 0
    for line in block.splitlines():
        code, _, comment = line.partition("#")
        if " = " in code or code.startswith("import") or not code.strip():
            exec(code, names)
            continue
        value = eval(code, names)
        stated = re.match(r" (\([^)]*\)|[\d.]+):", comment)
        if stated:
            np.testing.assert_allclose(value, ast.literal_eval(stated[1]), rtol=2e-4)  # four digits are shown
            checked += 1
    assert checked == 3


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert len(targets) > 4
    for target in targets:
        assert (ROOT / target).exists(), target


def test_shell_examples_are_commands(capsys):
    block = re.search(r"```bash\n(grokphase predict.*?)```", README, re.DOTALL)[1]
    for line in block.splitlines():
        _, command, *rest = line.split()
        if command == "predict" and "--plot" not in rest:
            assert main([command, *rest]) == 0
        elif command == "run":
            assert rest[0] in experiments.NAMES
    capsys.readouterr()


@pytest.mark.parametrize("mark", ["reproduce", "tests"])
def test_setup_commands_are_one_line_each(mark):
    block = re.search(rf"<!-- {mark} -->\n```bash\n(.*?)```", README, re.DOTALL)[1]
    assert block.count("\n") == 1
    assert block.startswith("python3 -m venv ")


def test_table_of_what_is_reproduced_names_every_experiment():
    table = README[README.index("## What is reproduced") :]
    missing = [name for name in experiments.NAMES if f"`{name}`" not in table]
    assert missing == []
