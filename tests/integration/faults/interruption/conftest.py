"""A stand-in for the cloud's metadata service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.metadata_service import MetadataService


@pytest.fixture
def cloud() -> Iterator[MetadataService]:
    with MetadataService() as service:
        yield service
