"""Run experiments: compute (or take up what an earlier run finished), draw, compare, and write the results.

Each experiment leaves three files in the output folder, ``NAME.nc`` (all numbers, netCDF), ``NAME.svg`` (the figure)
and ``NAME-published.svg`` where there is one to compare with.  Files are written in one piece.  A dataset made with
the same code, scale, seed and options is used again, so a run that was interrupted goes on where it stopped.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import xarray as xr

from grokphase import __version__
from grokphase._checks import integer
from grokphase.experiments import Experiment, Scale, load
from grokphase.experiments._framework import generator_for
from grokphase.report import Section, svg_of, write_whole

__all__ = ["output_folder", "run_experiment"]

Progress = Callable[[float], None]


def output_folder(path: Path) -> Path:
    """The folder, made if it is not there; a ``ValueError`` if nothing can be written to it."""
    probe = path / ".grokphase-probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written, got {str(path)!r}: {error.strerror}") from None
    return path


def run_experiment(
    name: str,
    folder: Path,
    *,
    scale: Scale = "quick",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Progress = lambda fraction: None,
) -> Section:
    """Compute and draw one experiment into a folder.

    Parameters
    ----------
    name
        One of ``grokphase.experiments.NAMES``.
    folder
        Where the files go; must exist.
    scale
        ``"quick"`` or ``"paper"``.
    seed
        Of everything drawn; the experiment's numbers depend on it, the scale and the options alone.
    options
        The experiment's own options, as it lists them.
    progress
        Called with the fraction done.

    Returns
    -------
    Section
        For the report.
    """
    experiment = load(name)
    settings = checked_options(experiment, options or {})
    seed = integer("seed", seed)
    path = folder / f"{name}.nc"
    identity = json.dumps(
        {
            "name": name,
            "scale": scale,
            "seed": seed,
            "options": settings,
            "version": __version__,
            "code": _code_digest(),
        },
        sort_keys=True,
    )
    data = _earlier(path, identity)
    seconds = 0.0
    if data is None:
        start = time.perf_counter()
        computed = experiment.compute(scale, generator_for(name, seed), progress, **settings)
        seconds = time.perf_counter() - start
        write_whole(path, bytes(computed.assign_attrs(grokphase=identity).to_netcdf(engine="scipy")))
        data = _earlier(path, identity)  # draw what is stored: the picture is the same whoever computed it
        assert data is not None
    progress(1.0)
    picture = svg_of(experiment.draw(data))
    write_whole(folder / f"{name}.svg", picture)
    published = None
    if experiment.draw_published is not None:
        published = svg_of(experiment.draw_published())
        write_whole(folder / f"{name}-published.svg", published)
    return Section(experiment, picture, published, list(experiment.compare(data)), seconds)


def checked_options(experiment: Experiment, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an experiment: the defaults, overridden by what is given, in the type of the default."""
    settings = dict(experiment.options)
    for key, value in given.items():
        if key not in settings:
            known = ", ".join(f"--{option}" for option in settings) or "none"
            raise ValueError(f"{experiment.name} has no option --{key}; it has {known}")
        kind = type(settings[key])
        try:
            settings[key] = kind(value)
        except ValueError:
            raise ValueError(f"--{key} must be {_KINDS.get(kind, kind.__name__)}, got {value!r}") from None
    return settings


_KINDS = {int: "an integer", float: "a number"}


def _earlier(path: Path, identity: str) -> xr.Dataset | None:
    """What an earlier run left there, if it was made in the same way."""
    try:
        with xr.open_dataset(path, engine="scipy") as stored:
            data = stored.load()
    except (OSError, ValueError, TypeError):  # missing, or no netCDF file (SciPy raises the latter two)
        return None
    return data if data.attrs.get("grokphase") == identity else None


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Digest of the package's code and reference data: a result of other code is not used again."""
    digest = hashlib.sha256()
    for path in sorted(_files(resources.files("grokphase")), key=str):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Traversable) -> list[Traversable]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files(entry)
        elif entry.name.endswith((".py", ".csv")):
            found.append(entry)
    return found
