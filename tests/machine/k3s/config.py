"""The configuration of `k3s server` from config.yaml, config.yaml.d and flags; keys unknown to k3s are refused.

Names and precedence as documented at docs.k3s.io/cli/server and docs.k3s.io/installation/configuration.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path("/etc/rancher/k3s")
_FLAGS = """
    advertise-address advertise-port agent-token bind-address cluster-cidr cluster-dns cluster-domain cluster-init
    config container-runtime-endpoint data-dir datastore-endpoint debug default-local-storage-path default-runtime
    disable disable-apiserver-lb disable-cloud-controller disable-helm-controller disable-kube-proxy
    disable-network-policy egress-selector-mode embedded-registry etcd-arg etcd-disable-snapshots flannel-backend
    flannel-iface helm-job-image https-listen-port image-credential-provider-bin-dir kube-apiserver-arg
    kube-cloud-controller-manager-arg kube-controller-manager-arg kube-proxy-arg kube-scheduler-arg kubelet-arg
    log lb-server-port node-external-ip node-ip node-label node-name node-taint pause-image prefer-bundled-bin
    private-registry protect-kernel-defaults resolv-conf rootless secrets-encryption secrets-encryption-provider selinux
    service-cidr service-node-port-range snapshotter supervisor-port system-default-registry tls-san tls-san-security
    token token-file v vmodule vpn-auth vpn-auth-file with-node-id write-kubeconfig write-kubeconfig-group
    write-kubeconfig-mode
    """
KNOWN = frozenset(_FLAGS.split())
PACKAGED = frozenset({"coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes"})


class ConfigError(Exception):
    """k3s would not start with this configuration."""


@dataclass(frozen=True)
class Config:
    """The given options by name, with lists for repeated options."""

    given: dict[str, Any]

    @property
    def data_dir(self) -> Path:
        return Path(str(self.given.get("data-dir", "/var/lib/rancher/k3s")))

    @property
    def node_name(self) -> str:
        return str(self.given.get("node-name") or platform.node()).lower()

    @property
    def kubeconfig(self) -> Path:
        return Path(str(self.given.get("write-kubeconfig", DIRECTORY / "k3s.yaml")))

    @property
    def kubeconfig_mode(self) -> int:
        """The file mode, given as octal digits in a string or as the number that YAML parses them to."""
        mode = self.given.get("write-kubeconfig-mode", "0600")
        return mode if isinstance(mode, int) else int(mode, 8)

    def list(self, name: str) -> list[str]:
        value = self.given.get(name, [])
        return [str(each) for each in value] if isinstance(value, list) else str(value).split(",")


def read_config(flags: Sequence[str], directory: Path = DIRECTORY) -> Config:
    """Read the files in order, then the flags. Raises: ConfigError; OSError for an unreadable file."""
    given: dict[str, Any] = {}
    for file in (directory / "config.yaml", *sorted((directory / "config.yaml.d").glob("*.yaml"))):
        if file.exists():
            given.update(_checked(yaml.safe_load(file.read_text(encoding="utf-8")) or {}, file))
    for flag in flags:
        name, _, value = flag.lstrip("-").partition("=")
        given.update(_checked({name: value or True}, Path("command line")))
    unknown = set(Config(given).list("disable")) - PACKAGED if "disable" in given else set()
    if unknown:
        raise ConfigError(f"cannot disable unknown components {sorted(unknown)}; known: {sorted(PACKAGED)}")
    return Config(given)


def _checked(values: Any, where: Path) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: not a mapping")
    unknown = sorted(name.rstrip("+") for name in values if name.rstrip("+") not in KNOWN)
    if unknown:
        raise ConfigError(f"{where}: flag provided but not defined: {', '.join(unknown)}")
    return {name.rstrip("+"): value for name, value in values.items()}
