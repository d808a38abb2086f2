"""What the hairpin consists of."""

from __future__ import annotations

import pytest

from agent.core.hairpin.layout import ACCEPTS, DEFAULT_RANGE, Layout, missing_accepts, parse_range


def test_the_addresses_are_the_first_two_of_the_range() -> None:
    assert (Layout().outer, Layout().inner) == ("198.18.0.1", "198.18.0.2")
    assert Layout("10.9.8.252/30").inner == "10.9.8.254"


@pytest.mark.parametrize("text", [DEFAULT_RANGE, "10.0.0.4/30", "192.168.255.252/30", "100.64.0.0/30"])
def test_a_network_of_four_addresses_is_a_range(text: str) -> None:
    assert parse_range(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "198.18.0.0",
            "198.18.0.0/29",
            "198.18.0.1/30",
            "198.18.0.256/30",
            "127.0.0.0/30",
            "0.0.0.0/30",
        ),
        *("224.0.0.0/30", "198.18.0.0/30 ", "fd00::/126", "198.18.0.0/30;reboot"),
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=DEFAULT_RANGE):
        parse_range(text)


def test_6443_is_led_to_the_port_of_k3s_and_rejected_while_that_does_not_answer() -> None:
    layout = Layout(k3s_port=16443)
    assert "tcp dport 6443 dnat to 198.18.0.1:16443" in layout.inner_rules(lets_in=True)
    assert "tcp dport" not in Layout().inner_rules(lets_in=True)
    assert "proto-dst 6443 reject with tcp reset" in layout.inner_rules(lets_in=False)
    assert "reject" not in layout.inner_rules(lets_in=True)


def test_rules_that_iptables_lists_are_not_added_again() -> None:
    listing = "-P FORWARD DROP\n" + "".join(f"-A {chain} {rule}\n" for chain, rule in ACCEPTS[1:])
    assert missing_accepts(listing) == ACCEPTS[:1]
    assert missing_accepts("-P FORWARD DROP\n") == ACCEPTS
