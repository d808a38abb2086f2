"""A machine's own addresses on the gateway's side."""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.tunnel.addresses import POOL_PATTERNS, candidate, candidates

MACHINE_IDS = st.text("0123456789abcdef", min_size=8, max_size=8)

# Computed with coreutils' sha256sum and bash's arithmetic, not with the code under test.
KNOWN = {
    "1165a9b6": ("127.86.127.219", "127.88.128.90", "127.66.146.66", "127.71.249.161"),
    "00000000": ("127.108.239.75", "127.76.32.88", "127.122.240.201", "127.105.236.245"),
    "ffffffff": ("127.99.10.183", "127.77.47.228", "127.120.219.209", "127.73.70.33"),
}


@pytest.mark.parametrize("machine_id", KNOWN)
def test_addresses_are_those_that_key_lines_in_the_field_were_made_for(machine_id: str) -> None:
    assert candidates(machine_id) == KNOWN[machine_id]


@given(MACHINE_IDS, st.integers(0, 3))
def test_every_address_is_a_host_in_the_reserved_part_of_loopback(machine_id: str, n: int) -> None:
    address = candidate(machine_id, n)
    assert ip_address(address) in ip_network("127.64.0.0/10")
    assert 1 <= int(address.rpartition(".")[2]) <= 254


@given(MACHINE_IDS)
def test_the_patterns_of_a_pool_cover_every_address(machine_id: str) -> None:
    for address in candidates(machine_id):
        assert any(fnmatchcase(address, pattern) for pattern in POOL_PATTERNS)


def test_the_patterns_of_a_pool_cover_nothing_else() -> None:
    assert len(POOL_PATTERNS) == 64
    assert POOL_PATTERNS[0] == "127.64.*"
    assert POOL_PATTERNS[-1] == "127.127.*"
    for outside in ("127.0.0.1", "127.63.255.1", "127.128.0.1", "0.0.0.0", "*", "10.127.64.1"):
        assert not any(fnmatchcase(outside, pattern) for pattern in POOL_PATTERNS)


@pytest.mark.parametrize("n", [-1, 4])
def test_there_is_no_fifth_address(n: int) -> None:
    with pytest.raises(ValueError, match="0 to 3"):
        candidate("1165a9b6", n)
