"""Secrets in AWS Parameter Store and Secrets Manager, against moto's server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.adapters.secrets.resolver import Secrets
from agent.errors import SettingsError
from agent.settings import SecretRef
from tests.integration.runtime.secret_sources.toy_aws import REGION, TOKEN, token


def test_a_parameter_is_fetched_and_a_rotated_one_fetched_again(store: Any) -> None:
    ssm = store.client("ssm")
    ssm.put_parameter(Name="/beta9/token", Value=TOKEN, Type="SecureString")
    secrets = Secrets()
    assert secrets.resolve(token("ssm:///beta9/token")) == TOKEN
    ssm.put_parameter(Name="/beta9/token", Value="rotated\n", Type="SecureString", Overwrite=True)
    assert secrets.resolve(token("ssm:///beta9/token")) == "rotated"


def test_a_parameter_without_a_path_is_spelled_with_two_slashes(store: Any) -> None:
    store.client("ssm").put_parameter(Name="token", Value=TOKEN, Type="String")
    assert Secrets().resolve(token("ssm://token")) == TOKEN


def test_a_secret_is_fetched_whole_or_by_json_key(store: Any) -> None:
    manager = store.client("secretsmanager")
    manager.create_secret(Name="plain", SecretString=TOKEN)
    arn = manager.create_secret(Name="machine", SecretString=json.dumps({"token": TOKEN, "n": 1}))["ARN"]
    manager.create_secret(Name="binary", SecretBinary=TOKEN.encode())
    for reference in ("plain", "machine#token", f"{arn}#token", "binary"):
        assert Secrets().resolve(token(f"secretsmanager://{reference}")) == TOKEN


def test_an_entrys_arn_says_its_region(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = store.client("secretsmanager", region_name="us-west-2").create_secret(
        Name="far", SecretString=TOKEN
    )["ARN"]
    assert Secrets().resolve(token(f"secretsmanager://{arn}")) == TOKEN


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("ssm:///beta9/nothing", "no such entry"),
        ("secretsmanager://nothing", "no such entry"),
        ("secretsmanager://machine#tokn", "did you mean 'token'?"),
        ("secretsmanager://machine#password", "has no key 'password' (it has 2 other keys)"),
        ("secretsmanager://machine#n", "the value of 'n' in the entry is not text"),
        ("secretsmanager://plain#token", "is not a JSON object"),
        ("secretsmanager://bytes", "is binary, not text"),
        ("secretsmanager://leaving", "not accepted (InvalidRequestException"),
    ],
)
def test_an_entry_that_cannot_serve_is_a_mistake_in_the_settings(
    reference: str, expected: str, store: Any
) -> None:
    manager = store.client("secretsmanager")
    manager.create_secret(Name="plain", SecretString=TOKEN)
    manager.create_secret(Name="machine", SecretString=json.dumps({"token": TOKEN, "n": 1}))
    manager.create_secret(Name="bytes", SecretBinary=b"\xff\xfe\x00")
    manager.create_secret(Name="leaving", SecretString=TOKEN)
    manager.delete_secret(SecretId="leaving", RecoveryWindowInDays=7)
    with pytest.raises(SettingsError) as caught:
        Secrets().resolve(token(reference))
    message = str(caught.value)
    assert message.startswith(f"BETA9_TOKEN: {reference} in {REGION}: ")
    assert expected in message
    assert TOKEN not in message


def test_what_an_entry_holds_is_checked_like_any_other(store: Any) -> None:
    store.client("ssm").put_parameter(Name="/key", Value="no key at all", Type="String")
    with pytest.raises(SettingsError, match=r"BETA9_SSH_KEY: ssm:///key is not a private key"):
        Secrets().resolve(SecretRef("BETA9_SSH_KEY", reference="ssm:///key"))


def test_messages_never_hold_the_secret(store: Any) -> None:
    store.client("ssm").put_parameter(Name="/t", Value=f"{TOKEN}\n{TOKEN}", Type="String")
    with pytest.raises(SettingsError) as caught:
        Secrets().resolve(token("ssm:///t"))
    assert TOKEN not in str(caught.value)
