"""Private keys are put in the form that ssh reads, and what is wrong with others is said without showing them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.tunnel.key_formats import fingerprint, private_key

KINDS = {
    "openssh ed25519": ("-t", "ed25519"),
    "openssh ecdsa": ("-t", "ecdsa"),
    "openssh rsa": ("-t", "rsa", "-b", "2048"),
    "pkcs1 rsa": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "pkcs8 rsa": ("-t", "rsa", "-b", "2048", "-m", "PKCS8"),
    "pkcs8 ecdsa": ("-t", "ecdsa", "-m", "PKCS8"),
    "sec1 ecdsa": ("-t", "ecdsa", "-m", "PEM"),
}
BLANKS = [
    *" \t\n\r\v\f\x1c\x85",
    "\r\n",
    *"\u00a0\u1680\u2003\u2009\u2028\u2029\u202f\u205f\u3000",
    *"\u200b\u200d\u2060\ufeff",
]
"""Characters that are white space, or that nobody can see."""
BREAKS = [*BLANKS, "", "\n    ", "\n\u00a0", "\\n", "\\r\\n", "\\\\n", "\\\n"]
"""What can stand between two lines of a key."""


def make_key(directory: Path, *options: str) -> str:
    """A new key pair by ssh-keygen; returns the private key's text."""
    file = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-f", str(file), *options], check=True, stdin=subprocess.DEVNULL)
    return file.read_text()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key without passphrase of each kind, as ssh-keygen wrote it."""
    return {
        kind: make_key(tmp_path_factory.mktemp("key"), *options, "-N", "") for kind, options in KINDS.items()
    }


def problem(text: str) -> str | None:
    try:
        private_key(text)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_as_ssh_keygen_writes_it_stays_as_it_is(keys: dict[str, str], kind: str) -> None:
    assert private_key(keys[kind]) == keys[kind]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(data=st.data())
def test_no_white_space_that_came_or_went_makes_another_key(
    keys: dict[str, str], kind: str, data: st.DataObject
) -> None:
    """Field case 1.1: since the key is the very one that ssh-keygen wrote, ssh can use it."""
    separator = data.draw(st.sampled_from(BREAKS))
    text = keys[kind].replace("\n", separator)
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(text)))
        # An escape that a blank divides is no longer one.
        if "\\" not in text[max(0, place - 3) : place]:
            text = text[:place] + data.draw(st.sampled_from(BLANKS)) + text[place:]
    framed = data.draw(st.sampled_from(["{}", "\ufeff{}", '"{}"', "'{}'\n", "\n\n  {}", "{}\\n"]))
    assert private_key(framed.format(text)) == keys[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_else_pasting_does_to_a_key_is_put_right(keys: dict[str, str], kind: str) -> None:
    """Field cases 1.1 and 1.4, and more of their kind."""
    key = keys[kind]
    first, *body, last = key.splitlines()
    for pasted in (
        "".join(key.split()),
        f"{first} {''.join(body)} {last}",
        key.replace("-----", "\u2014\u2013"),
        key[1:],
        key.replace("=", ""),
        key.replace("\n", "\\n").replace("/", "\\/").replace("=", "\\u003d"),
    ):
        assert private_key(pasted) == key


def test_the_curve_that_openssl_writes_in_front_of_a_key_is_left_out(keys: dict[str, str]) -> None:
    curve = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert private_key(curve + keys["sec1 ecdsa"]) == keys["sec1 ecdsa"]


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_encrypted_keys_are_told_in_every_format(options: tuple[str, ...], tmp_path: Path) -> None:
    text = make_key(tmp_path, *options, "-N", "a passphrase")
    for pasted in (text, text.replace("\n", " "), text.replace("\n", ""), text.replace("\n", "\u00a0\n")):
        assert (problem(pasted) or "").startswith("is encrypted")


def test_what_is_no_usable_key_is_said(keys: dict[str, str], tmp_path: Path) -> None:
    text = make_key(tmp_path, "-t", "ed25519", "-N", "")
    public = (tmp_path / "key.pub").read_text()
    lines = text.splitlines()
    rsa = keys["pkcs1 rsa"].splitlines()
    for wrong, says in (
        (public, "is a public key"),
        ("\ufeff" + public, "is a public key"),
        ("\n".join(lines[:-1]), "is cut off"),
        ("\n".join([lines[0], "not base64!", lines[-1]]), "is damaged"),
        ("\n".join([lines[0], "YWJj", lines[-1]]), "is damaged"),
        ("\n".join([lines[0], *lines[2:]]), "is damaged"),
        ("\n".join([*lines[:2], *lines[3:]]), "is damaged: a part"),
        ("\n".join([*rsa[:5], *rsa[6:]]), "is damaged: a part"),
        ("\n".join([rsa[0], *rsa[2:]]), "is damaged"),
        ("\n".join([f"> {line}" for line in lines]), "has other text around"),
        ("\n".join([lines[0], *(f"> {line}" for line in lines[1:-1]), lines[-1]]), "is damaged"),
        (text + public, "has other text around"),
        (text + text, "has other text around"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY"),
        ("/root/.ssh/id_ed25519", "its path by BETA9_SSH_KEY_FILE"),
        ("", "is not a private key"),
    ):
        said = problem(wrong)
        assert said is not None, wrong
        assert says in said, (wrong, said)
        assert lines[1] not in said


def test_fingerprints_are_those_that_ssh_keygen_prints(tmp_path: Path) -> None:
    make_key(tmp_path, "-t", "ed25519", "-N", "")
    argv = ["ssh-keygen", "-lf", str(tmp_path / "key.pub")]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]
    assert fingerprint((tmp_path / "key.pub").read_text().split()[1]) == printed
