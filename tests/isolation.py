"""A pytest plugin that gives each xdist worker its own network and mount namespaces, and runs the longest tests first.

    pytest -p tests.isolation --isolate -n 4 -m fault

Tests of a whole host share loopback, its ports, its connection table and the named network namespaces. With this
plugin each worker has its own, so that tests which measure time can run in parallel. It is a plugin instead of a part
of conftest.py because the workers' command line is fixed before any conftest is read. Needs root.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

MEASURED = Path(__file__).with_name("durations.json")
"""Duration of each test in seconds, by node id; written by `python -m scripts.faults --durations`."""
UNMEASURED_S = 30.0
"""Assumed duration of a test without a measurement: it starts early, since it may be a long one."""
_ENTER = Path(__file__).with_name("isolate.sh")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--isolate", action="store_true", help="give each xdist worker its own namespaces (needs root)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start xdist's workers through unshare(1). Runs before xdist reads its option."""
    if not config.getoption("--isolate") or not config.option.tx:
        return
    if os.geteuid() != 0:
        raise pytest.UsageError("--isolate needs root to create network and mount namespaces")
    command = f"unshare --net --mount {_ENTER} {sys.executable}"
    config.option.tx = [f"popen//python={command}"] * len(config.option.tx)
    # Each worker takes one test at a time; tests of one xdist_group (which share a fixture) stay together.
    config.option.dist = "loadgroup"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest tests first, so that the workers finish at about the same time."""
    if config.getoption("--isolate"):
        durations_s = json.loads(MEASURED.read_text(encoding="utf-8"))
        items.sort(key=lambda item: -durations_s.get(item.nodeid, UNMEASURED_S))
