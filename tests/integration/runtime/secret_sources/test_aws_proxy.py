"""A site whose only way out is an HTTP proxy: the agent's own calls to AWS go through the one in worker.env."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.shell.common.flaky_server import Proxy, serving

TOKEN = "token-of-the-store"
PASSWORD = "p%40ss-sEcReT"


@pytest.fixture
def proxy(store: Any, moto_url: str) -> Iterator[Proxy]:
    """A proxy with a login, behind which `http://aws.invalid` is AWS, with a token in its parameter store."""
    store.client("ssm").put_parameter(Name="/beta9/token", Value=TOKEN, Type="SecureString")
    with serving(Proxy(moto_url, login=f"user:{PASSWORD.replace('%40', '@')}")) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("setting", "goes_through"),
    [("http_proxy={}", True), ("HTTP_PROXY = '{}'", True), ("http_proxy={}\nno_proxy=.invalid", False)],
)
def test_the_token_of_a_store_is_read_through_the_proxy(
    proxy: Proxy, tmp_path: Path, setting: str, goes_through: bool
) -> None:
    """Field case 14.1. There is no name server here, so `aws.invalid` is reached through the proxy or not at all."""
    address = proxy.url.replace("//", f"//user:{PASSWORD}@")
    file = tmp_path / "worker.env"
    file.write_text(
        f"BETA9_POOL_NAME=gpu\nBETA9_TOKEN=ssm:///beta9/token\nBETA9_K3S=none\nBETA9_STATE_DIR={tmp_path}/state\n"
        f"BETA9_STATUS_ADDR=127.0.0.1:0\nBETA9_GATEWAY_PORT=9\n{setting.format(address)}\n"
    )
    doctor = [sys.executable, "-m", "agent", "doctor", "--env-file", str(file), "--outbound", "127.0.0.1:9"]
    done = subprocess.run(
        doctor,
        cwd=ROOT,
        env={**os.environ, "AWS_ENDPOINT_URL": "http://aws.invalid"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    line = next(line for line in done.stdout.splitlines() if "token setting" in line)
    assert line.strip().startswith("ok" if goes_through else "FAIL"), line
    assert ("POST http://aws.invalid/" in proxy.requests) == goes_through
    assert "sEcReT" not in done.stdout + done.stderr
