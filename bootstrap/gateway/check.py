#!/usr/bin/env python3
"""Check whether a gateway's host is ready for workers that dial in over SSH. Changes nothing.

    sudo python3 check.py [--config GATEWAY_CONFIG] [--json]

As root it also logs in, with a key that only a second sshd on loopback knows.

Exit 0: no check failed, 1: at least one did, 2: usage error. Needs only Python 3.9; a YAML configuration needs
PyYAML.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import check_account
import check_config
import check_keys
import check_login
import check_names
import check_port
import check_relay
import check_sshd
import sshd_settings
from findings import FAILED, WARNING, Finding, as_json, as_text, has_failed

ELSEWHERE = "192.0.2.1"
"""An address of nobody (RFC 5737): workers come from anywhere."""


def main() -> int:
    args = _parser().parse_args()
    relay = check_relay.installed(args.relay_user)
    port = check_relay.port_findings(relay, check_port.findings())
    found = [*_sshd(args, has_failed(port), relay), *port]
    if relay is not None:
        found += [*check_relay.findings(relay), *check_names.findings(relay)]
    findings = [_complete(finding, args) for finding in found]
    if args.config:
        findings += check_config.findings(args.config, args.pool, args.provider)
    sys.stdout.write((as_json(findings) if args.json else as_text(findings)) + "\n")
    return 1 if has_failed(findings) else 0


def _complete(finding: Finding, args: argparse.Namespace) -> Finding:
    """Return the finding with setup.sh as it has to be called for this user and this configuration."""
    setup = f"{Path(__file__).with_name('setup.sh')} --user {args.user} --sshd-config {args.sshd_config}"
    return replace(finding, fix=finding.fix.replace("setup.sh", setup))


def _sshd(args: argparse.Namespace, failed: bool, relay: check_relay.Installation | None) -> list[Finding]:
    sshd = sshd_settings.find_sshd()
    if sshd is None:
        return [Finding("sshd", FAILED, "not installed", "install the package openssh-server")]
    try:
        settings = sshd_settings.effective(sshd, args.sshd_config, args.user, args.address)
        on_loopback = sshd_settings.effective(sshd, args.sshd_config, args.user, "127.0.0.1")
    except sshd_settings.UnreadableError as error:
        return [
            Finding("sshd-config", FAILED, str(error), "run this as root, and correct what 'sshd -t' reports")
        ]
    found = check_sshd.findings(sshd_settings.version(sshd), settings, args.address, relay=relay is not None)
    found += _loopback(args.address, settings, on_loopback)
    found += check_account.findings(args.user, settings)
    lines, unreadable = check_keys.read(args.user, settings)
    found += (
        [unreadable]
        if unreadable
        else check_keys.findings(args.target, settings, lines, relay=relay is not None)
    )
    targets = args.target or check_keys.first_targets(lines)
    host = check_login.Host(sshd, args.sshd_config, args.user, on_loopback, targets, args.identity)
    if relay is not None:
        host = replace(host, port=check_keys.SOCKS_PORT)
    return found + check_login.findings(host, lines, failed or has_failed(found))


def _loopback(
    address: str, settings: sshd_settings.Settings, on_loopback: sshd_settings.Settings
) -> list[Finding]:
    """Say it if what is tried on loopback is not what workers meet."""
    different = sorted(
        name for name in {*settings, *on_loopback} if settings.get(name) != on_loopback.get(name)
    )
    if not different:
        return []
    seen = f"for {address} sshd has other settings than for 127.0.0.1: {', '.join(different)}"
    return [
        Finding(
            "match", WARNING, seen, "logins are tried on loopback: try one from a worker as well (doctor)"
        )
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="check.py",
        description="Check whether a gateway's host is ready for workers that dial in over SSH.",
    )
    parser.add_argument(
        "--user", default="beta9-tunnel", help="user that the workers log in as (%(default)s)"
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="BETA9_SSH_TARGET of the workers; repeatable (default: what their keys permit)",
    )
    parser.add_argument("--sshd-config", type=Path, default=Path("/etc/ssh/sshd_config"), metavar="FILE")
    parser.add_argument(
        "--from",
        dest="address",
        default=ELSEWHERE,
        metavar="ADDRESS",
        help="address that a worker comes from, for Match blocks and exemptions (%(default)s)",
    )
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="a worker's private key, to log in with at the running sshd",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the gateway's configuration, YAML or JSON"
    )
    parser.add_argument("--pool", help="pool to check (default: all with mode external)")
    parser.add_argument(
        "--provider", default="generic", help="BETA9_PROVIDER_NAME of the workers (%(default)s)"
    )
    parser.add_argument(
        "--relay-user", default="beta9-relay", metavar="NAME", help="as for setup.sh (%(default)s)"
    )
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
