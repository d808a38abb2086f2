"""`beta9-worker relay`: on the gateway's host, take the gateway's dials to any port of a machine through its tunnel."""

from __future__ import annotations

import argparse
import os
import pwd
from ipaddress import IPv4Address, IPv4Network

from agent.core.relay.names import NamesSettings, parse_domain
from agent.core.relay.rules import RuleSettings
from agent.core.relay.zone import ZONE, Pods
from agent.core.text.describe import shown
from agent.errors import ExitCode, SettingsError

_EPILOG = f"""\
The gateway dials a machine at its address in {ZONE}. The relay asks that machine, through the SOCKS listener that its
tunnel opens there, and lets the dial succeed only once the machine has answered. What itself listens on exactly that
address and port is left alone. The rules stay when the relay ends, so that nobody else answers in a machine's place.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "relay",
        help="on the gateway's host: let the gateway reach any port of a machine",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_actions(parser)
    _add_options(parser)
    parser.set_defaults(function=run)


def _add_actions(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--dry-run", action="store_true", help="print the packet filter's rules and change nothing"
    )
    action.add_argument("--apply", action="store_true", help="only set the packet filter's rules, as at boot")
    action.add_argument("--remove", action="store_true", help="only remove the packet filter's rules")
    action.add_argument(
        "--check", action="store_true", help="exit with code 0 if the rules are in place, else with 1"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="user that the relay runs as, and the only one who may use machines' SOCKS [the current one]",
    )
    parser.add_argument("--port", type=int, default=12080, help="its own port on 127.0.0.1 [%(default)s]")
    parser.add_argument("--queue", type=int, default=1080, help="number of its netfilter queue [%(default)s]")
    parser.add_argument(
        "--target",
        default="198.18.0.2",
        metavar="ADDRESS",
        help="the machines' side of their hairpin [%(default)s]",
    )
    parser.add_argument(
        "--packet-filter",
        choices=("nft", "iptables"),
        help="[nft where the kernel has its queue, else iptables]",
    )
    parser.add_argument(
        "--pods-dial",
        metavar="RANGE/10",
        help="for a gateway in pods: a free range that stands for machines' addresses there",
    )
    parser.add_argument("--pods-from", metavar="NETWORK", help="network of those pods")
    _add_names(parser)
    parser.add_argument(
        "--metrics",
        default="127.0.0.1:9465",
        metavar="HOST:PORT",
        help="where it serves metrics [%(default)s]",
    )


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--names",
        metavar="DOMAIN",
        help="answer DNS for machine-<id>.DOMAIN: the gateway's tailscale.user and tailscale.hostName, joined by a dot",
    )
    parser.add_argument(
        "--names-address",
        metavar="HOST:PORT",
        default="127.0.0.1:9053",
        help="where it answers this host's resolver [%(default)s]",
    )
    parser.add_argument(
        "--names-for-pods",
        metavar="HOST:PORT",
        help="where it answers gateway pods, with addresses in --pods-dial",
    )


def run(args: argparse.Namespace) -> int:
    """Carry the command out. Raises: SettingsError."""
    rules = RuleSettings(
        _uid(args.user), _number(args.queue, "--queue"), _number(args.port, "--port"), _pods(args)
    )
    names = _names(args, rules.pods)
    if args.dry_run or args.apply or args.remove or args.check:
        return _filter(args, rules)
    return _relay(args, rules, names)


def _filter(args: argparse.Namespace, rules: RuleSettings) -> int:
    from agent.gateway_host.packet_filter import PacketFilter

    if args.remove:
        PacketFilter(rules, args.packet_filter or "nft").remove()
        return ExitCode.OK
    packet_filter = PacketFilter(rules, args.packet_filter)
    if args.dry_run:
        print(packet_filter.rules(), end="")
    elif args.apply:
        packet_filter.apply()
    elif not packet_filter.in_place():
        print(
            f"the relay's rules are not in place ({packet_filter.kind}); 'beta9-worker relay --apply' sets them"
        )
        return ExitCode.FAILED_CHECK
    return ExitCode.OK


def _relay(args: argparse.Namespace, rules: RuleSettings, names: NamesSettings | None) -> int:
    from agent.gateway_host.relay import Relay, RelaySettings
    from agent.observability.logs import setup

    setup()
    if rules.uid != os.geteuid():
        raise SettingsError(
            f"the relay runs as uid {os.geteuid()}, and its rules would let only uid {rules.uid} use machines' SOCKS; "
            "start it as that user, or leave --user out"
        )
    try:
        target = IPv4Address(args.target)
    except ValueError as error:
        raise SettingsError(f"--target must be an IPv4 address, not {shown(args.target)}") from error
    Relay(RelaySettings(rules, args.packet_filter, target, args.metrics, names)).run()
    return ExitCode.OK


def _uid(user: str | None) -> int:
    if user is None:
        return os.geteuid()
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise SettingsError(
            f"--user: this host has no user {shown(user)}; create it, or name another"
        ) from error


def _number(value: int, flag: str) -> int:
    if not 1 <= value <= 65535:
        raise SettingsError(f"{flag} must be from 1 to 65535, not {value}")
    return value


def _names(args: argparse.Namespace, pods: Pods | None) -> NamesSettings | None:
    """Return what is to be answered. Raises: SettingsError."""
    if args.names is None:
        if args.names_for_pods:
            raise SettingsError("--names-for-pods requires --names")
        return None
    try:
        domain = parse_domain(args.names)
    except ValueError as error:
        raise SettingsError(f"--names: {shown(args.names)} {error}") from error
    places: list[tuple[tuple[str, int], Pods | None]] = [
        (_place(args.names_address, "--names-address"), None)
    ]
    if args.names_for_pods:
        if pods is None:
            raise SettingsError("--names-for-pods requires --pods-dial, which says what is answered there")
        places.append((_place(args.names_for_pods, "--names-for-pods"), pods))
    return NamesSettings(domain, tuple(places))


def _place(text: str, flag: str) -> tuple[str, int]:
    from agent.observability.status_server import split_address

    try:
        host, port = split_address(text)
        return str(IPv4Address(host)), port
    except ValueError as error:
        raise SettingsError(f"{flag} must be an IPv4 address and a port, not {shown(text)}") from error


def _pods(args: argparse.Namespace) -> Pods | None:
    if args.pods_dial is None and args.pods_from is None:
        return None
    if args.pods_dial is None or args.pods_from is None:
        raise SettingsError(
            "--pods-dial and --pods-from belong together: which range is dialled, and from where"
        )
    try:
        return Pods(IPv4Network(args.pods_dial), IPv4Network(args.pods_from))
    except ValueError as error:
        raise SettingsError(f"--pods-dial, --pods-from: {error}") from error
