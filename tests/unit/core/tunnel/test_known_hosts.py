"""Host key lines are read in whatever form they were pasted, and the line that pins nothing is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.tunnel.known_hosts import known_hosts

HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIGGgMn2tTRYzh6DfMNVvQ4kIh4pHnGLJ5wZ5mDqoQ3Fx"
ECDSA_KEY = (
    "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT"
    "/y6v0mKV0U2w0WZ2YB/++Tpockg="
)
ONE, TWO = f"gw.example ssh-ed25519 {HOST_KEY}", f"gw.example ecdsa-sha2-nistp256 {ECDSA_KEY}"
BOTH = f"{ONE}\n{TWO}\n"


def problem(text: str) -> str:
    with pytest.raises(ValueError, match=r"^h(as|olds) ") as caught:
        known_hosts(text)
    return str(caught.value)


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
    assert HOST_KEY in known_hosts(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no host key line"),
        (f"@revoked * ssh-ed25519 {HOST_KEY}", "holds no host key line"),
        (f"ssh-ed25519 {HOST_KEY} root@gateway", "line 1, which has no host in front"),
        ("# here\ngateway.example.com\n", "line 2, which is not 'HOST KEYTYPE KEY'"),
        ("host ssh-ed25519 no/base64?", "line 1, which holds a key that is not base64"),
        (f"host ssh-ed25519 {HOST_KEY[:40]}", "line 1, which holds a key that is cut off"),
        (f"{ONE}\ngateway\n", "line 2, which is not 'HOST KEYTYPE KEY'"),
        (f"host ssh-rsa {HOST_KEY}", "line 1, which holds a key that is cut off"),
        (f"@trusted * ssh-ed25519 {HOST_KEY}", "line 1, which begins with an unknown marker"),
    ],
)
def test_the_line_that_pins_nothing_is_named(text: str, says: str) -> None:
    assert says in problem(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{ONE} {TWO}",
        f"{ONE} root@gw {TWO} root@gw",
        BOTH.replace("\n", "\r\n"),
        BOTH.replace("\n", "\r"),
        BOTH.replace("\n", "\\n"),
        BOTH.replace("\n", "\u2028"),
        f"\ufeff{BOTH}",
        f'"{BOTH}"',
        BOTH.replace(" ", "\u00a0"),
        BOTH.replace("gw", "\t  gw"),
        BOTH.replace("NzaC1", "NzaC1\n"),
        BOTH.replace("/", "/\n"),
        BOTH.replace("/", "/ "),
        f"# gw.example:22 SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\n{ONE}\n# gw.example:22 SSH-2.0-OpenSSH_9.2p1\n{TWO}",
        f"# gw.example:22 SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 {ONE} # gw.example:22 SSH-2.0-OpenSSH_9.2p1 {TWO}",
        f"#{ONE} commented out\n{ONE} # {ONE}\n{TWO}",
    ],
)
def test_lines_that_were_lost_or_broken_are_put_right(text: str) -> None:
    """Field case 1.3 and more of the kind: ssh would use the first key of a line alone, or none."""
    assert known_hosts(text) == BOTH


def test_what_is_commented_out_pins_nothing() -> None:
    assert "no host key line" in problem(f"# {ONE}\n#{TWO} {ONE}")


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*ONE.split(), "#", "SSH-2.0-x", "@revoked", "\n"])).map(" ".join)
)
def test_no_text_whatsoever_is_anything_but_lines_or_a_sentence(text: str) -> None:
    try:
        lines = known_hosts(text)
    except ValueError as error:
        assert str(error).startswith(("has line ", "holds no "))  # noqa: PT017 - both ways are fine
    else:
        assert known_hosts(lines) == lines
