"""bootstrap/pin.sh against a local TLS server that is release site, key server and image registry."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import ROOT
from tests.shell.packages import Key, run

PIN = ROOT / "bootstrap" / "pin.sh"
MANIFEST = json.dumps(
    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Site:
    """What the server serves, by path. Like real registries, it requires a token even for public images."""

    base: str
    ca: Path
    key: Key
    files: dict[str, bytes] = field(default_factory=dict)
    digest_header: str = ""

    def release(self, version: str, k3s: bytes, images: bytes) -> None:
        tag = f"/k3s/releases/download/{version.replace('+', '%2B')}"
        listing = f"{sha256(images)}  k3s-airgap-images-amd64.tar.zst\n{sha256(k3s)}  k3s\n"
        self.files |= {
            f"{tag}/k3s": k3s,
            f"{tag}/k3s-airgap-images-amd64.tar.zst": images,
            f"{tag}/sha256sum-amd64.txt": listing.encode(),
            f"/raw/{version.replace('+', '%2B')}/install.sh": f"#!/bin/sh\n# {version}\n".encode(),
        }

    def versions(self, file: Path, **pins: str) -> Path:
        tag = "v1.36.5%2Bk3s1"
        names = {
            "BETA9_K3S_VERSION": "v1.36.5+k3s1",
            "BETA9_K3S_URL": f"{self.base}/k3s/releases/download/{tag}/k3s",
            "BETA9_K3S_SHA256": "",
            "BETA9_K3S_SUMS_URL": f"{self.base}/k3s/releases/download/{tag}/sha256sum-amd64.txt",
            "BETA9_K3S_INSTALL_URL": f"{self.base}/raw/{tag}/install.sh",
            "BETA9_K3S_INSTALL_SHA256": "",
            "BETA9_K3S_IMAGES_URL": f"{self.base}/k3s/releases/download/{tag}/k3s-airgap-images-amd64.tar.zst",
            "BETA9_K3S_IMAGES_SHA256": "",
            "BETA9_TOOLKIT_KEY_URL": f"{self.base}/gpgkey",
            "BETA9_TOOLKIT_KEY_FINGERPRINT": "",
            "BETA9_NVIDIA_REPOSITORY": f"{self.base}/cuda",
            "BETA9_NVIDIA_KEY_FINGERPRINT": "",
            "BETA9_TAILSCALE_KEY_URL": f"{self.base}/bookworm.noarmor.gpg",
            "BETA9_TAILSCALE_KEY_FINGERPRINT": "",
            "BETA9_DEVICE_PLUGIN_IMAGE": f"{self.base.removeprefix('https://')}/nvidia/k8s-device-plugin:v0.20.1",
            **pins,
        }
        lines = ["# Every pin.", ""]
        for name, value in names.items():
            if name.endswith(("SHA256", "FINGERPRINT", "IMAGE")):
                lines += ["# A comment.", "# Source: none; bootstrap/pin.sh fills it in."]
            lines.append(f"{name}={value}")
        file.write_text("\n".join(lines) + "\n")
        return file

    def pin(self, file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "CURL_CA_BUNDLE": str(self.ca), "no_proxy": "*"}
        return subprocess.run(
            [str(PIN), "--file", str(file), *arguments],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("pin") / "key")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer like a release site and an image registry; subclasses set `site`."""

    site: Site

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/token":
            assert "scope=repository:nvidia/k8s-device-plugin:pull" in query
            self.answer(200, b'{"token": "for-everybody"}')
        elif path.startswith("/v2/") and self.headers["Authorization"] != "Bearer for-everybody":
            challenge = f'Bearer realm="{self.site.base}/token",service="registry"'
            self.answer(401, b"{}", **{"WWW-Authenticate": challenge})
        elif path == "/v2/nvidia/k8s-device-plugin/manifests/v0.20.1":
            digest = self.site.digest_header or f"sha256:{sha256(MANIFEST)}"
            self.answer(200, MANIFEST, **{"Docker-Content-Digest": digest})
        elif path in self.site.files:
            self.answer(200, self.site.files[path])
        else:
            self.answer(404, b"not found")

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for localhost; return its file and that of the private key."""
    certificate, private_key = directory / "ca.pem", directory / "ca.key"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    run(
        *("openssl", *options.split(), "-keyout", str(private_key), "-out", str(certificate)),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
    )
    return certificate, private_key


@pytest.fixture
def site(tmp_path: Path, signing_key: Key) -> Iterator[Site]:
    """A site that serves one release, all repository keys and the image's manifest."""
    certificate, private_key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private_key)

    class SiteHandler(Handler):
        """A class of its own, since its attribute `site` differs between tests."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SiteHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        served = Site(f"https://localhost:{server.server_address[1]}", certificate, signing_key)
        served.release("v1.36.5+k3s1", b"k3s itself", b"its images")
        armoured = signing_key.gpg("--armor", "--export").encode()
        for path in ("/gpgkey", "/cuda/3bf863cc.pub", "/bookworm.noarmor.gpg"):
            served.files[path] = armoured
        SiteHandler.site = served
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield served
        server.shutdown()


def pins(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if line.startswith("BETA9_"))


def test_empty_pins_are_filled_in_with_their_source_and_then_match(site: Site, tmp_path: Path) -> None:
    file = site.versions(tmp_path / "versions.env")
    done = site.pin(file)
    assert done.returncode == 0, done.stderr
    filled = pins(file)
    assert filled["BETA9_K3S_SHA256"] == sha256(b"k3s itself")
    assert filled["BETA9_K3S_IMAGES_SHA256"] == sha256(b"its images")
    assert filled["BETA9_K3S_INSTALL_SHA256"] == sha256(site.files["/raw/v1.36.5%2Bk3s1/install.sh"])
    for name in ("TOOLKIT", "NVIDIA", "TAILSCALE"):
        assert filled[f"BETA9_{name}_KEY_FINGERPRINT"] == site.key.fingerprint
    assert filled["BETA9_DEVICE_PLUGIN_IMAGE"].endswith(f":v0.20.1@sha256:{sha256(MANIFEST)}")
    text = file.read_text()
    assert f"# Source: {site.base}/gpgkey, read by bootstrap/pin.sh on 20" in text
    assert "Source: none" not in text
    assert text.count("# A comment.") == 7, "only the source is rewritten"

    again = site.pin(file, "--check")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(" is up to date") == 7
    assert file.read_text() == text


def test_check_counts_an_empty_pin_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    file = site.versions(tmp_path / "versions.env")
    before = file.read_text()
    done = site.pin(file, "--check")
    assert done.returncode == 1
    assert f"BETA9_K3S_SHA256 is empty, but {site.base}" in done.stderr
    assert "7 pin(s)" in done.stderr
    assert file.read_text() == before


def test_a_pin_that_differs_is_replaced_only_with_accept(site: Site, tmp_path: Path) -> None:
    wrong = "0" * 64
    file = site.versions(tmp_path / "versions.env", BETA9_K3S_SHA256=wrong)
    done = site.pin(file)
    assert done.returncode == 1
    assert f"BETA9_K3S_SHA256 is {wrong}, but {site.base}" in done.stderr
    assert pins(file)["BETA9_K3S_SHA256"] == wrong
    assert site.pin(file, "--accept").returncode == 0
    assert pins(file)["BETA9_K3S_SHA256"] == sha256(b"k3s itself")


def test_a_changed_key_is_reported_and_not_accepted(site: Site, tmp_path: Path) -> None:
    known = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
    file = site.versions(tmp_path / "versions.env", BETA9_TOOLKIT_KEY_FINGERPRINT=known)
    done = site.pin(file)
    assert done.returncode == 1
    assert f"BETA9_TOOLKIT_KEY_FINGERPRINT is {known}, but" in done.stderr
    assert pins(file)["BETA9_TOOLKIT_KEY_FINGERPRINT"] == known


def test_a_file_that_differs_from_the_published_checksum_is_not_pinned(site: Site, tmp_path: Path) -> None:
    site.files["/k3s/releases/download/v1.36.5%2Bk3s1/k3s"] = b"something else"
    file = site.versions(tmp_path / "versions.env")
    done = site.pin(file)
    assert done.returncode == 1
    assert f"but {site.base}/k3s/releases/download/v1.36.5%2Bk3s1/sha256sum-amd64.txt lists" in done.stderr
    assert pins(file)["BETA9_K3S_SHA256"] == ""


def test_a_manifest_that_differs_from_the_registrys_digest_is_not_pinned(site: Site, tmp_path: Path) -> None:
    site.digest_header = f"sha256:{'1' * 64}"
    file = site.versions(tmp_path / "versions.env")
    done = site.pin(file)
    assert done.returncode == 1
    assert "but the registry says" in done.stderr
    assert "@sha256" not in pins(file)["BETA9_DEVICE_PLUGIN_IMAGE"]


def test_switching_to_another_k3s_updates_all_of_its_pins(site: Site, tmp_path: Path) -> None:
    site.release("v1.37.1+k3s1", b"a newer k3s", b"newer images")
    file = site.versions(tmp_path / "versions.env")
    assert site.pin(file).returncode == 0
    done = site.pin(file, "--k3s", "v1.37.1+k3s1")
    assert done.returncode == 0, done.stderr
    moved = pins(file)
    assert moved["BETA9_K3S_VERSION"] == "v1.37.1+k3s1"
    assert moved["BETA9_K3S_SHA256"] == sha256(b"a newer k3s")
    assert moved["BETA9_K3S_IMAGES_SHA256"] == sha256(b"newer images")
    assert not any("1.36.5" in value for value in moved.values())
    assert site.pin(file, "--check").returncode == 0


@pytest.mark.parametrize("arguments", [("--k3s", "latest"), ("--k3s",), ("--everything",)])
def test_invalid_arguments_are_refused(site: Site, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    file = site.versions(tmp_path / "versions.env")
    before = file.read_text()
    assert site.pin(file, *arguments).returncode == 1
    assert file.read_text() == before


def test_the_shipped_file_has_every_pin_that_it_maintains(site: Site, tmp_path: Path) -> None:
    shipped = pins(PIN.parent / "versions.env")
    assert set(pins(site.versions(tmp_path / "versions.env"))) <= set(shipped)
    assert "" not in {shipped[name] for name in ("BETA9_K3S_SHA256", "BETA9_K3S_INSTALL_SHA256")}
