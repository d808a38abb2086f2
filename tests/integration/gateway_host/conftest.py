"""A host to check, a site for setup.sh, and a worker's key."""

from __future__ import annotations

import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.sshd.program import free_port
from tests.integration.gateway_host.check_program import Host
from tests.integration.gateway_host.relay_host import RelayHost
from tests.integration.gateway_host.setup_site import Site
from tests.integration.netns import wire


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # Not below the world-writable /tmp, where StrictModes would refuse every key.
    directory = Path(tempfile.mkdtemp(prefix="b9h-", dir="/run"))
    directory.chmod(0o755)
    # `daemon` exists on every Linux, is not root, and is not locked.
    host = Host(directory, "daemon")
    try:
        yield host
    finally:
        host.stop()
        shutil.rmtree(directory)


@pytest.fixture
def site() -> Iterator[Site]:
    name = f"b9t-{secrets.token_hex(3)}"
    directory = Path("/run") / name
    directory.mkdir(mode=0o755)
    site = Site(directory, name, free_port("127.0.0.1"))
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key")], check=True
    )
    site.config.write_text(
        f"Include {directory}/sshd_config.d/*.conf\nPort {site.port}\nListenAddress 127.0.0.1\n"
        f"HostKey {directory}/host_key\nPidFile {directory}/pid\nUsePAM no\nLogLevel VERBOSE\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    try:
        yield site
    finally:
        site.setup("--remove")
        shutil.rmtree(directory)
        assert name not in {entry.pw_name for entry in pwd.getpwall()}
        assert not Path(f"/var/lib/{name}").exists()


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    key = tmp_path / "worker"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "worker", "-f", str(key)], check=True
    )
    return key


@pytest.fixture
def relay_host(site: Site, tmp_path: Path) -> Iterator[RelayHost]:
    with wire() as wired:
        host = RelayHost(site, wired.far, tmp_path)
        try:
            yield host
        finally:
            host.setup("--remove")
            assert host.left_behind() == []
