"""The installation of a GPU machine without a network: files from a directory, packages from mirrors on disk.

The machine is a copy of this one in a network namespace without interfaces. Docker, systemd and k3s are the
stand-ins of tests/shell/install; apt, dpkg and all checksums and signatures are real.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest

from tests.shell.conftest import Repositories
from tests.shell.nvidia_packages import DRIVER, TOOLKIT
from tests.shell.throwaway import HERE, Throwaway, requires_root

pytestmark = requires_root
Machines = Callable[[str], Throwaway]
STUBS = HERE / "install" / "stubs"
IMAGES = "/var/lib/rancher/k3s/agent/images"

K3S = """#!/bin/bash
case "$*" in
  *'get nodes'*) echo True ;;
  *'get node '*) echo 1 ;;
  *'kubectl diff'*) [[ -e /standin/applied ]] ;;
  *'kubectl apply'*) touch /standin/applied ;;
esac
"""
CURL = '#!/bin/bash\necho "$*" >>/standin/curl.calls\necho "curl: (6) Could not resolve host" >&2\nexit 6\n'


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def site(copy_of_machine: Machines, repositories: Repositories) -> Throwaway:
    """An Ubuntu machine with a T4; /files contains what its administrator copied there."""
    machine = copy_of_machine("ubuntu-24.04")
    machine.pci("lspci-t4")
    machine.recorded("smi-L-t4", "smi-L")
    machine.write("/standin/smi-bus", "00000000:00:1E.0\n")
    machine.write("/standin/uname", "6.8.0-1015-aws\n")
    for name in ("docker", "systemctl"):
        machine.write(f"/usr/local/bin/{name}", (STUBS / name).read_text(), 0o755)
    machine.write("/usr/local/bin/curl", CURL, 0o755)
    for name in ("nft", "ss", "ufw"):
        machine.write(f"/usr/local/bin/{name}", "#!/bin/sh\nexit 0\n", 0o755)
    machine.path("/usr/local/bin/k3s").unlink()
    machine.write("/standin/docker-here", "")
    files = {
        "k3s": K3S,
        "install.sh": (STUBS / "k3s-install.sh").read_text(),
        "k3s-airgap-images-amd64.tar.zst": "k3s' images",
        "images/device-plugin.tar": "the device plugin's image",
        "agent.tar": "the agent's image",
        "gpgkey": (repositories.directory / "toolkit/gpgkey").read_text(),
    }
    for name, content in files.items():
        machine.write(f"/files/{name}", content)
    settings = {
        **repositories.settings,
        "BETA9_POOL_NAME": "gpu",
        "BETA9_TOKEN": "token",
        "BETA9_FILES_DIR": "/files",
        "BETA9_REQUIRE_PINS": "1",
        "BETA9_K3S_SHA256": sha256(files["k3s"]),
        "BETA9_K3S_INSTALL_SHA256": sha256(files["install.sh"]),
        "BETA9_K3S_IMAGES_SHA256": sha256(files["k3s-airgap-images-amd64.tar.zst"]),
        "BETA9_AGENT_IMAGE": f"https://releases.example/agent.tar#sha256={sha256(files['agent.tar'])}",
        "BETA9_TOOLKIT_KEY_URL": "https://nvidia.github.io/libnvidia-container/gpgkey",
        "BETA9_SCRATCH_DISK": "none",
        "BETA9_MIN_FREE_MIB": "1",
    }
    lines = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    machine.write("/etc/beta9-worker/worker.env", lines, 0o600)
    return machine


def install(machine: Throwaway) -> str:
    """Run the installer; return the text on the console."""
    environment = {
        "STUB_STATE": "/standin",
        "BETA9_CONSOLE": "/tmp/console",
        "BETA9_POLL": "0.1",
        "BETA9_RETRY_DELAY": "0",
    }
    done = machine.run("bash", "/bootstrap/install.sh", env=environment)
    assert done.returncode in (0, 1), done.stderr
    machine.write("/standin/output", done.stdout + done.stderr)
    return machine.read("/tmp/console")


def timeline(machine: Throwaway) -> dict[str, str]:
    report = json.loads(machine.read("/var/lib/beta9-worker/bootstrap.json"))
    return {stage["name"]: stage["result"] for stage in report["stages"]}


def test_a_gpu_machine_without_a_network_becomes_a_worker(site: Throwaway) -> None:
    links = site.run("ip", "-oneline", "link", "show", "up").stdout
    assert links == "", "no interface is up, not even loopback"
    console = install(site)
    assert "done, " in console, site.read("/standin/output")
    assert set(timeline(site).values()) <= {"ok", "skipped"}
    assert site.called("curl") == []
    assert site.installed("linux-modules-nvidia-580-server-aws").startswith(DRIVER)
    assert site.installed("nvidia-container-toolkit") == TOOLKIT
    assert site.read(f"{IMAGES}/k3s-airgap-images-amd64.tar.zst") == "k3s' images"
    assert site.read(f"{IMAGES}/device-plugin.tar") == "the device plugin's image"
    assert "default-runtime: nvidia" in site.read("/etc/rancher/k3s/config.yaml")
    assert "AGENT_OPTIONS=--gpus all" in site.read("/var/lib/beta9-worker/bootstrap/agent.env")
    assert "warning" not in console, "every file is pinned"

    again = install(site)
    assert "done, 0 changes" in again.splitlines()[-1], site.read("/standin/output")


def test_a_missing_file_is_reported_with_the_directory_for_it(site: Throwaway) -> None:
    site.path("/files/install.sh").unlink()
    console = install(site)
    assert "FAILED in stage 'k3s-files': could not download https://raw.githubusercontent.com/" in console
    assert "or put the file into BETA9_FILES_DIR" in console
    assert len(site.called("curl")) == 6, "of the one file that is missing"


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ("", "BETA9_K3S_IMAGES_SHA256 is not pinned"),
        ("0" * 64, "differs from BETA9_K3S_IMAGES_SHA256"),
    ],
)
def test_k3s_images_must_match_their_pin(site: Throwaway, pin: str, message: str) -> None:
    settings = site.read("/etc/beta9-worker/worker.env").splitlines()
    kept = [line for line in settings if not line.startswith("BETA9_K3S_IMAGES_SHA256=")]
    site.write("/etc/beta9-worker/worker.env", "\n".join([*kept, f"BETA9_K3S_IMAGES_SHA256={pin}", ""]))
    result = site.step("k3s-files", BETA9_ENV_FILE="/etc/beta9-worker/worker.env")
    assert result.code == 1
    assert message in result.reason
    assert not site.path(IMAGES).exists()


def test_a_modified_file_is_refused(site: Throwaway) -> None:
    site.write("/files/k3s", K3S + "# and more\n")
    console = install(site)
    assert "FAILED in stage 'k3s-files'" in console
    assert "the checksum is" in console
    assert not site.path("/usr/local/bin/k3s").exists()
