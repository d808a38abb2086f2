"""A real API server for the whole run, the stand-in, and a lab whose machines use the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.lab import Lab, laboratory
from tests.kubernetes.server import RealKubernetes, missing
from tests.kubernetes.standin import StandIn


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKubernetes]:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with ExitStack() as stack:
        yield RealKubernetes(tmp_path_factory.mktemp("kubernetes"), stack)


@pytest.fixture
def real(real_server: RealKubernetes) -> Iterator[RealKubernetes]:
    """The real API server, reset after the test."""
    yield real_server
    real_server.thaw()
    real_server.reset()


@pytest.fixture(params=["stand-in", pytest.param("real", marks=pytest.mark.kubernetes)])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealKubernetes | StandIn]:
    """The stand-in and the real API server: each test runs against both, so that the stand-in cannot drift."""
    if request.param == "real":
        yield request.getfixturevalue("real")
    else:
        with StandIn.running(tmp_path) as standin:
            yield standin


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab whose gateway checks the Jobs every second instead of every minute."""
    with laboratory(tmp_path, gateway_options=("--cleanup-interval", "1")) as made:
        yield made
