#!/usr/bin/env python3
"""Check whether a gateway's host is ready for workers that dial in over SSH. Changes nothing.

    sudo python3 check.py [--config GATEWAY_CONFIG] [--json]

Exit 0: no check failed, 1: at least one did, 2: usage error. Needs only Python 3.9; a YAML configuration needs
PyYAML.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import check_account
import check_config
import check_keys
import check_port
import check_sshd
import sshd_settings
from findings import FAILED, Finding, as_json, as_text, has_failed


def main() -> int:
    args = _parser().parse_args()
    findings = _sshd(args)
    findings += check_port.findings()
    if args.config:
        findings += check_config.findings(args.config, args.pool, args.provider)
    sys.stdout.write((as_json(findings) if args.json else as_text(findings)) + "\n")
    return 1 if has_failed(findings) else 0


def _sshd(args: argparse.Namespace) -> list[Finding]:
    sshd = sshd_settings.find_sshd()
    if sshd is None:
        return [Finding("sshd", FAILED, "not installed", "install the package openssh-server")]
    try:
        settings = sshd_settings.effective(sshd, args.sshd_config, args.user)
    except sshd_settings.UnreadableError as error:
        return [
            Finding("sshd-config", FAILED, str(error), "run this as root, and correct what 'sshd -t' reports")
        ]
    found = check_sshd.findings(sshd_settings.version(sshd), settings)
    found += check_account.findings(args.user, settings)
    return found + check_keys.findings(args.user, args.target, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="check.py",
        description="Check whether a gateway's host is ready for workers that dial in over SSH.",
    )
    parser.add_argument(
        "--user", default="beta9-tunnel", help="user that the workers log in as (%(default)s)"
    )
    parser.add_argument(
        "--target", default="localhost:31994", help="BETA9_SSH_TARGET of the workers (%(default)s)"
    )
    parser.add_argument("--sshd-config", type=Path, default=Path("/etc/ssh/sshd_config"), metavar="FILE")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the gateway's configuration, YAML or JSON"
    )
    parser.add_argument("--pool", help="pool to check (default: all with mode external)")
    parser.add_argument(
        "--provider", default="generic", help="BETA9_PROVIDER_NAME of the workers (%(default)s)"
    )
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
