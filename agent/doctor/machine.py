"""Checks of the machine itself: system, user, programs, settings, secrets, disk, cgroups, FUSE."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from agent.adapters.host.facts import read_host
from agent.adapters.process.run import CommandFailed, CommandNotFound, run
from agent.adapters.secrets.resolver import Secrets
from agent.adapters.ssh.private_key import check_private_key
from agent.doctor.case import Case
from agent.doctor.check import Check, Finding, fail, ok, skip, warn
from agent.errors import AgentError, TransientError
from agent.settings import K3sMode, SecretRef

OLDEST_SSH = (8, 0)
OLDEST_SSH_FOR_FINGERPRINTS = (8, 5)
LEAST_FREE_BYTES = 1 << 30
GOOD_FREE_BYTES = 30 << 30
"""Enough for a worker's image and a typical container image with CUDA, twice."""
OS_RELEASE = Path("/etc/os-release")
CGROUPS = Path("/sys/fs/cgroup")
FUSE = Path("/dev/fuse")


def _system(_case: Case) -> Finding:
    name = _pretty_name() or platform.system()
    seen = f"{name}, kernel {platform.release()}, {platform.machine()}"
    if sys.platform != "linux":
        return fail(seen, "use Linux: the agent runs on nothing else")
    if platform.machine() not in {"x86_64", "aarch64"}:
        return warn(
            seen,
            "Beta9's worker images are built for x86_64; the pool needs one for this architecture",
        )
    return ok(seen)


def _pretty_name() -> str:
    try:
        found = re.search(r'^PRETTY_NAME="?([^"\n]+)', OS_RELEASE.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ""
    return found[1] if found else ""


def _root(_case: Case) -> Finding:
    if os.geteuid() == 0:
        return ok("uid 0")
    return warn(
        f"uid {os.geteuid()}",
        "run this with sudo: the bootstrap needs root, and only root can read the secrets in /etc/beta9-worker",
    )


def _python(_case: Case) -> Finding:
    return ok(f"{platform.python_version()} ({sys.executable})")


def _ssh_client(case: Case) -> Finding:
    try:
        done = run(["ssh", "-V"], 5)
    except CommandNotFound:
        fix = "install the package openssh-client (Debian, Ubuntu) or openssh-clients"
        return (
            fail("ssh is not installed", fix) if case.is_ssh else skip("ssh is not installed, and not needed")
        )
    except CommandFailed as error:
        return fail(str(error), "reinstall openssh-client")
    banner = (done.stderr or done.stdout).strip()
    version = re.search(r"OpenSSH_(\d+)\.(\d+)", banner)
    found = (int(version[1]), int(version[2])) if version else OLDEST_SSH_FOR_FINGERPRINTS
    if found < OLDEST_SSH:
        return fail(banner, "update openssh-client: the tunnel needs options of OpenSSH 8.0")
    by_fingerprint = case.is_ssh and not case.settings.ssh_known_hosts
    if by_fingerprint and found < OLDEST_SSH_FOR_FINGERPRINTS:
        return fail(
            banner,
            "update openssh-client to OpenSSH 8.5, or pin the host key by BETA9_SSH_KNOWN_HOSTS: older versions cannot"
            " check BETA9_SSH_HOST_KEY_FINGERPRINT",
        )
    return ok(banner)


def _settings(case: Case) -> Finding:
    if case.setting_errors:
        return fail(
            "; ".join(case.setting_errors),
            "correct them (docs/settings.md); 'beta9-worker run --dry-run' with the same options lists them, too",
        )
    if case.settings.warnings:
        return warn("; ".join(case.settings.warnings), "correct it; see docs/settings.md")
    return ok(f"{len(case.settings.sources)} set, all valid")


def _secret(name: str) -> Check:
    def run_check(case: Case) -> Finding:
        ref: SecretRef | None = getattr(case.settings, name)
        if ref is None or (ref.value is None and ref.file is None and ref.reference is None):
            return skip("not set")
        source = "plain value" if ref.value is not None else str(ref.file or ref.reference)
        secrets = Secrets(case.settings.metadata_endpoint, learned=case.redactor.add)
        try:
            text = secrets.resolve(ref)
            if name == "ssh_key":
                check_private_key(text, ref.file)
        except TransientError as error:
            return fail(str(error), "fix that and run doctor again; the agent itself keeps trying")
        except AgentError as error:
            return fail(str(error), f"set {ref.setting} again, as a file or a reference")
        return ok(f"{source}, {len(text)} characters")

    return Check("token setting" if name == "token" else name.replace("_", " "), run_check)


def _disk(case: Case) -> Finding:
    facts = read_host(case.settings.state_dir)
    free = facts.disk_free_bytes
    seen = (
        f"{free / 2**30:.1f} of {facts.disk_total_bytes / 2**30:.1f} GiB free for {case.settings.state_dir}"
    )
    if free < LEAST_FREE_BYTES:
        return fail(
            seen, "free some space: with less, Kubernetes reports disk pressure and no work can be placed"
        )
    if free < GOOD_FREE_BYTES:
        return warn(seen, "use a larger disk: container images with CUDA take about 10 GiB each")
    return ok(seen)


def _cgroups(case: Case) -> Finding:
    unified = CGROUPS / "cgroup.controllers"
    if unified.exists():
        missing = {"cpu", "memory", "pids"} - set(unified.read_text(encoding="ascii").split())
        return (
            ok("version 2")
            if not missing
            else _unusable(case, f"missing controllers: {', '.join(sorted(missing))}")
        )
    if (CGROUPS / "memory").is_dir() and (CGROUPS / "cpu").is_dir():
        return warn(
            "version 1", "boot with systemd.unified_cgroup_hierarchy=1: newer kubelets reject version 1"
        )
    return _unusable(case, f"no usable controllers in {CGROUPS}")


def _unusable(case: Case, seen: str) -> Finding:
    fix = (
        "k3s needs cgroups: boot with cgroup_enable=memory, or run this on the host instead of in a container"
    )
    return warn(seen, fix) if case.settings.k3s is K3sMode.NONE else fail(seen, fix)


def _fuse(case: Case) -> Finding:
    if FUSE.is_char_device():
        return ok(str(FUSE))
    fix = "worker pods mount images through FUSE: 'modprobe fuse', and list it in /etc/modules-load.d"
    seen = f"{FUSE} does not exist"
    return warn(seen, fix) if case.settings.k3s is K3sMode.NONE else fail(seen, fix)


CHECKS = (
    Check("operating system", _system),
    Check("root", _root),
    Check("python", _python),
    Check("ssh client", _ssh_client),
    Check("settings", _settings),
    _secret("token"),
    _secret("ssh_key"),
    _secret("ssh_known_hosts"),
    _secret("k3s_token"),
    Check("disk", _disk),
    Check("cgroups", _cgroups),
    Check("/dev/fuse", _fuse),
)
