"""An environment without AWS settings, and AWS APIs to use from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.aws import access
from tests.integration.runtime.secret_sources.toy_aws import REGION, ToyAws


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove all credentials, regions and endpoints, so that only those of the test apply."""
    import os

    for variable in [
        name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(access, "READ_TIMEOUT_S", 1)
    monkeypatch.setattr(access, "METADATA_TIMEOUT_S", 1)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-test")
    monkeypatch.setenv("AWS_REGION", REGION)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(moto_url: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 session against moto; the store is emptied after the test."""
    import boto3
    import requests

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    yield boto3.session.Session(region_name=REGION)
    requests.post(f"{moto_url}/moto-api/reset", timeout=10)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyAws]:
    toy = ToyAws()
    monkeypatch.setenv("AWS_ENDPOINT_URL", toy.url)
    yield toy
    toy.close()
