"""The machine id: from the settings, or the cloud's instance id, or generated once and saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.integration.lab import Lab
from tests.integration.polling import wait_for

INSTANCE = "i-0123456789abcdef0"
TOKEN = "a-session-token"


@pytest.fixture
def metadata_service() -> Iterator[str]:
    """A stand-in for AWS's instance metadata service, version 2: a token by PUT, required by each GET."""
    with HTTPServer(host="127.0.0.1") as server:
        server.expect_request("/latest/api/token", method="PUT").respond_with_data(TOKEN)
        with_token = {"X-aws-ec2-metadata-token": TOKEN}
        server.expect_request("/latest/meta-data/instance-id", headers=with_token).respond_with_data(INSTANCE)
        yield server.url_for("").rstrip("/")


def test_on_a_cloud_the_instance_id_decides_so_that_a_copied_disk_is_another_machine(
    lab: Lab, metadata_service: str
) -> None:
    expected = hashlib.sha256(INSTANCE.encode()).hexdigest()[:8]
    lab.machine_ids.append(expected)
    agent = lab.agent(
        BETA9_MACHINE_ID="", BETA9_INTERRUPTION="auto", BETA9_METADATA_ENDPOINT=metadata_service
    )
    agent.start()
    wait_for("the id", lambda: agent.status().get("machine_id") == expected)


def test_elsewhere_it_is_made_once_and_survives_a_restart(lab: Lab) -> None:
    agent = lab.agent(BETA9_MACHINE_ID="").start()
    first = wait_for("an id", lambda: agent.status().get("machine_id"))
    agent.stop()
    kept = json.loads((Path(agent.environment["BETA9_STATE_DIR"]) / "machine.json").read_text())
    assert kept["machine_id"] == first
    agent.start()
    assert wait_for("an id", lambda: agent.status().get("machine_id")) == first
