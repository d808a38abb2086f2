"""A running agent picks up a secret that changes in its store, without a restart or a change on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.lab import Lab
from tests.integration.polling import wait_for

REGION = "eu-central-1"
NAME = "/beta9/machine-token"


@pytest.fixture
def parameters() -> Iterator[tuple[Any, dict[str, str]]]:
    """A client of an SSM API (moto's server), and the environment with which an agent uses the same API."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "of-the-test",
        "NO_PROXY": "127.0.0.1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    client = boto3.client(
        "ssm",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="of-the-test",
    )
    yield client, environment
    client.close()
    server.stop()


def put(client: Any, token: str) -> None:
    client.put_parameter(Name=NAME, Value=token, Type="SecureString", Overwrite=True)


def test_a_rotated_token_in_ssm_heals_a_running_agent_without_a_restart(
    lab: Lab, parameters: tuple[Any, dict[str, str]]
) -> None:
    client, environment = parameters
    old, new = lab.gateway.new_token(), lab.gateway.new_token()
    put(client, old)
    agent = lab.ready_agent(
        {"refused_retry_s": 0.5},
        BETA9_TOKEN_FILE="",
        BETA9_TOKEN=f"ssm://{NAME}",
        BETA9_KEEPALIVE_INTERVAL="1",
        **environment,
    )
    pid, sent = agent.pid, agent.status()["counters"]["keepalives"]["ok"]

    lab.gateway.deactivate_token(old)
    wait_for("keepalives are refused", lambda: agent.status()["keepalive"]["failures"] >= 2)
    assert "401" in agent.status()["gateway"]["last_error"]

    put(client, new)
    wait_for(
        "keepalives are accepted again",
        lambda: (
            agent.status()["keepalive"]["failures"] == 0
            and agent.status()["counters"]["keepalives"]["ok"] > sent + 1
        ),
    )
    assert agent.is_back()
    assert agent.pid == pid
    assert agent.child is not None
    assert agent.child.code is None
    assert agent.status()["registration"]["times"] == 1, "the lease was lost"
    assert not [line for line in agent.lines if old in line or new in line]


def test_a_token_that_is_not_in_the_store_yet_is_waited_for_by_a_registered_agent(
    lab: Lab, parameters: tuple[Any, dict[str, str]]
) -> None:
    """Some rotate by deleting and creating: in between the store has no such parameter."""
    client, environment = parameters
    old, new = lab.gateway.new_token(), lab.gateway.new_token()
    put(client, old)
    agent = lab.ready_agent(
        {"refused_retry_s": 0.5},
        BETA9_TOKEN_FILE="",
        BETA9_TOKEN=f"ssm://{NAME}",
        BETA9_KEEPALIVE_INTERVAL="1",
        **environment,
    )
    client.delete_parameter(Name=NAME)
    lab.gateway.deactivate_token(old)
    wait_for("the error names the parameter", lambda: NAME in (agent.status()["gateway"]["last_error"] or ""))
    put(client, new)
    wait_for("keepalives are accepted again", lambda: agent.status()["keepalive"]["failures"] == 0)
    assert agent.is_back()
