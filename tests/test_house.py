"""The house itself: who may import whom, what ``import grokphase`` costs, which names are public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import grokphase

PACKAGE = Path(grokphase.__file__).parent

# What each folder may import, beside the standard library, itself and grokphase._checks (DESIGN, "One flow").
ALLOWED = {
    "solvable": {"numpy", "scipy"},
    "rules": {"numpy"},
    "student": {"numpy", "scipy", "jax", "rules"},
    "training": {"numpy", "scipy", "student", "rules", "jax", "optax", "xarray"},
    "transition": {"numpy", "scipy", "xarray", "pandas", "solvable"},
    "runs": {"numpy", "training", "student", "rules", "xarray", "zarr", "distributed"},
    "experiments": {
        *("numpy", "scipy", "xarray", "matplotlib", "mpl_toolkits"),
        *("solvable", "rules", "student", "training", "transition", "runs"),
    },
    "torch": {"numpy", "xarray", "transition"},  # and torch itself, which the folder is called after
}
# One file of pure functions on arrays that a layer below may use; the guard of loss spikes is the same for all.
EXCEPTIONS = {"training/guard.py": {"grokphase.transition.spike_rule"}}
SHARED = {"_checks", "grokphase", "__version__"}  # the latter two: the version, stored with results
HEAVY = ("jax", "matplotlib", "xarray", "scipy", "numpy", "rich", "cyclopts")


def imported(path: Path, but: frozenset[str] | set[str] = frozenset()) -> set[str]:
    """Third-party packages, and own modules as their first name below grokphase, that a file may load.

    Public names taken from ``grokphase`` itself count as the layer they live in; modules in ``but`` do not count.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            names = [node.module]
            if node.module == "grokphase":
                names = [grokphase._HOME.get(alias.name, f"grokphase.{alias.name}") for alias in node.names]
        else:
            continue
        for name in set(names) - but:
            parts = name.split(".")
            found.add(parts[1] if parts[0] == "grokphase" and len(parts) > 1 else parts[0])
    return found - set(sys.stdlib_module_names)


def violations(folder: str, names: set[str]) -> set[str]:
    return names - ALLOWED[folder] - SHARED - {folder}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*/*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_layers_import_downwards_only(path):
    folder = path.relative_to(PACKAGE).parts[0]
    assert folder in ALLOWED, f"unknown layer {folder}: say what it may import"
    name = path.relative_to(PACKAGE).as_posix()
    assert not violations(folder, imported(path, EXCEPTIONS.get(name, set())))


def test_layering_check_would_notice():
    assert violations("solvable", {"numpy", "student", "xarray"}) == {"student", "xarray"}
    for name, modules in EXCEPTIONS.items():
        assert violations(name.split("/")[0], imported(PACKAGE / name)) == {module.split(".")[1] for module in modules}
        for module in modules:  # and needs nothing but NumPy itself
            path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
            assert imported(path) <= {"numpy"} | SHARED
    assert imported(PACKAGE / "cli.py") >= {"cyclopts", "rich", "predict", "experiments"}


def fresh_interpreter(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light_and_quick():
    code = (
        "import time; start = time.perf_counter(); import grokphase; took = time.perf_counter() - start\n"
        f"import sys; print(took, *(name for name in {HEAVY} if name in sys.modules))"
    )
    runs = [fresh_interpreter(code).split() for _ in range(5)]
    assert all(len(run) == 1 for run in runs), f"heavy modules loaded: {runs[0][1:]}"
    assert min(float(run[0]) for run in runs) < 0.3  # the best of five: noise only adds


def test_theory_needs_neither_plots_nor_datasets():
    code = (
        "import grokphase as gp, sys; gp.ExponentialModel(class_gap=0.4).grokking_probability(10)\n"
        "gp.BallModel(dimension=3, class_gap=1.2).grokking_time(); gp.GradientFlow; gp.IsotropicModel; gp.published\n"
        "print(*(name for name in ('jax', 'matplotlib', 'xarray', 'rich') if name in sys.modules))"
    )
    assert fresh_interpreter(code).split() == []


def test_public_names():
    assert grokphase.__all__ == sorted(grokphase.__all__)
    assert set(grokphase.__all__) == set(grokphase._HOME)
    for name in grokphase.__all__:
        assert getattr(grokphase, name) is not None
        assert name in dir(grokphase)
    readme = (PACKAGE.parents[1] / "README.md").read_text("utf-8")
    api = (PACKAGE.parents[1] / "docs" / "api.md").read_text("utf-8")
    assert [name for name in grokphase.__all__ if f"`{name}`" not in api] == []
    assert "gp.ExponentialModel" in readme
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        grokphase.nonsense  # noqa: B018
