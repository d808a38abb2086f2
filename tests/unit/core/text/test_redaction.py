"""No secret survives redaction, in any spelling our outputs can give it; other text stays as it is."""

from __future__ import annotations

import base64
import json
import string
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.text.redaction import FRAGMENT, MARK, Redactor

# As the gateway makes them: 88 characters of URL-safe base64 (its contract).
TOKEN = "swwMV_WA4C_FxN-_UY5UiRgdg2dTM1GUDLVUzO9c6fzyOs0BUJuXKLfxb-QcZkwAnlOGscu0U3WYmF1eQpcSBg=="
KEY = "\n".join(
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW",
        "QyNTUxOQAAACDm7Q0rJ2b3x8wz5Vv1n6kqS4y9pT0aXcUeGhIiLlMmNAAAAJgYxVbVGMVW",
        "ZZAAAAC3NzaC1lZDI1NTE5AAAAIObtDSsnZvfHzDPlW",
        "-----END OPENSSH PRIVATE KEY-----",
        "",
    ]
)

secrets = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=8, max_size=200).filter(
    lambda text: text.strip() == text and text not in MARK
)
tokens = st.text(string.ascii_letters + string.digits + "+/=-_", min_size=16, max_size=120)
around = st.text(max_size=60)


def cleaned(secret: str, text: str) -> str:
    redactor = Redactor()
    redactor.add(secret)
    return redactor.clean(text)


@given(secrets, around, around)
def test_a_secret_is_taken_out_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in cleaned(secret, before + secret + after)


@given(secrets)
def test_the_mark_says_that_something_was_there(secret: str) -> None:
    assert cleaned(secret, f"token {secret} used") == f"token {MARK} used"


@given(tokens, around, around)
def test_a_secret_is_taken_out_of_base64_of_a_longer_text(secret: str, before: str, after: str) -> None:
    raw = (before + secret + after).encode()
    own = slice(-(-len(before.encode()) * 8 // 6), (len(before.encode()) + len(secret)) * 8 // 6)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(raw).decode()
        assert encoded[own] not in cleaned(secret, encoded)


@given(secrets)
def test_a_secret_is_taken_out_of_urls_and_json(secret: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    for spelling in (
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        repr(secret),
        ascii(secret),
    ):
        bare = spelling.strip("\"'")
        assert bare not in redactor.clean(f"https://host/?token={spelling}&x=1") or bare in MARK


@given(tokens.filter(lambda text: len(text) > FRAGMENT), st.data())
def test_a_part_of_a_secret_is_taken_out(secret: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(secret) - FRAGMENT))
    length = data.draw(st.integers(FRAGMENT, len(secret) - start))
    result = cleaned(secret, f"cut off: {secret[start : start + length]}")
    assert MARK in result
    assert not [i for i in range(len(secret) - FRAGMENT + 1) if secret[i : i + FRAGMENT] in result]


@given(st.text(max_size=3), st.text())
def test_texts_too_short_to_be_secrets_change_nothing(short: str, text: str) -> None:
    assert cleaned(short, text) == text


@given(
    st.text(string.ascii_uppercase, min_size=4, max_size=300), st.text(string.digits + " .:-", max_size=300)
)
def test_text_without_a_secret_stays_as_it_is(secret: str, text: str) -> None:
    assert cleaned(secret, text) == text


@given(secrets, around)
def test_redacting_twice_is_redacting_once(secret: str, text: str) -> None:
    redactor = Redactor()
    redactor.add(secret)
    once = redactor.clean(text + secret)
    assert redactor.clean(once) == once


def test_a_short_secret_is_taken_out_as_a_word_only() -> None:
    assert cleaned("gpu7", "pool gpu7, gpu77 and 'gpu7'") == f"pool {MARK}, gpu77 and '{MARK}'"


def test_each_line_of_a_key_is_taken_out() -> None:
    for line in KEY.splitlines()[1:-1]:
        assert cleaned(KEY, f"debug: {line}") == f"debug: {MARK}"


def test_the_frame_of_a_key_is_no_secret() -> None:
    text = "BETA9_SSH_KEY must hold -----BEGIN and END lines of an OPENSSH PRIVATE KEY"
    assert cleaned(KEY, text) == text


def test_a_key_is_taken_out_of_base64_broken_into_lines() -> None:
    encoded = base64.encodebytes(KEY.encode()).decode()
    result = cleaned(KEY, encoded)
    assert not [line for line in encoded.splitlines() if line in result]


def test_a_key_that_nobody_announced_is_taken_out_by_its_frame() -> None:
    assert KEY.splitlines()[1] not in Redactor().clean(f"dumped:\n{KEY}\nend")
    assert Redactor().clean(KEY + "after").endswith("-----END OPENSSH PRIVATE KEY-----\nafter")


def test_a_bearer_token_that_nobody_announced_is_taken_out() -> None:
    assert Redactor().clean(f"Authorization: Bearer {TOKEN}") == f"Authorization: Bearer {MARK}"


def test_a_traceback_keeps_everything_but_the_secret() -> None:
    try:
        int(TOKEN)
    except ValueError:
        text = traceback.format_exc()
    assert TOKEN in text
    result = cleaned(TOKEN, text)
    assert TOKEN not in result
    assert result.endswith(f"ValueError: invalid literal for int() with base 10: '{MARK}'\n")


def test_windows_line_ends_make_no_difference() -> None:
    result = cleaned(KEY.replace("\n", "\r\n"), KEY)
    assert not [line for line in KEY.splitlines()[1:-1] if line in result]


def test_several_secrets_are_taken_out_of_one_line() -> None:
    redactor = Redactor()
    for secret in (TOKEN, "another-secret-of-some-length", "hunter2"):
        redactor.add(secret)
    text = redactor.clean(f"a {TOKEN} b another-secret-of-some-length c hunter2 d")
    assert text == f"a {MARK} b {MARK} c {MARK} d"


@pytest.mark.parametrize("secret", ["a" * 10_000, "ab" * 5_000])
def test_a_secret_that_repeats_itself_is_taken_out(secret: str) -> None:
    assert cleaned(secret, f"<{secret}>") == f"<{MARK}>"
