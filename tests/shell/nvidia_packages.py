"""The packages of Ubuntu's and NVIDIA's repositories that the steps use: real names, versions and dependencies, with
made-up contents."""

from __future__ import annotations

from pathlib import Path

from tests.shell.packages import Key, Package, publish
from tests.shell.throwaway import Throwaway

DRIVER = "580.159.03"
OLDER = "580.126.09"
TOOLKIT = "1.20.1-1"
UBUNTU = "-0ubuntu0.24.04.1"

SMI = """#!/bin/bash
# Stands in for nvidia-smi: prints a recording, depending on which module is loaded.
echo "$*" >>/standin/nvidia-smi.calls
if [[ ! -e /sys/module/nvidia/version ]]; then cat /standin/smi-failed; exit 9; fi
if ! cmp -s /sys/module/nvidia/version /usr/lib/nvidia-module/library; then cat /standin/smi-mismatch; exit 18; fi
case $1 in
  -L) cat /standin/smi-L ;;
  -q) cat /standin/smi-q ;;
  --query-gpu=pci.bus_id) cat /standin/smi-bus ;;
  *) exit 2 ;;
esac
"""
UBUNTU_DRIVERS = """#!/bin/bash
echo "$*" >>/standin/ubuntu-drivers.calls
[[ ! -e /standin/no-driver-known ]] || { echo "No drivers found for installation."; exit 0; }
exec apt-get install -y nvidia-headless-no-dkms-580-server linux-modules-nvidia-580-server-aws
"""
CTK = """#!/usr/bin/env python3
import json, os, sys
open("/standin/nvidia-ctk.calls", "a").write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "--version":
    print("NVIDIA Container Toolkit CLI version VERSION\\ncommit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d")
elif sys.argv[1] == "runtime":
    path = next(word.split("=", 1)[1] for word in sys.argv if word.startswith("--config="))
    config = json.load(open(path)) if os.path.exists(path) else {}
    config.setdefault("runtimes", {})["nvidia"] = {"args": [], "path": "nvidia-container-runtime"}
    json.dump(config, open(path, "w"), indent=4)
else:
    for minor, name in ((0, "nvidia0"), (255, "nvidiactl")):
        try:
            os.symlink(f"/dev/{name}", f"/dev/char/195:{minor}")
        except FileExistsError as error:
            print(f"Could not create symlink: {error}", file=sys.stderr)
"""


def module(name: str, version: str, *depends: str, revision: str = UBUNTU) -> Package:
    files = {
        "/usr/lib/nvidia-module/version": version + "\n",
        "/usr/lib/nvidia-module/library": version + "\n",
    }
    return Package(name, version + revision, depends, files)


def fabric(name: str, version: str, revision: str) -> Package:
    program = f'#!/bin/bash\nprintf "\\n\\tFabric Manager version is : {version}\\n\\n"\n'
    return Package(name, version + revision, files={"/usr/bin/nv-fabricmanager": program})


def toolkit(version: str) -> list[Package]:
    nothing = "#!/bin/sh\n"
    base = {
        "/usr/bin/nvidia-ctk": CTK.replace("VERSION", version[:-2]),
        "/usr/bin/nvidia-container-runtime": nothing,
    }
    tools = {"/usr/bin/nvidia-container-cli": nothing}
    return [
        Package("libnvidia-container1", version),
        Package("libnvidia-container-tools", version, (f"libnvidia-container1 (>= {version})",), tools),
        Package("nvidia-container-toolkit-base", version, files=base),
        Package(
            "nvidia-container-toolkit",
            version,
            (f"nvidia-container-toolkit-base (= {version})", f"libnvidia-container-tools (= {version})"),
        ),
    ]


def distribution() -> list[Package]:
    """Ubuntu's archive, and container toolkits that a machine image may contain."""
    return [
        Package("ubuntu-drivers-common", "1:0.9.7.6", files={"/usr/bin/ubuntu-drivers": UBUNTU_DRIVERS}),
        Package("nvidia-kernel-common-580-server", DRIVER + UBUNTU),
        Package("nvidia-headless-no-dkms-580-server", DRIVER + UBUNTU, ("nvidia-kernel-common-580-server",)),
        module("linux-modules-nvidia-580-server-aws", DRIVER),
        Package("nvidia-utils-580-server", DRIVER + UBUNTU, files={"/usr/bin/nvidia-smi": SMI}),
        Package("linux-headers-6.8.0-1015-aws", "6.8.0-1015.16"),
        fabric("nvidia-fabricmanager-580", OLDER, UBUNTU),
        fabric("nvidia-fabricmanager-580", DRIVER, UBUNTU),
        *toolkit("1.17.7-1"),
        *toolkit("1.17.8-1"),
    ]


def nvidia() -> list[Package]:
    """NVIDIA's repository for Debian 12: names have no branch; the pinning packages select one."""
    return [
        Package("nvidia-driver-pinning-580", DRIVER + "-1"),
        Package("nvidia-driver-cuda", DRIVER + "-1", files={"/usr/bin/nvidia-smi": SMI}),
        module("nvidia-kernel-open-dkms", DRIVER, revision="-1"),
        module("nvidia-kernel-dkms", DRIVER, revision="-1"),
        fabric("nvidia-fabricmanager", DRIVER, "-1"),
        Package("nvlsm", "2025.10.12-1"),
    ]


def make(directory: Path) -> Key:
    """Create three repositories in `directory`; return the key that signs NVIDIA's two."""
    key = Key(directory.parent / "keys")
    publish(directory / "distribution", distribution())
    publish(directory / "nvidia", nvidia(), key)
    publish(directory / "toolkit", toolkit(TOOLKIT), key)
    key.export(directory / "nvidia" / "3bf863cc.pub")
    key.export(directory / "toolkit" / "gpgkey")
    return key


def given_driver(machine: Throwaway, loaded: str = DRIVER) -> None:
    """Install a driver without packages; `loaded` is the version of the loaded module."""
    machine.write("/usr/bin/nvidia-smi", SMI, 0o755)
    for name in ("version", "library"):
        machine.write(f"/usr/lib/nvidia-module/{name}", DRIVER + "\n")
    machine.write("/sys/module/nvidia/version", loaded + "\n")


def given_toolkit(machine: Throwaway, version: str = TOOLKIT) -> None:
    """Install nvidia-ctk without packages."""
    machine.write("/usr/bin/nvidia-ctk", CTK.replace("VERSION", version[:-2]), 0o755)
