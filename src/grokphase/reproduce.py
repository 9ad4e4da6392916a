"""Run experiments: compute (or take up what an earlier run finished), draw, compare, and write the results.

Each experiment leaves three files in the output folder, ``NAME.nc`` (all numbers, netCDF), ``NAME.svg`` (the figure)
and ``NAME-published.svg`` where there is one to compare with.  Files are written in one piece.  A dataset made with
the same code, scale, seed and options is used again, so a run that was interrupted goes on where it stopped.

Ensembles of trained students are kept under ``ensembles/``, one store each, named after a digest of all that their
numbers depend on: the scenario, the snapshots, and the code that trains.  So experiments share them, and a change of
how something is measured or drawn costs no training.
"""

import ast
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from grokphase import __version__
from grokphase._checks import integer
from grokphase.experiments import Experiment, Scale, load
from grokphase.experiments._framework import Ensemble, generator_for
from grokphase.report import Section, svg_of, write_whole

if TYPE_CHECKING:
    from grokphase.runs import Status

__all__ = ["output_folder", "run_experiment", "simulated", "store_of"]

Progress = Callable[[float], None]
Note = Callable[[str], None]


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
    note: Note = lambda text: None,
    workers: int | None = None,
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
    note
        Called with a line of text about the ensemble that is being simulated, if the experiment has any.
    workers
        Processes that simulate ensembles, as for :func:`grokphase.simulate`; changes no number.

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
        computed = _computed(experiment, folder, scale, seed, settings, progress, note, workers)
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
    findings = experiment.findings(data) if experiment.findings is not None else ()
    return Section(experiment, picture, published, list(experiment.compare(data)), seconds, list(findings))


_MEASURING = 0.05  # of the progress, where there are ensembles


def _computed(
    experiment: Experiment,
    folder: Path,
    scale: Scale,
    seed: int,
    settings: Mapping[str, Any],
    progress: Progress,
    note: Note,
    workers: int | None,
) -> xr.Dataset:
    rng = generator_for(experiment.name, seed)
    if experiment.ensembles is None:
        return experiment.compute(scale, rng, progress, **settings)
    ensembles = experiment.ensembles(scale, seed, **settings)
    share = 1 - _MEASURING
    runs = simulated(ensembles, folder, lambda fraction: progress(share * fraction), note, workers)
    return experiment.compute(scale, rng, lambda fraction: progress(share + _MEASURING * fraction), runs, **settings)


def simulated(
    ensembles: Mapping[str, Ensemble],
    folder: Path,
    progress: Progress = lambda fraction: None,
    note: Note = lambda text: None,
    workers: int | None = None,
) -> dict[str, xr.Dataset]:
    """Simulate ensembles, or take up what there is of them in a folder.

    Parameters
    ----------
    ensembles
        By name.
    folder
        The output folder; stores are in its ``ensembles/``.
    progress, note, workers
        As for :func:`run_experiment`.

    Returns
    -------
    runs
        Trajectories by name, read from disk when they are used.

    Raises
    ------
    OSError
        If a store cannot be written, or another process works on it (``grokphase.runs.StoreInUseError``).
    """
    from grokphase import runs

    work = {name: _work(ensemble) for name, ensemble in ensembles.items()}
    found, done = {}, 0.0
    for place, (name, ensemble) in enumerate(ensembles.items()):

        def report(status: "Status", name: str = name, place: int = place, done: float = done) -> None:
            now = done + work[name] * status.done / status.members
            progress(now / sum(work.values()))
            heading = name if len(work) == 1 else f"{name} ({place + 1} of {len(work)})"
            later = sum(work.values()) - done - work[name]
            note(f"{heading}: {_described(status, later * status.members / work[name])}")

        store = store_of(ensemble, folder)
        found[name] = runs.simulate(
            ensemble.scenario, store=store, snapshots=ensemble.snapshots, progress=report, workers=workers
        )
        done += work[name]
    return found


def store_of(ensemble: Ensemble, folder: Path) -> Path:
    """Where the trajectories of an ensemble are kept; equal ensembles have the same place."""
    scenario = ensemble.scenario
    digest = hashlib.sha256(repr((scenario.to_text(), ensemble.snapshots, __version__)).encode())
    # Contexts in snapshots are made by the code in student/, and what a guard decides by that in transition/;
    # everything else by that in rules/ and training/.
    more = {"student": ensemble.snapshots, "transition": scenario.guard}
    for part in ("rules", "training", *(name for name, needed in more.items() if needed)):
        digest.update(_code_of(part))
    return folder / "ensembles" / f"reach-{scenario.rule.reach}-bond-{scenario.bond}-{digest.hexdigest()[:16]}"


def _work(ensemble: Ensemble) -> float:
    """About how long an ensemble takes, in units that do not matter."""
    scenario = ensemble.scenario
    return scenario.members * scenario.bond * (scenario.duration + scenario.observe)


def _described(status: "Status", later: float) -> str:
    """How far an ensemble is; ``later``: what comes after it, in members that take as long as these."""
    text = f"{status.done} of {status.members} runs"
    if not math.isfinite(status.members_per_second):
        return text
    text += f", {status.steps_per_second:,.0f} model-steps a second"
    if math.isfinite(status.seconds_left) and not status.complete:
        text += f", {_duration(status.seconds_left)} left"
    if later:
        text += f", about {_duration(status.seconds_left + later / status.members_per_second)} for all"
    return text


def _duration(seconds: float) -> str:
    """In the largest unit that gives a number with two digits or so.

    >>> _duration(75), _duration(4000), _duration(20000)
    ('75 s', '67 min', '5.6 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


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
    except (OSError, ValueError, TypeError, LookupError):  # missing, or cut off (SciPy raises the latter three)
        return None
    return data if data.attrs.get("grokphase") == identity else None


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Digest of the package's code and reference data: a result of other code is not used again."""
    digest = hashlib.sha256()
    for path in sorted(_files(resources.files("grokphase")), key=str):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@lru_cache
def _code_of(part: str) -> bytes:
    """Digest of one folder of the package: of what its code does, whatever comments and docstrings say."""
    digest = hashlib.sha256()
    for path in sorted(_files(resources.files("grokphase").joinpath(part)), key=str):
        if path.name.endswith(".py"):
            digest.update(path.name.encode() + _meaning(path.read_text("utf-8")))
    return digest.digest()


def _meaning(source: str) -> bytes:
    """The syntax tree of a module without docstrings, as text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [item for item in node.body if not _is_text(item)] or [ast.Pass()]
    return ast.dump(tree).encode()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _files(folder: Traversable) -> list[Traversable]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _files(entry)
        elif entry.name.endswith((".py", ".csv")):
            found.append(entry)
    return found
