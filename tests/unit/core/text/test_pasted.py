"""What was added to a text when it was pasted or saved is removed, and nothing else."""

from __future__ import annotations

import codecs

import pytest

from agent.core.text.pasted import decoded, unescaped, visible


@pytest.mark.parametrize(
    "content",
    [
        "gé".encode(),
        codecs.BOM_UTF8 + "gé".encode(),
        codecs.BOM_UTF16_LE + "gé".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "gé".encode("utf-16-be"),
        "g\u200bé\u2060".encode(),
    ],
)
def test_a_file_is_read_with_and_without_a_byte_order_mark(content: bytes) -> None:
    assert decoded(content) == "gé"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"caf\xe9"])
def test_bytes_that_are_no_text_are_an_error(content: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decoded(content)


def test_what_can_be_seen_stays() -> None:
    assert visible("a \u00a0\u00ad\tb\n") == "a \u00a0\u00ad\tb\n"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (r"a\nb\r\nc", "a\nb\n\nc"),
        (r"a\\nb", "a\nb"),
        ("a\\\nb", "a\n\nb"),
        (r"a\/b\u003d", "a/b="),
        ("as it is/n", "as it is/n"),
    ],
)
def test_escapes_are_what_they_stand_for(text: str, meant: str) -> None:
    assert unescaped(text) == meant
