"""The proxy in the settings becomes the environment variables that programs read."""

from __future__ import annotations

import pytest

from agent.settings.proxies import DIRECT, proxy_environment
from agent.settings.sources import Layer
from tests.unit.settings_cases import MINIMAL, read

PROXY = "http://user:sEcReT@proxy:3128"


def both(name: str, value: str) -> dict[str, str]:
    return {name: value, name.upper(): value}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{}], {}),
        ([{"http_proxy": ""}], {}),
        ([{"no_proxy": "a,b"}], both("no_proxy", "a,b")),
        ([{"https_proxy": PROXY}], {**both("https_proxy", PROXY), **both("no_proxy", DIRECT)}),
        (
            [{"HTTP_PROXY": "proxy:3128"}],
            {**both("http_proxy", "http://proxy:3128"), **both("no_proxy", DIRECT)},
        ),
        (
            [{"HTTP_PROXY": PROXY}, {"http_proxy": "http://other", "NO_PROXY": "a, b"}],
            {**both("http_proxy", PROXY), **both("no_proxy", f"a,b,{DIRECT}")},
        ),
        (
            [{"http_proxy": PROXY, "no_proxy": f"a,{DIRECT}"}],
            {**both("http_proxy", PROXY), **both("no_proxy", f"a,{DIRECT}")},
        ),
    ],
)
def test_the_first_source_wins_and_loopback_is_always_direct(
    layers: list[dict[str, str]], expected: dict[str, str]
) -> None:
    """Field case 14.1."""
    assert proxy_environment([Layer("", values) for values in layers]) == expected


def test_a_password_is_in_no_repr() -> None:
    settings = read({**MINIMAL, "https_proxy": PROXY})
    assert settings.proxies["HTTPS_PROXY"] == PROXY
    assert "sEcReT" not in f"{settings!r}"
