"""The relay's rule sets as text. tests/gateway has them in a real packet filter."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

import pytest

from agent.core.relay.rules import RuleSettings, is_complete, nft_rules, xtables_removal, xtables_rules
from agent.core.relay.zone import Pods

HOST = RuleSettings(uid=991, queue=1080, port=12080)
PODS = RuleSettings(991, 1080, 12080, Pods(IPv4Network("100.64.0.0/10"), IPv4Network("10.42.0.0/16")))


@pytest.mark.parametrize("settings", [HOST, PODS], ids=["host network", "pods"])
def test_what_is_not_granted_is_reset_and_the_queue_is_bypassed_without_a_relay(
    settings: RuleSettings,
) -> None:
    nft, xtables = nft_rules(settings), xtables_rules("", settings)
    assert "queue flags bypass to 1080" in nft
    assert "--queue-num 1080 --queue-bypass" in xtables
    assert nft.count("reject with tcp reset") == 2
    assert xtables.count("-j REJECT --reject-with tcp-reset") == 1 + len(settings.dialled)
    for each in settings.dialled:
        assert each in nft
        assert f"-d {each} -p tcp --syn" in xtables


def test_a_set_replaces_itself_and_no_one_else_s_rules() -> None:
    saved = (
        "*filter\n:INPUT ACCEPT [0:0]\n:BETA9-RELAY-INPUT - [0:0]\n"
        "-A INPUT -i lo -j ACCEPT\n"
        '-A INPUT -p tcp -m comment --comment "beta9-relay:0123456789ab" -j BETA9-RELAY-INPUT\n'
        "-A BETA9-RELAY-INPUT -j RETURN\nCOMMIT\n"
    )
    deleted = '-D INPUT -p tcp -m comment --comment "beta9-relay:0123456789ab" -j BETA9-RELAY-INPUT'
    assert xtables_rules(saved, HOST).count("-D ") == 1
    assert deleted in xtables_rules(saved, HOST)
    assert (
        xtables_removal(saved) == f"*filter\n{deleted}\n-F BETA9-RELAY-INPUT\n-X BETA9-RELAY-INPUT\nCOMMIT\n"
    )
    assert xtables_removal("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n") == ""


def test_a_listing_is_complete_only_with_every_rule_of_these_settings() -> None:
    for listing in (nft_rules(HOST), xtables_rules("", HOST)):
        assert is_complete(listing, HOST)
        assert not is_complete(listing, PODS)
        assert not is_complete(re.sub(r'"?beta9-relay:\w+"?', "", listing, count=1), HOST)
    assert not is_complete("", HOST)
