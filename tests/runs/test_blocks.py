"""How an ensemble is cut into blocks: full groups, the same number of blocks for all, none too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokphase.runs import ensemble
from grokphase.training import Scenario, chunk


def size(members, bond, workers=1, threads=1):
    return ensemble._default_block_size(Scenario(30, bond=bond, members=members), workers, threads)


def test_members_at_once_are_those_of_the_engine():
    assert ensemble._AT_ONCE == chunk.WIDTH


@pytest.mark.parametrize(
    ("members", "bond", "workers", "threads", "expected"),
    [
        (1000, 10, 1, 2, 256),  # four blocks, 128 members a core
        (1000, 40, 1, 2, 128),  # eight blocks, 64 members a core
        (1000, 40, 2, 1, 64),  # sixteen, eight for each process
        (1000, 10, 3, 1, 112),  # nine, three for each
        (1000, 40, 0, 1, 64),  # a cluster whose workers are still to come
        (1000, 40, 16, 1, 64),  # one for each
        (1000, 40, 200, 1, 16),  # more workers than groups
        (32, 10, 1, 2, 32),
        (5, 10, 1, 1, 16),
        (1000, 10, 1, 64, 1008),  # all at once
    ],
)
def test_default_block_size(members, bond, workers, threads, expected):
    assert size(members, bond, workers, threads) == expected


@given(
    members=st.integers(1, 20_000),
    bond=st.integers(2, 100),
    workers=st.integers(1, 300),
    threads=st.integers(1, 64),
)
def test_every_worker_has_its_share_and_no_block_is_long(members, bond, workers, threads):
    found = size(members, bond, workers, threads)
    assert found % chunk.WIDTH == 0
    groups_a_core = -(-found // (chunk.WIDTH * threads))
    assert groups_a_core <= 128 // chunk.WIDTH
    assert (groups_a_core - 1) * chunk.WIDTH * bond < 2560
    # No worker has more to do than its part of the ensemble, up to rounding each block up to full groups.
    blocks = -(-members // found)
    busiest = -(-blocks // workers)
    assert busiest * found < members / workers + busiest * (chunk.WIDTH + 1)
