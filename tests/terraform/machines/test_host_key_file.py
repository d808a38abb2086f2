"""The gateway host's key from a file: what `ssh YOU@GATEWAY 'cat …pub'`, ssh-keyscan, ssh-keygen -F and -lf write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.terraform.program import Terraform, copy_of_tree

pytestmark = pytest.mark.terraform

HOST = "gateway.example.com"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGgMn2tTRYzh6DfMNVvQ4kIh4pHnGLJ5wZ5mDqoQ3Fx"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHHH"
ECDSA = "ecdsa-sha2-nistp256 " + "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBB" + "A" * 80 + "="
SHA256 = "SHA256:" + "A" * 43
FILES: dict[str, tuple[str, int | None, str]] = {
    "pub": (f"{KEY} root@gw\n{ECDSA} root@gw\n", None, f"{HOST} {KEY}\n{HOST} {ECDSA}"),
    "pub, another port": (f"{KEY} root@gw\n", 2222, f"[{HOST}]:2222 {KEY}"),
    "from Windows": (f"\ufeff{KEY} root@gw\r\n", None, f"{HOST} {KEY}"),
    "known_hosts": (
        f"# a comment\nother.example.com {OTHER}\n{HOST},192.0.2.1 {KEY}\n[{HOST}]:2222 {OTHER}\n",
        None,
        f"{HOST},192.0.2.1 {KEY}",
    ),
    "known_hosts, another port": (f"{HOST} {OTHER}\n[{HOST}]:2222 {KEY}\n", 2222, f"[{HOST}]:2222 {KEY}"),
    "an authority": (
        f"@cert-authority *.example.com {KEY} c\n",
        None,
        f"@cert-authority *.example.com {KEY}",
    ),
}


@pytest.fixture(scope="module")
def module(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of_tree(tmp_path_factory.mktemp("user-data")) / "terraform/modules/user-data"
    terraform.init(folder)
    return folder


def worker_env(terraform: Terraform, module: Path, content: str, port: int | None) -> str:
    (module / "keys").write_text(content, newline="")
    given = {
        "pool_name": "gpu",
        "ssh_host": HOST,
        "ssh_port": port,
        "ssh_host_key_file": "keys",
        "source_tarball": f"/x#sha256={'0' * 64}",
    }
    terraform.apply(module, given)
    return str(terraform.outputs(module)["worker_env"])


@pytest.mark.parametrize(("content", "port", "expected"), FILES.values(), ids=FILES)
def test_keys_become_known_hosts_lines(
    content: str, port: int | None, expected: str, terraform: Terraform, module: Path
) -> None:
    made = worker_env(terraform, module, content, port)
    assert f"BETA9_SSH_KNOWN_HOSTS='{expected}'\n" in made
    assert "FINGERPRINT" not in made


def test_fingerprints_are_taken_from_what_ssh_keygen_prints(terraform: Terraform, module: Path) -> None:
    made = worker_env(terraform, module, f"256 {SHA256} root@gw (ED25519)\n", None)
    assert f"BETA9_SSH_HOST_KEY_FINGERPRINT={SHA256}\n" in made
    assert "KNOWN_HOSTS" not in made


def test_a_hashed_line_that_ssh_keygen_finds_matches_on_the_machine(
    terraform: Terraform, module: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"{HOST} {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    found = subprocess.run(
        ["ssh-keygen", "-F", HOST, "-f", known], check=True, capture_output=True, text=True
    )
    made = worker_env(terraform, module, found.stdout, None)
    line = made.split("BETA9_SSH_KNOWN_HOSTS='")[1].split("'")[0]
    known.write_text(f"{line}\n")
    again = subprocess.run(
        ["ssh-keygen", "-F", HOST, "-f", known], check=True, capture_output=True, text=True
    )
    assert KEY in again.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"other.example.com {KEY}\n", "has no key of ssh_host"),
        (f"|1|{'A' * 27}=|{'B' * 27}= {KEY}\n" * 11, "ssh-keygen -F HOST"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n", "has no key of ssh_host"),
    ],
)
def test_a_file_without_the_key_fails_the_plan(
    content: str, message: str, terraform: Terraform, module: Path
) -> None:
    (module / "keys").write_text(content)
    given = {
        "pool_name": "gpu",
        "ssh_host": HOST,
        "ssh_host_key_file": "keys",
        "source_tarball": f"/x#sha256={'0' * 64}",
    }
    planned = terraform.plan(module, given, check=False)
    assert message in planned.text
    assert "b3BlbnNzaC1rZXk" not in planned.text
