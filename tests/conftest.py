"""Options of the test run: ``--slow none`` (default), ``--slow all``, or ``--slow K/N`` for the K-th share of N."""

import re
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", default="none", help="slow tests to run: none, all, or a share K/N (K from 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Where PyTorch is missing, what cannot be imported without it has no doctests to collect.

    The folder of its tests is not called ``torch``: ``tests`` is on the path of a test run, where such a folder would
    be imported in the place of a missing PyTorch.
    """
    here = Path(__file__).parent
    needing = []
    if find_spec("torch") is None:
        needing += [here.parent / "src" / "grokphase" / "torch" / "*", here / "pytorch" / "small_models.py"]
    if find_spec("torch") is None or find_spec("tensorboard") is None:
        needing += [here / "trials" / "modular_addition.py"]
    config.option.ignore_glob = [*(config.option.ignore_glob or []), *map(str, needing)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    choice = config.getoption("--slow")
    if choice == "all":
        return
    share = re.fullmatch(r"(\d+)/([1-9]\d*)", choice)
    if choice != "none" and not share:
        raise pytest.UsageError(f"--slow must be none, all or K/N, got {choice!r}")

    def chosen(item: pytest.Item) -> bool:
        if item.get_closest_marker("slow") is None:
            return True
        if share is None:
            return False
        return zlib.crc32(item.nodeid.encode()) % int(share[2]) == int(share[1]) % int(share[2])

    kept = [item for item in items if chosen(item)]
    config.hook.pytest_deselected(items=[item for item in items if not chosen(item)])
    items[:] = kept
