"""A machine whose tools step has something to install, from a repository beside those of tests/shell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.shell.packages import Package, publish
from tests.shell.throwaway import Throwaway


@pytest.fixture
def machine(copy_of_machine: Callable[[str], Throwaway]) -> Throwaway:
    """Debian 12 without nftables, which the repository /site/tools has."""
    copy = copy_of_machine("debian-12")
    copy.run("dpkg", "--purge", "--force-depends", "nftables")
    publish(copy.path("/site/tools"), [Package("nftables", "1.0.6-2", files={"/usr/bin/nft": "#!/bin/sh\n"})])
    copy.write("/etc/apt/sources.list", "deb [trusted=yes] file:/site/tools /\n")
    return copy
