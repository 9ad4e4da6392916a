"""The code of docs/pytorch.md runs as it stands there, in the order in which it stands there."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

GUIDE = Path(__file__).parents[2] / "docs" / "pytorch.md"


def test_guide(capsys):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    names = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    runs = names["runs"]
    assert runs["train_error"].values[0, -1] == 0
    assert ((runs["effective_dimension"] > 1) & (runs["effective_dimension"] < 64)).all()
    assert "run" in capsys.readouterr().out  # the paragraph of transition.describe()
    rates = [group["lr"] for group in names["optimizer"].param_groups]
    names["calm_down"](None)
    assert [group["lr"] for group in names["optimizer"].param_groups] == [rate / 2 for rate in rates]
