"""Variables that the bootstrap reads from the same worker.env. The agent accepts and ignores them.

The bootstrap is shell, so its defaults live in bootstrap/: here they are quoted for people.
"""

from __future__ import annotations

from typing import NamedTuple


class BootstrapVariable(NamedTuple):
    """One variable of the bootstrap, as docs/settings.md shows it."""

    variable: str
    help: str
    default: str = "none"
    """Text for people; Markdown."""
    aliases: tuple[str, ...] = ()


_PINNED = "`versions.env`"

_VARIABLES = (
    BootstrapVariable("BETA9_SOURCE", "source tarball that user data fetches: `LOCATION#sha256=CHECKSUM`"),
    BootstrapVariable(
        "BETA9_AGENT_IMAGE",
        "image of the agent: `NAME@sha256:DIGEST`, or a `docker save` archive: `LOCATION#sha256=CHECKSUM`",
        "built from the source",
    ),
    BootstrapVariable(
        "BETA9_BASE_IMAGE",
        "base image for that build: a name, or an archive with its checksum",
        "the Dockerfile's",
    ),
    BootstrapVariable(
        "BETA9_FILES_DIR",
        "directory with files to use instead of downloads, each named like the last part of its URL",
    ),
    BootstrapVariable(
        "BETA9_ON_FAILURE",
        "`poweroff` shuts the machine down if its boot fails; `keep` leaves it running",
        "`keep`",
    ),
    BootstrapVariable(
        "BETA9_REGISTRY_AUTH_FILE", "Docker's `config.json` with logins for private registries"
    ),
    BootstrapVariable(
        "BETA9_REGISTRIES_FILE",
        "`registries.yaml` for k3s (mirrors, certificates); overrides BETA9_REGISTRY_AUTH_FILE",
    ),
    BootstrapVariable(
        "BETA9_SECRETS_TIMEOUT", "seconds to wait for `beta9-worker push-secrets`, at most 3500", "`900`"
    ),
    BootstrapVariable(
        "BETA9_HOST_KEY_NONCE",
        "random value of this launch with which the machine proves its SSH host key; set by the Terraform modules",
    ),
    BootstrapVariable(
        "BETA9_K3S_ALLOW_FROM", "networks that may reach port 6443 from outside, comma-separated"
    ),
    BootstrapVariable(
        "BETA9_K3S_CLUSTER_CIDR",
        "network of k3s's pods, such as 10.200.0.0/16; cannot be changed once k3s has run",
        "10.42.0.0/16, or another one if this machine uses that",
    ),
    BootstrapVariable(
        "BETA9_K3S_SERVICE_CIDR",
        "network of k3s's services; cannot be changed once k3s has run",
        "10.43.0.0/16, or another one if this machine uses that",
    ),
    BootstrapVariable(
        "BETA9_REQUIRE_PINS", "`1` refuses everything that has no pinned checksum, version or key"
    ),
    BootstrapVariable(
        "BETA9_OWN_DRIVER",
        "`1` never installs an NVIDIA driver, and fails if the one you brought does not work",
    ),
    BootstrapVariable("BETA9_GPU_TIMEOUT", "seconds to wait for the GPUs to become allocatable", "`300`"),
    BootstrapVariable(
        "BETA9_MIG_STRATEGY", "MIG strategy of NVIDIA's device plugin: none, single or mixed", "`single`"
    ),
    BootstrapVariable("BETA9_K3S_VERSION", "version of k3s", _PINNED),
    BootstrapVariable("BETA9_K3S_URL", "location of the k3s binary", _PINNED),
    BootstrapVariable("BETA9_K3S_SHA256", "SHA-256 checksum of the k3s binary", _PINNED),
    BootstrapVariable(
        "BETA9_K3S_SUMS_URL", "the release's list of checksums, used if BETA9_K3S_SHA256 is empty", _PINNED
    ),
    BootstrapVariable("BETA9_K3S_INSTALL_URL", "location of k3s's installation script", _PINNED),
    BootstrapVariable("BETA9_K3S_INSTALL_SHA256", "SHA-256 checksum of the installation script", _PINNED),
    BootstrapVariable(
        "BETA9_K3S_IMAGES_URL",
        "archive of k3s's own container images; only its file name counts, looked up in BETA9_FILES_DIR",
        _PINNED,
    ),
    BootstrapVariable("BETA9_K3S_IMAGES_SHA256", "SHA-256 checksum of that archive", _PINNED),
    BootstrapVariable(
        "BETA9_TOOLKIT_VERSION", "package version of the NVIDIA container toolkit, at least 1.17.8", _PINNED
    ),
    BootstrapVariable("BETA9_TOOLKIT_REPOSITORY", "apt repository of the container toolkit", _PINNED),
    BootstrapVariable("BETA9_TOOLKIT_KEY_URL", "location of that repository's signing key", _PINNED),
    BootstrapVariable("BETA9_TOOLKIT_KEY_FINGERPRINT", "fingerprint of that signing key", _PINNED),
    BootstrapVariable(
        "BETA9_NVIDIA_BRANCH",
        "driver branch to install, such as 580",
        "Ubuntu: what `ubuntu-drivers` recommends; Debian: BETA9_NVIDIA_DEBIAN_BRANCH",
    ),
    BootstrapVariable(
        "BETA9_NVIDIA_DEBIAN_BRANCH", "driver branch on Debian, if BETA9_NVIDIA_BRANCH is empty", _PINNED
    ),
    BootstrapVariable(
        "BETA9_NVIDIA_REPOSITORY",
        "apt repository for NVIDIA's driver on Debian",
        "NVIDIA's for this Debian release",
    ),
    BootstrapVariable(
        "BETA9_NVIDIA_KEY_FINGERPRINT", "fingerprint of that repository's signing key", _PINNED
    ),
    BootstrapVariable("BETA9_DEVICE_PLUGIN_IMAGE", "image of NVIDIA's Kubernetes device plugin", _PINNED),
    BootstrapVariable(
        "BETA9_TAILSCALE_REPOSITORY", "apt repository for tailscale", "Tailscale's for this distribution"
    ),
    BootstrapVariable(
        "BETA9_TAILSCALE_KEY_URL", "location of that repository's signing key", "Tailscale's for this release"
    ),
    BootstrapVariable("BETA9_TAILSCALE_KEY_FINGERPRINT", "fingerprint of that signing key", _PINNED),
    BootstrapVariable(
        "BETA9_TAILSCALE_VERSION", "package version of tailscale", "the newest in the repository"
    ),
    BootstrapVariable(
        "BETA9_MIN_FREE_MIB",
        "free space in MiB that images and containers must have on a new worker",
        "`20480`",
    ),
    BootstrapVariable(
        "BETA9_SCRATCH_DISK",
        "where images and containers go: a device without a file system, a directory, or `none`",
        "the largest blank NVMe disk that is known to be local, if any",
    ),
    BootstrapVariable(
        "BETA9_DEADLINE_SCALE", "factor for every deadline of the bootstrap, for slow machines", "`1`"
    ),
    BootstrapVariable("BETA9_PIP_INDEX_URL", "Python package index for building the image", "pip's"),
    BootstrapVariable("BETA9_PIP_EXTRA_INDEX_URL", "additional package index for that build"),
    BootstrapVariable("BETA9_PIP_TRUSTED_HOST", "package host to trust without valid TLS, for that build"),
    BootstrapVariable(
        "http_proxy",
        "proxy for `http://` addresses: `http://HOST:PORT` ([behind a proxy](bootstrap.md#behind-a-proxy))",
        aliases=("HTTP_PROXY",),
    ),
    BootstrapVariable("https_proxy", "proxy for `https://` addresses", aliases=("HTTPS_PROXY",)),
    BootstrapVariable(
        "no_proxy",
        "hosts and networks to reach without the proxy, comma-separated; this machine's own are always added",
        aliases=("NO_PROXY",),
    ),
)

BOOTSTRAP_VARIABLES = {
    name: variable for variable in _VARIABLES for name in (variable.variable, *variable.aliases)
}
"""By name, in the order of docs/settings.md; one that has several names is there once for each."""
