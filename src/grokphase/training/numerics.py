"""What must not depend on the surroundings: precision, random streams, compiler options.

JAX has global switches for the width of numbers, the precision of matrix products and the layout of random
streams.  Everything in :mod:`grokphase.training` that touches JAX runs inside :func:`pinned`, which sets them
for the time being and for the current thread only, so that results depend on the scenario alone and the
caller's own settings stay as they are.

Programs are compiled for one thread: which thread adds what then never matters, and several blocks of members
run beside each other on several cores.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from grokphase.training.scenario import Scenario

__all__ = ["compiled", "dtype_of", "pinned", "root_keys"]

_OPTIONS = {"xla_cpu_multi_thread_eigen": False, "xla_cpu_prefer_vector_width": 512}

compiled = partial(jax.jit, compiler_options=_OPTIONS)
"""``jax.jit`` with our compiler options."""


@contextmanager
def pinned(scenario: Scenario) -> Iterator[None]:
    """Settings of JAX under which the scenario's numbers are made."""
    with ExitStack() as stack:
        stack.enter_context(jax.enable_x64(scenario.precision == "float64"))
        stack.enter_context(jax.default_matmul_precision("highest"))
        stack.enter_context(jax.threefry_partitionable(True))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


def dtype_of(scenario: Scenario) -> Any:
    """The type of all real numbers."""
    return jnp.float64 if scenario.precision == "float64" else jnp.float32


def root_keys(scenario: Scenario) -> tuple[jax.Array, jax.Array]:
    """Two roots of random numbers: of the members, and of what the whole ensemble shares."""
    root = jax.random.key(scenario.seed, impl="threefry2x32")
    return jax.random.fold_in(root, 0), jax.random.fold_in(root, 1)
