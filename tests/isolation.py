"""A pytest plugin: each xdist worker in network and mount namespaces of its own, and the longest tests first.

    pytest -p tests.isolation --isolate -n 4 -m fault

What tests of a whole host share (loopback, its ports and its connection table, the named network namespaces) every
worker then has for itself, so that tests which measure run side by side. A plugin, not a part of conftest.py: the
workers' command line is settled before any conftest is read. Needs root.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

MEASURED = Path(__file__).with_name("durations.json")
"""Seconds that each test took, by node id; written by `python -m scripts.faults --durations`."""
UNMEASURED_S = 30.0
"""A test that nobody has measured yet is begun early, since it may be a long one."""
_ENTER = Path(__file__).with_name("isolate.sh")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--isolate", action="store_true", help="give each xdist worker namespaces of its own (needs root)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start xdist's workers through unshare(1); runs before xdist reads the option."""
    if not config.getoption("--isolate") or not config.option.tx:
        return
    if os.geteuid() != 0:
        raise pytest.UsageError("--isolate needs root: network and mount namespaces of one's own")
    command = f"unshare --net --mount {_ENTER} {sys.executable}"
    config.option.tx = [f"popen//python={command}"] * len(config.option.tx)
    # One test at a time, to whoever is done; tests that share an outage of a minute stay together.
    config.option.dist = "loadgroup"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that the workers end at about the same time."""
    if config.getoption("--isolate"):
        measured = json.loads(MEASURED.read_text(encoding="utf-8"))
        items.sort(key=lambda item: -measured.get(item.nodeid, UNMEASURED_S))
