"""Private keys and host key lines are recognised, and what is wrong with others is said without showing them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.core.tunnel.key_formats import fingerprint, key_problem, known_hosts_problem

HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIGGgMn2tTRYzh6DfMNVvQ4kIh4pHnGLJ5wZ5mDqoQ3Fx"


def make_key(directory: Path, *options: str) -> str:
    """A new key pair by ssh-keygen; returns the private key's text."""
    file = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-f", str(file), *options], check=True, stdin=subprocess.DEVNULL)
    return file.read_text()


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ed25519"),
        ("-t", "ecdsa"),
        ("-t", "rsa", "-b", "2048"),
        ("-t", "rsa", "-b", "2048", "-m", "PEM"),
        ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    ],
)
def test_keys_are_told_from_encrypted_ones_in_every_format(options: tuple[str, ...], tmp_path: Path) -> None:
    for name, passphrase in (("plain", ""), ("encrypted", "a passphrase")):
        (tmp_path / name).mkdir()
        text = make_key(tmp_path / name, *options, "-N", passphrase)
        problem = key_problem(text)
        assert (problem is None) == (not passphrase)
        assert problem is None or problem.startswith("is encrypted")


def test_line_ends_and_a_missing_final_newline_are_no_problem(tmp_path: Path) -> None:
    text = make_key(tmp_path, "-t", "ed25519", "-N", "")
    assert key_problem(text.strip()) is None
    assert key_problem(text.replace("\n", "\r\n")) is None


def test_what_is_no_usable_key_is_said(tmp_path: Path) -> None:
    text = make_key(tmp_path, "-t", "ed25519", "-N", "")
    public = (tmp_path / "key.pub").read_text()
    lines = text.splitlines()
    for wrong, says in (
        (public, "is a public key"),
        (text.replace("\n", "\\n"), "'\\n' written out"),
        ("\n".join(lines[:-1]), "is cut off"),
        ("\n".join([lines[0], "not base64!", lines[-1]]), "is damaged"),
        ("\n".join([lines[0], "YWJj", lines[-1]]), "is damaged"),
        (text + public, "has other text around"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY"),
        ("/root/.ssh/id_ed25519", "its path by BETA9_SSH_KEY_FILE"),
        ("", "is not a private key"),
    ):
        problem = key_problem(wrong)
        assert problem is not None, wrong
        assert says in problem
        assert lines[1] not in problem


@pytest.mark.parametrize(
    "text",
    [
        f"gateway.example.com ssh-ed25519 {HOST_KEY}",
        f"[gateway.example.com]:2222,192.0.2.7 ssh-ed25519 {HOST_KEY} a comment\n",
        f"# a comment\n\n|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 {HOST_KEY}",
        f"@cert-authority *.example.com ssh-ed25519 {HOST_KEY}",
        f"@revoked * ssh-ed25519 {HOST_KEY}\nhost ssh-ed25519 {HOST_KEY}\r\n",
    ],
)
def test_host_key_lines_are_taken(text: str) -> None:
    assert known_hosts_problem(text) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no host key line"),
        (f"@revoked * ssh-ed25519 {HOST_KEY}", "holds no host key line"),
        (f"ssh-ed25519 {HOST_KEY} root@gateway", "line 1, which has no host in front"),
        ("# here\ngateway.example.com\n", "line 2, which is not 'HOST KEYTYPE KEY'"),
        ("host ssh-ed25519 no/base64?", "line 1, which holds a key that is not base64"),
        (f"@trusted * ssh-ed25519 {HOST_KEY}", "line 1, which begins with an unknown marker"),
    ],
)
def test_the_line_that_pins_nothing_is_named(text: str, says: str) -> None:
    assert says in (known_hosts_problem(text) or "")


def test_fingerprints_are_those_that_ssh_keygen_prints(tmp_path: Path) -> None:
    make_key(tmp_path, "-t", "ed25519", "-N", "")
    argv = ["ssh-keygen", "-lf", str(tmp_path / "key.pub")]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]
    assert fingerprint((tmp_path / "key.pub").read_text().split()[1]) == printed
