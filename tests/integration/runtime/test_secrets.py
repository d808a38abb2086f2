"""Secrets as they are now: from files, from real AWS APIs (moto's server), and every way in which that fails."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.aws import access
from agent.adapters.secrets.resolver import Secrets
from agent.errors import RejectedError, SettingsError, TransientError
from agent.settings import SecretRef

TOKEN = "swwMV_WA4C_FxN-_UY5UiRgdg2dTM1GUDLVUzO9c6fzyOs0BUJuXKLfxb-QcZkwAnlOGscu0U3WYmF1eQpcSBg=="
REGION = "eu-central-1"


def token(reference: str) -> SecretRef:
    return SecretRef("BETA9_TOKEN", reference=reference)


@pytest.fixture(autouse=True)
def _aws_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, region or endpoint but those a test gives."""
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
    """A boto3 session against moto, emptied after the test."""
    import boto3
    import requests

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    yield boto3.session.Session(region_name=REGION)
    requests.post(f"{moto_url}/moto-api/reset", timeout=10)


class ToyAws:
    """Stands for what moto cannot answer: AWS that refuses, throttles or fails, and instance metadata.

    Errors have the form that AWS documents for its JSON protocols (an HTTP status, and a body with `__type` and
    `message`); the metadata service is version 2 (a PUT for a session token, without which nothing is told).
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.calls: list[dict[str, str]] = []
        self.metadata: dict[str, str] = {}
        toy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                toy.calls.append(dict(self.headers))
                status, body = toy.answers[min(len(toy.calls), len(toy.answers)) - 1]
                self._answer(status, json.dumps(body))

            def do_PUT(self) -> None:
                self._answer(200 if toy.metadata else 404, "session-token")

            def do_GET(self) -> None:
                known = self.headers.get("X-aws-ec2-metadata-token") == "session-token"
                text = toy.metadata.get(self.path)
                self._answer(401 if not known else 404 if text is None else 200, text or "")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def refuses(self, code: str, status: int = 400) -> None:
        self.answers.append((status, {"__type": code, "message": "said by the toy"}))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyAws]:
    toy = ToyAws()
    monkeypatch.setenv("AWS_ENDPOINT_URL", toy.url)
    yield toy
    toy.close()


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- values and files ---------------------------------------------------------------------------------------


def test_a_value_is_carried_unchanged() -> None:
    odd = "q'uo\"te$(x)`\\; &|" + "x" * 10_240
    assert Secrets().resolve(SecretRef("BETA9_TOKEN", value=odd)) == odd


def test_a_file_is_read_anew_each_time_and_its_line_end_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    ref = SecretRef("BETA9_TOKEN", file=file)
    secrets = Secrets()
    assert secrets.resolve(ref) == TOKEN
    file.write_text("rotated\r\n")
    assert secrets.resolve(ref) == "rotated"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Path.exists, "No such file"),
        (lambda file: file.mkdir(), "not a regular file"),
        (lambda file: file.write_text(" \n"), "is empty"),
        (lambda file: file.write_text("x" * 70_000), "more than any secret"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "not text"),
        (lambda file: file.write_text("two\nlines"), "line break"),
    ],
)
def test_a_file_that_cannot_serve_is_named_with_the_reason(make: Any, says: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    make(file)
    with pytest.raises(SettingsError) as caught:
        Secrets().resolve(SecretRef("BETA9_TOKEN", file=file))
    assert "BETA9_TOKEN" in str(caught.value)
    assert str(file) in str(caught.value)
    assert says in str(caught.value)


def test_every_secret_is_learned_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("two\nlines")
    learned: list[str] = []
    with pytest.raises(SettingsError):
        Secrets(learned=learned.append).resolve(SecretRef("BETA9_TOKEN", file=tmp_path / "token"))
    assert learned == ["two\nlines"]


# --- AWS, against moto's server -----------------------------------------------------------------------------


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
    ("reference", "says"),
    [
        ("ssm:///beta9/nothing", "no such entry"),
        ("secretsmanager://nothing", "no such entry"),
        ("secretsmanager://machine#tokn", "did you mean 'token'?"),
        ("secretsmanager://machine#password", "has no key 'password' (it has 2 others)"),
        ("secretsmanager://machine#n", "under 'n' is no text"),
        ("secretsmanager://plain#token", "is no JSON object"),
        ("secretsmanager://bytes", "is binary and no text"),
        ("secretsmanager://leaving", "not accepted (InvalidRequestException"),
    ],
)
def test_an_entry_that_cannot_serve_is_a_mistake_in_the_settings(
    reference: str, says: str, store: Any
) -> None:
    manager = store.client("secretsmanager")
    manager.create_secret(Name="plain", SecretString=TOKEN)
    manager.create_secret(Name="machine", SecretString=json.dumps({"token": TOKEN, "n": 1}))
    manager.create_secret(Name="bytes", SecretBinary=b"\xff\xfe")
    manager.create_secret(Name="leaving", SecretString=TOKEN)
    manager.delete_secret(SecretId="leaving", RecoveryWindowInDays=7)
    with pytest.raises(SettingsError) as caught:
        Secrets().resolve(token(reference))
    message = str(caught.value)
    assert message.startswith(f"BETA9_TOKEN: {reference} in {REGION}: ")
    assert says in message
    assert TOKEN not in message


def test_what_an_entry_holds_is_checked_like_any_other(store: Any) -> None:
    store.client("ssm").put_parameter(Name="/key", Value="no key at all", Type="String")
    with pytest.raises(SettingsError, match=r"BETA9_SSH_KEY: ssm:///key is not a private key"):
        Secrets().resolve(SecretRef("BETA9_SSH_KEY", reference="ssm:///key"))


# --- AWS that refuses, throttles, or is not there -----------------------------------------------------------


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
    toy.refuses(code)
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
    toy.refuses(code, status)
    with pytest.raises(TransientError, match=f"not answered now .*{code}"):
        Secrets().resolve(token("ssm:///beta9/token"))
    assert len(toy.calls) == access.TRIES


def test_one_throttled_call_is_tried_again(toy: ToyAws, credentials: None) -> None:
    toy.refuses("ThrottlingException")
    toy.answers.append((200, {"Parameter": {"Name": "/beta9/token", "Value": TOKEN}}))
    assert Secrets().resolve(token("ssm:///beta9/token")) == TOKEN


def test_a_request_that_aws_does_not_accept_is_a_mistake_in_the_settings(
    toy: ToyAws, credentials: None
) -> None:
    toy.refuses("ValidationException")
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
    with pytest.raises(SettingsError, match=r"no AWS region is known.*set AWS_REGION"):
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


def test_messages_never_hold_the_secret(store: Any) -> None:
    store.client("ssm").put_parameter(Name="/t", Value=f"{TOKEN}\n{TOKEN}", Type="String")
    with pytest.raises(SettingsError) as caught:
        Secrets().resolve(token("ssm:///t"))
    assert TOKEN not in str(caught.value)
