"""The authorized_keys line: exactly what is granted, and nothing that sshd would read differently."""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

import pytest

from agent.commands import authorize
from agent.core.provisioning.authorized_keys import Grant, key_line, options
from agent.core.tunnel.addresses import candidates
from agent.errors import SettingsError

# Made by ssh-keygen; the private keys were deleted.
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINOEczFjje0koH6mAotdUBbhGk7TjnmTuBFcCJ8vYs8S machine"
ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBD8qpahMVtVX7g1JTQM0Rn2r"
    "n/8thO8w5PRgodIkRRnem9gloT/OgJbxHNgQHjTmQ+jjHKnBQH121iPblLM99zo= machine"
)
RSA = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCaTpbcRB1rjWQLtg97REqCb3EZFuvbrC2cSDOluJV4IgPv8FrS/XZ3IBdZ"
    "Vp5y5yt0BoKMvUb9MMD8H1XiSIK7TuBaQ9su1U2t4F7uwPVcbJtvdu9y3TiUm2Nv2gxLq9tBv8z5ahNcqdLCFUx84m8AYbpf"
    "l+Qk3HUowBsxHo/BvDwVrkbsmOiGe865tLmozg8tREuEO1RYu40NbNZXVCNMYtzUirXu80SSVpC+Nt0R1t38UxmduHh6MJnB"
    "VcvQ5k5klmRuZdzD5tNeomVLej5UsfhuyYpTASQAYSpoLdZeKHgiSNXVi1S/XtTIw8BS1ZcwIYURVKfBZrhO67QwLA9v mac"
    "hine"
)
RSA_1024 = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDxESP1WUIJ8cTzr9LT5Yu2tI272TPT7exTjjxtheDXtsu1UeZcL/kYGZkz"
    "Loq9B9LlNQeTNDBjpGZU4oMsWNoAcSKDAkSbblUzM2XfOqg6EMr3ypfyurBOMNREATFug7ep6I+aOexnfVWUSsXMVSxQ24Ud"
    "4vjsxMLMwNHaFRFoKQ== machine"
)


def blob(*parts: bytes) -> str:
    """Encode parts as SSH keys do: each with its length in front, then base64."""
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()


def test_the_line_for_one_machine_names_its_four_addresses_and_the_target() -> None:
    assert key_line(ED25519, Grant(("1165a9b6",))) == (
        "restrict,port-forwarding"
        ',permitopen="localhost:31994"'
        ',permitopen="127.86.127.219:6443",permitopen="127.88.128.90:6443"'
        ',permitopen="127.66.146.66:6443",permitopen="127.71.249.161:6443"'
        ',permitlisten="127.86.127.219:6443",permitlisten="127.86.127.219:1080"'
        ',permitlisten="127.88.128.90:6443",permitlisten="127.88.128.90:1080"'
        ',permitlisten="127.66.146.66:6443",permitlisten="127.66.146.66:1080"'
        ',permitlisten="127.71.249.161:6443",permitlisten="127.71.249.161:1080"'
        f" {ED25519}"
    )


def test_a_pools_key_may_listen_in_the_reserved_block_only() -> None:
    listens = [option for option in options(Grant()) if option.startswith("permitlisten")]
    assert len(listens) == 128
    assert listens[0] == 'permitlisten="127.64.*:6443"'
    assert listens[-1] == 'permitlisten="127.127.*:1080"'


def test_a_pools_key_may_open_the_target_and_k3s_ports_only() -> None:
    opens = [option for option in options(Grant()) if option.startswith("permitopen")]
    assert opens == ['permitopen="localhost:31994"', 'permitopen="*:6443"']


def test_one_key_can_serve_several_machines() -> None:
    line = key_line(ED25519, Grant(("1165a9b6", "00000000")))
    for address in (*candidates("1165a9b6"), *candidates("00000000")):
        assert f'permitlisten="{address}:6443"' in line
        assert f'permitopen="{address}:6443"' in line


def test_further_targets_are_opened_as_they_are_spelled() -> None:
    line = key_line(ED25519, Grant(("1165a9b6",), ("127.0.0.1:1994", "redis:6379", "[2001:db8::7]:31566")))
    assert 'permitopen="127.0.0.1:1994",permitopen="redis:6379",permitopen="[2001:db8::7]:31566"' in line
    assert "31994" not in line


