"""One stand-in for AWS a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.standin import CREDENTIALS, Aws, serving


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An empty AWS; boto3 here finds it by the environment."""
    with serving() as served:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": served.url}.items():
            monkeypatch.setenv(name, value)
        yield served
