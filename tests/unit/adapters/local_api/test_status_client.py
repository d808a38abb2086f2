"""The address that `health` and `status` use: from the option, the environment, worker.env, or the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.local_api import status_client


@pytest.fixture
def worker_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(status_client, "ETC", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BETA9_STATUS_ADDR", raising=False)
    return tmp_path / "worker.env"


def error_of_request() -> str:
    """Return the error, which names the address: nothing listens on such low ports."""
    return status_client.ask(None, "/healthz", timeout_s=1).problem


def test_a_settings_file_is_heeded_as_by_the_agent(worker_env: Path) -> None:
    worker_env.write_text("BETA9_POOL_NAME=gpu\nBETA9_STATUS_ADDR=127.0.0.1:1\n", encoding="utf-8")
    assert "127.0.0.1:1 " in error_of_request()


def test_the_environment_goes_before_it(worker_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker_env.write_text("BETA9_STATUS_ADDR=127.0.0.1:1\n", encoding="utf-8")
    monkeypatch.setenv("BETA9_STATUS_ADDR", "127.0.0.1:2")
    assert "127.0.0.1:2 " in error_of_request()


def test_without_either_it_is_the_default(worker_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_client, "DEFAULT_ADDRESS", "127.0.0.1:3")
    assert "127.0.0.1:3 " in error_of_request()
