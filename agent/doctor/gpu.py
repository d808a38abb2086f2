"""Checks of the GPUs and of what containers need to use them: driver, toolkit, Docker, fabric manager."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from agent.adapters.process.run import CommandFailed, CommandNotFound, run
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn

NVIDIA_VENDOR = "0x10de"
"""PCI vendor id."""
PCI = Path("/sys/bus/pci/devices")
DRIVER = Path("/proc/driver/nvidia/version")
SWITCHES = (Path("/proc/driver/nvidia-nvswitch/devices"), Path("/dev/nvidia-nvswitchctl"))
FABRIC_MANAGER = "nv-fabricmanager"
DOCKER_TIMEOUT_S = 5


def _boards(_case: Case) -> Finding:
    boards = [device.name for device in _pci_devices() if _is_nvidia_gpu(device)]
    if boards:
        return ok(f"{len(boards)} NVIDIA GPUs on the PCI bus ({', '.join(boards)})", found=len(boards))
    if DRIVER.exists():
        return ok("NVIDIA's driver is loaded", found=0)
    return skip("no NVIDIA GPU on the PCI bus, which is fine for a pool without GPUs")


def _pci_devices() -> list[Path]:
    return sorted(PCI.iterdir()) if PCI.is_dir() else []


def _is_nvidia_gpu(device: Path) -> bool:
    """Return whether it is an NVIDIA display controller (PCI class 0x03…), which includes data center GPUs."""
    try:
        vendor, pci_class = (device / "vendor").read_text(), (device / "class").read_text()
    except OSError:  # it was removed in the meantime
        return False
    return vendor.strip() == NVIDIA_VENDOR and pci_class.startswith("0x03")


def _driver(case: Case) -> Finding:
    fix = "install NVIDIA's driver (the bootstrap does so), and reboot if that installed a new kernel"
    try:
        done = run(["nvidia-smi", "-L"], 8)
    except CommandNotFound:
        return fail("nvidia-smi is not installed", fix)
    except CommandFailed as error:
        return fail(f"nvidia-smi: {_first_line(error.stdout or error.stderr) or error}", fix)
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    if not listed:
        return fail("nvidia-smi lists no GPU", fix)
    names = ", ".join(sorted({re.sub(r"^GPU \d+: | \(UUID.*", "", line) for line in listed}))
    seen = f"{len(listed)} × {names}, driver {_driver_version()}"  # noqa: RUF001 - the multiplication sign is meant
    on_bus = case.found("gpu", int)
    if on_bus and len(listed) < on_bus:
        return fail(
            f"{seen}, but {on_bus} on the PCI bus",
            "a GPU fell off the bus: see 'dmesg | grep -i xid' and reboot; if it stays away, report it to the cloud",
        )
    return ok(seen, found=len(listed))


def _driver_version() -> str:
    try:
        found = re.search(r"\s(\d{3}\.[\d.]+)\s", DRIVER.read_text(encoding="utf-8"))
    except OSError:
        return "unknown"
    return found[1] if found else "unknown"


def _toolkit(_case: Case) -> Finding:
    try:
        done = run(["nvidia-ctk", "--version"], 5)
    except CommandNotFound:
        runtime = shutil.which("nvidia-container-runtime")
        if runtime:
            return ok(runtime)
        return fail("nvidia-ctk is not installed", "install nvidia-container-toolkit (the bootstrap does so)")
    except CommandFailed as error:
        return fail(str(error), "reinstall nvidia-container-toolkit")
    return ok(_first_line(done.stdout))


def _fabric_manager(_case: Case) -> Finding:
    if not any(path.exists() for path in SWITCHES):
        return skip("no NVSwitch on this machine")
    import psutil  # noqa: PLC0415 - 30 ms, needed only here

    # The kernel truncates process names to 15 characters.
    names = {process.info["name"] for process in psutil.process_iter(["name"])}
    if any(name and FABRIC_MANAGER.startswith(name[:15]) and len(name) >= 15 for name in names):
        return ok(f"{FABRIC_MANAGER} is running")
    return fail(
        "there are NVSwitches but no running fabric manager: CUDA fails on every GPU",
        "install nvidia-fabricmanager in the driver's version, then 'systemctl enable --now nvidia-fabricmanager'",
    )


def _docker(_case: Case) -> Finding:
    import docker  # noqa: PLC0415 - 150 ms, needed only here

    try:
        client = docker.from_env(timeout=DOCKER_TIMEOUT_S)
        info = client.info()
        client.close()
    except docker.errors.DockerException as error:
        return warn(
            f"Docker does not answer ({_short(error)})",
            "the agent's image needs Docker: run the bootstrap, which installs it, or see 'systemctl status docker'",
        )
    runtimes = sorted(info.get("Runtimes") or {})
    return ok(f"Docker {info.get('ServerVersion')}, runtimes {', '.join(runtimes)}", found=runtimes)


def _docker_runtime(case: Case) -> Finding:
    if "nvidia" in (case.found("docker", list) or ()):
        return ok("Docker has the runtime 'nvidia'")
    return warn(
        "Docker lacks the runtime 'nvidia'",
        "'nvidia-ctk runtime configure --runtime=docker', then 'systemctl restart docker'; k3s needs no configuration",
    )


def _short(error: Exception) -> str:
    """Return the reason at the end of a long chain of wrapped errors."""
    text = str(error)
    found = re.search(r"\w+Error\(\d+, '([^']+)'\)", text)
    return found[1] if found else text[:150]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]


CHECKS = (
    Check("gpu", _boards),
    Check("nvidia driver", _driver, ("gpu",)),
    Check("container toolkit", _toolkit, ("gpu",)),
    Check("fabric manager", _fabric_manager, ("gpu",)),
    Check("docker", _docker),
    Check("docker nvidia runtime", _docker_runtime, ("gpu", "docker")),
)
