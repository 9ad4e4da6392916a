"""What is to be computed, in which portions, and how that is kept in a store.

scenario.toml    the scenario
plan.json        members a block, snapshots, version of the package, checksum of both files
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import grokphase
from grokphase.runs.files import write_durably
from grokphase.training.scenario import Scenario

__all__ = ["Plan", "folder_of", "has_plan", "read_plan", "refuse_other_scenario", "write_plan"]

SCHEMA = 1
"""Version of the store; one of another version is refused."""

_PLAN, _SCENARIO = "plan.json", "scenario.toml"


@dataclass(frozen=True)
class Plan:
    """A scenario, members a block, snapshots, and the version of the package that computes it."""

    scenario: Scenario
    block_size: int
    snapshots: tuple[float | str, ...] = ()
    version: str = grokphase.__version__

    @property
    def blocks(self) -> range:
        """Numbers of all blocks."""
        return range(-(-self.scenario.members // self.block_size))

    @property
    def options(self) -> dict[str, Any]:
        """Options of the engine beside scenario and members."""
        return {"snapshots": self.snapshots} if self.snapshots else {}

    def members(self, block: int) -> range:
        """Members of a block."""
        start = block * self.block_size
        return range(start, min(start + self.block_size, self.scenario.members))

    def described(self, block: int) -> str:
        """A block in words."""
        members = self.members(block)
        return f"block {block} (members {members.start} to {members.stop - 1})"


def folder_of(path: str | os.PathLike[str]) -> Path:
    """The folder of a store."""
    if "://" in str(path):
        raise ValueError(f"store must be a folder of this machine, got {str(path)!r}")
    return Path(path)


def has_plan(folder: Path) -> bool:
    """Whether the folder is a store."""
    return (folder / _PLAN).is_file()


def write_plan(folder: Path, plan: Plan, scratch: Path) -> None:
    """Make the folder a store; it is one once the plan is there, which is written last.

    Raises
    ------
    ValueError
        If there is a scenario, written by hand perhaps, that is not the plan's.
    """
    if (folder / _SCENARIO).exists():
        refuse_other_scenario(folder, Scenario.from_toml(folder / _SCENARIO), plan.scenario)
    scenario = plan.scenario.to_text().encode()
    content = {
        "schema": SCHEMA,
        "block_size": plan.block_size,
        "snapshots": list(plan.snapshots),
        "grokphase_version": plan.version,
    }
    content["checksum"] = _checksum(content, scenario)
    write_durably(folder, {_SCENARIO: scenario}, scratch)
    write_durably(folder, {_PLAN: json.dumps(content, indent=1).encode()}, scratch)


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """The plan of the store in a folder.

    Raises
    ------
    ValueError
        If the folder is no store, its plan is damaged, or another version wrote it.
    """
    folder = folder_of(path)
    if not has_plan(folder):
        raise ValueError(f"store must be a folder made by grokphase.simulate, got {str(path)!r}")
    try:
        content = json.loads((folder / _PLAN).read_bytes())
        scenario, checksum = (folder / _SCENARIO).read_bytes(), content.pop("checksum")
        intact = checksum == _checksum(content, scenario)
    except (OSError, ValueError, KeyError, AttributeError):
        intact = False
    if not intact:
        raise ValueError(f"{_PLAN} or {_SCENARIO} in {folder} was changed or damaged after the store was made")
    if content["schema"] != SCHEMA:
        raise ValueError(f"{folder} must have schema {SCHEMA}, got {content['schema']}: another version wrote it")
    return Plan(
        Scenario.from_toml(folder / _SCENARIO),
        content["block_size"],
        tuple(content["snapshots"]),
        content["grokphase_version"],
    )


def _checksum(content: dict[str, Any], scenario: bytes) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode() + scenario).hexdigest()


def refuse_other_scenario(folder: Path, there: Scenario, wanted: Scenario) -> None:
    """Raise a ``ValueError`` that names what differs, if anything does."""
    names = [field.name for field in fields(there) if getattr(there, field.name) != getattr(wanted, field.name)]
    if names:
        shown = "; ".join(f"{name} is {getattr(there, name)!r} there, {getattr(wanted, name)!r} here" for name in names)
        raise ValueError(f"{folder} holds another scenario: {shown}")
