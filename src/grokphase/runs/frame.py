r"""Trajectories as the files of a Zarr v3 group, without a disk: metadata, coordinates, and one block's chunks.

    frame     group and array metadata, coordinates: the same for every block
    chunks    every variable with dimension ``member``, cut along it: one chunk a block and a variable

The arrays are those of the whole ensemble from the beginning; xarray and any other Zarr reader see members that
are not computed as fill values: NaN, −1 for signed integers.  Chunks are compressed and end with a CRC-32C, so
that every reader notices damage.

References: Zarr core specification, version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.buffer.cpu import Buffer
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import MemoryStore

__all__ = ["chunks_of", "frame_of"]

_CODECS = (ZstdCodec(level=3), Crc32cCodec())


def frame_of(block: xr.Dataset, members: int, block_size: int) -> dict[str, bytes]:
    """Files of the group that will hold an ensemble, from the dataset of any block of it.

    Parameters
    ----------
    block
        Trajectories of some members.
    members, block_size
        Of the whole ensemble; members a chunk.

    Returns
    -------
    files
        Contents by name.
    """
    memory: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(memory), zarr_format=3, attributes=dict(block.attrs))
    for name, variable in _whole(block, members).variables.items():
        group.create_array(
            str(name),
            shape=variable.shape,
            dtype=str if variable.dtype.kind == "U" else variable.dtype,  # texts of fixed width are not in the standard
            chunks=tuple(max(1, size) for size in variable.shape),
            compressors=_CODECS,
            dimension_names=[str(dim) for dim in variable.dims],
            attributes=variable.attrs,
        )[...] = variable.values
    for name in _by_member(block):
        variable = block[name].variable
        sizes = variable.shape[1:]
        group.create_array(
            name,
            shape=(members, *sizes),
            dtype=variable.dtype,
            chunks=(min(block_size, members), *(max(1, size) for size in sizes)),
            compressors=_CODECS,
            fill_value=_fill(variable.dtype),
            chunk_key_encoding={"name": "default", "separator": "."},  # one file a chunk, no folders
            dimension_names=[str(dim) for dim in variable.dims],
            attributes=variable.attrs,
        )
    return {name: content.to_bytes() for name, content in memory.items()}


def chunks_of(block: xr.Dataset, frame: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files with the numbers of one block.

    Parameters
    ----------
    block
        Trajectories of the block; its members in order, from a multiple of the block size on.
    frame
        What :func:`frame_of` gave for another or the same block.

    Returns
    -------
    files
        Contents by name.

    Raises
    ------
    ValueError
        If variables, types or sizes are not those of the frame.
    """
    memory: dict[str, Any] = {name: Buffer.from_bytes(content) for name, content in frame.items()}
    with zarr.config.set({"array.write_empty_chunks": True}):  # a chunk is missing only if its block is
        group = zarr.open_group(MemoryStore(memory), mode="r+")
        arrays = dict(group.arrays())
        if set(arrays) != {str(name) for name in block.variables}:
            raise ValueError(f"block must have the variables {sorted(arrays)}, got {sorted(map(str, block.variables))}")
        start, size = int(block.member[0]), block.sizes["member"]
        for name in _by_member(block):
            array, values = arrays[name], block[name].values
            if values.dtype != array.dtype or values.shape[1:] != array.shape[1:]:
                raise ValueError(
                    f"{name} must be {array.dtype} of shape {array.shape[1:]} for each member, "
                    f"got {values.dtype} of shape {values.shape[1:]}"
                )
            array[start : start + size] = values
    return {name: content.to_bytes() for name, content in memory.items() if name not in frame}


def _by_member(block: xr.Dataset) -> list[str]:
    """Names of the variables that are cut into blocks."""
    names = [str(name) for name in block.variables if "member" in block[name].dims and name != "member"]
    for name in names:
        if block[name].dims[0] != "member":
            raise ValueError(f"{name} must have member as its first dimension, got {block[name].dims}")
    return names


def _whole(block: xr.Dataset, members: int) -> xr.Dataset:
    """What is the same for every block, and the numbers of all members."""
    shared = block.drop_vars(_by_member(block))
    numbers = ("member", np.arange(members), block["member"].attrs)
    return shared.drop_vars("member").assign_coords(member=numbers)


def _fill(dtype: np.dtype[Any]) -> NDArray[Any] | float | int:
    return {"f": np.nan, "i": -1}.get(dtype.kind, 0)