def test_a_key_that_signs_certificates_is_marked_as_such() -> None:
    line = key_line(ED25519, Grant(("1165a9b6",)), cert_authority=True)
    assert line.startswith("cert-authority,restrict,port-forwarding,")


@pytest.mark.parametrize("key", [ED25519, ECDSA, RSA])
def test_the_usual_key_types_are_taken(key: str) -> None:
    assert key_line(key, Grant()).endswith(f" {key}")


def test_blank_lines_and_comments_around_the_key_do_not_matter() -> None:
    assert key_line(f"# made on monday\r\n\r\n  {ED25519}  \r\n", Grant()).endswith(f" {ED25519}")


def test_a_comment_keeps_no_control_characters() -> None:
    kind, encoded, _ = ED25519.split(" ", 2)
    assert key_line(f"{kind} {encoded} me\x1b[31m@\x07box", Grant()).endswith(f"{encoded} me[31m@box")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 keys"),
        (f"{ED25519}\n{ED25519}\n", "2 keys"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n",
            r"give the \.pub file",
        ),
        (f"no-pty {ED25519}", "without options"),
        ("AAAAC3NzaC1lZDI1NTE5AAAA", "does not begin with a key type"),
        (f"ssh-dss {blob(b'ssh-dss', b'x')}", "ssh-dss"),
        (f"sk-ssh-ed25519@openssh.com {blob(b'sk-ssh-ed25519@openssh.com', b'x')}", "unattended"),
        ("ssh-ed25519", "cut off"),
        ("ssh-ed25519 not/base64!", "not base64"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "cut off or damaged"),
        (f"ssh-ed25519 {blob(b'ssh-foobar1', bytes(32))}", "another type"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', bytes(31))}", "32 bytes"),
        (f"ssh-ed25519 {blob(b'ssh-ed25519', bytes(32))[:-8]}", "cut off"),
        (RSA_1024, "2048 bits"),
    ],
)
def test_what_is_no_usable_public_key_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        key_line(text, Grant())


@pytest.mark.parametrize("machine_id", ["", "1165A9B6", "1165a9b", "1165a9b67", '1165a9b"', "gpu-box1"])
def test_what_is_no_machine_id_is_refused(machine_id: str) -> None:
    with pytest.raises(SettingsError, match="8 hexadecimal"):
        key_line(ED25519, Grant((machine_id,)))


@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost",
        ":80",
        "localhost:0",
        "localhost:65536",
        "localhost:*",
        "*:80",
        'a",pty,x="b:1',
        "2001:db8::7:80",
        "a b:1",
    ],
)
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(SettingsError, match=r"host:port"):
        key_line(ED25519, Grant(targets=(target,)))


# --- The command -------------------------------------------------------------------------------------------


def authorize_command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    authorize.add_parser(parser.add_subparsers())
    return authorize.run(parser.parse_args(["authorize", *arguments]))


def test_the_command_prints_the_line_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.pub"
    key.write_text(ED25519 + "\n")
    assert authorize_command("--machine-id", "1165a9b6", "--target", "localhost:1994", str(key)) == 0
    assert capsys.readouterr().out == key_line(ED25519, Grant(("1165a9b6",), ("localhost:1994",))) + "\n"


def test_the_command_reads_standard_input_and_allows_the_forwards_targets_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ED25519.encode())))
    forwards = ("--forward", "6379:redis:6379,[::1]:6380:redis:6379", "--forward", "443:[2001:db8::7]:443")
    assert authorize_command("--pool-key", *forwards, "-") == 0
    targets = ("localhost:31994", "redis:6379", "[2001:db8::7]:443")
    assert capsys.readouterr().out == key_line(ED25519, Grant(targets=targets)) + "\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--pool-key", "/nonexistent/key.pub"), "No such file"),
        (("--pool-key", "/"), "Is a directory"),
        (("--pool-key", "--forward", "redis:6379", "-"), "--forward: contains 'redis:6379'"),
    ],
)
def test_what_the_command_cannot_use_is_named(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        authorize_command(*arguments)


@pytest.mark.parametrize("arguments", [("key.pub",), ("--pool-key", "--machine-id", "1165a9b6", "key.pub")])
def test_a_key_is_for_machines_or_for_a_pool(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        authorize_command(*arguments)
