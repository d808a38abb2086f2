"""A stand-in for AWS per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.aws.standin import CREDENTIALS, Aws, serving


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An empty AWS, which boto3 finds through the environment."""
    with serving() as served:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": served.url}.items():
            monkeypatch.setenv(name, value)
        yield served
