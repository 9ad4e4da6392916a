"""Trajectories out of a store, lazily, and blocks of trajectories put together."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import xarray as xr

from grokphase.runs.manifest import Finished
from grokphase.runs.plan import refuse_other_scenario
from grokphase.runs.store import Store, joined_marks
from grokphase.training.scenario import Scenario

__all__ = ["joined", "open"]


def open(  # noqa: A001 - used as grokphase.open
    store: str | os.PathLike[str], scenario: Scenario | None = None, *, partial: bool = False
) -> xr.Dataset:
    """Open the trajectories in a store; numbers are read when they are used.

    Parameters
    ----------
    store
        Folder made by :func:`grokphase.simulate`.
    scenario
        The scenario that the store must hold; None: any.
    partial
        Whether a store that is not complete may be opened.  What is finished is then there, and nothing else:
        ``member`` has gaps.

    Returns
    -------
    trajectories
        What :func:`grokphase.simulate` returns.  ``attrs["scenario"]`` is the scenario as TOML text.  Reading
        numbers from a chunk that was damaged raises a ``ValueError``; :func:`grokphase.simulate` repairs it.

    Raises
    ------
    ValueError
        If the folder is no store, or holds another scenario; if it is not complete, unless ``partial``; if
        nothing at all is finished.

    Examples
    --------
    >>> open("no/such/folder")
    Traceback (most recent call last):
    ...
    ValueError: store must be a folder made by grokphase.simulate, got 'no/such/folder'
    """
    found = Store.read(store)
    plan = found.plan
    if scenario is not None:
        refuse_other_scenario(found.folder, plan.scenario, scenario)
    finished = found.present()
    done = sum(block.members for block in finished)
    if done < plan.scenario.members and not (partial and done):
        raise ValueError(
            f"{found.folder} is not complete: {done} of {plan.scenario.members} members are finished. "
            "simulate(scenario, store=...) computes what is missing" + ("; partial=True opens the rest" if done else "")
        )
    assert found.manifest.frame is not None
    dataset = xr.open_dataset(found.group, engine="zarr", chunks=None, consolidated=False)
    dataset = dataset[list(found.manifest.frame.variables)].assign_attrs(joined_marks(finished))
    texts = {name: dataset[name] for name in dataset.coords if dataset[name].dtype.kind not in "biuf"}
    dataset = dataset.assign_coords({name: text.astype(object).astype(str) for name, text in texts.items()})
    if done == plan.scenario.members:
        return dataset
    return dataset.isel(member=np.concatenate([plan.members(block.block) for block in finished]))


def joined(blocks: Sequence[xr.Dataset], finished: Sequence[Finished]) -> xr.Dataset:
    """All members in one dataset, from blocks in their order."""
    dataset = xr.concat(
        blocks,
        dim="member",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    return dataset.assign_attrs(joined_marks(finished))
