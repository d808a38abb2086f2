"""AWS refuses, throttles, or cannot be reached; credentials or region are missing."""

from __future__ import annotations

import json
import socket

import pytest

from agent.adapters.aws import access
from agent.adapters.secrets.resolver import Secrets
from agent.errors import RejectedError, SettingsError, TransientError
from tests.integration.runtime.secret_sources.toy_aws import REGION, TOKEN, ToyAws, closed_port, token


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    ],
)
def test_refused_credentials_are_not_tried_again(code: str, toy: ToyAws, credentials: None) -> None:
    toy.refuse(code)
    with pytest.raises(RejectedError) as caught:
        Secrets().resolve(token("ssm:///beta9/token"))
    assert f"({code}: said by the toy)" in str(caught.value)
    assert "ssm:GetParameter" in str(caught.value)
    assert len(toy.calls) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [("ThrottlingException", 400), ("InternalServerError", 500), ("ServiceUnavailableException", 503)],
)
def test_throttling_and_trouble_pass(code: str, status: int, toy: ToyAws, credentials: None) -> None:
    toy.refuse(code, status)
    with pytest.raises(TransientError, match=f"temporarily unavailable .*{code}"):
        Secrets().resolve(token("ssm:///beta9/token"))
    assert len(toy.calls) == access.TRIES


def test_one_throttled_call_is_tried_again(toy: ToyAws, credentials: None) -> None:
    toy.refuse("ThrottlingException")
    toy.answers.append((200, {"Parameter": {"Name": "/beta9/token", "Value": TOKEN}}))
    assert Secrets().resolve(token("ssm:///beta9/token")) == TOKEN


def test_a_request_that_aws_does_not_accept_is_a_mistake_in_the_settings(
    toy: ToyAws, credentials: None
) -> None:
    toy.refuse("ValidationException")
    with pytest.raises(SettingsError, match="not accepted"):
        Secrets().resolve(token("ssm:///beta9/token"))
    assert len(toy.calls) == 1


def test_no_network_may_pass(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TransientError, match="cannot be reached"):
        Secrets().resolve(token("secretsmanager://machine#token"))


def test_a_store_that_never_answers_is_given_up(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TransientError, match="cannot be reached"):
            Secrets().resolve(token("ssm:///beta9/token"))


def test_no_credentials_are_said(toy: ToyAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    with pytest.raises(RejectedError, match="has no AWS credentials"):
        Secrets(toy.url).resolve(token("ssm:///beta9/token"))
    assert not toy.calls


def test_no_region_is_said(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(SettingsError, match=r"no AWS region is configured.*set AWS_REGION"):
        Secrets(f"http://127.0.0.1:{closed_port()}").resolve(token("ssm:///beta9/token"))


def test_a_profile_that_is_not_there_is_said(credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(SettingsError, match="nowhere"):
        Secrets().resolve(token("ssm:///beta9/token"))


def test_region_and_role_come_from_the_metadata_service(toy: ToyAws) -> None:
    toy.metadata = {
        "/latest/meta-data/placement/region": "us-west-2",
        "/latest/meta-data/iam/security-credentials/": "worker",
        "/latest/meta-data/iam/security-credentials/worker": json.dumps(
            {
                "Code": "Success",
                "AccessKeyId": "ASIAROLE",
                "SecretAccessKey": "of-the-role",
                "Token": "session",
                "Expiration": "2999-01-01T00:00:00Z",
            }
        ),
    }
    toy.answers.append((200, {"Parameter": {"Name": "/beta9/token", "Value": TOKEN}}))
    assert Secrets(toy.url).resolve(token("ssm:///beta9/token")) == TOKEN
    assert "Credential=ASIAROLE/" in toy.calls[0]["Authorization"]
    assert "/us-west-2/ssm/" in toy.calls[0]["Authorization"]
