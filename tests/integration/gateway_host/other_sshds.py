"""sshds of other versions, as far as this machine's real one can stand in for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from agent.demo.sshd.program import find_sshd
from tests.integration.gateway_host.check_program import knows


def with_version(directory: Path, version: str) -> str:
    """Create an sshd that prints a version and is otherwise this machine's. Return the PATH with it in front."""
    return _program(
        directory,
        f'#!/bin/sh\n[ "$1" != -V ] || {{ echo "OpenSSH_{version}, x" >&2; exit; }}\nexec {find_sshd()} "$@"\n',
    )


def with_penalties(directory: Path) -> str:
    """Return a PATH whose sshd knows PerSourcePenalties, as OpenSSH does since 9.8: this machine's, if it does."""
    if knows("PerSourcePenalties no"):
        return f"{os.environ['PATH']}:/usr/sbin"
    return _program(directory, f"#!{sys.executable} -SE\n{_PENALTIES}".replace("REAL", repr(find_sshd())))


def _program(directory: Path, text: str) -> str:
    directory.mkdir()
    (directory / "sshd").write_text(text)
    (directory / "sshd").chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


_PENALTIES = '''
"""The real sshd for everything but two keywords, which are parsed as OpenSSH 9.9 does (servconf.c) and taken out."""
import glob, ipaddress, os, re, subprocess, sys, tempfile

DEFAULTS = {"crash": 90, "authfail": 5, "noauth": 1, "grace-exceeded": 10, "max": 600, "min": 15}
found = {}

def taken(line, where):
    """Whether the line is one of the two keywords; the first of each counts."""
    match = re.match(r"\\s*(PerSourcePenalt\\w+)[\\s=]+(.*\\S)", line, re.IGNORECASE)
    if not match:
        return False
    name, value = match[1].lower(), match[2]
    if name == "persourcepenalties":
        for word in value.split():
            key, _, number = word.partition(":")
            if value in ("yes", "no"):
                continue
            if key not in DEFAULTS or not re.fullmatch(r"[0-9]+[smh]?", number):
                sys.exit(f"{where}: unsupported PerSourcePenalties keyword {word}")
    elif name == "persourcepenaltyexemptlist":
        try:
            # A word that is no address is taken for a pattern, as OpenSSH does.
            [ipaddress.ip_network(each) for each in value.split(",") if "/" in each]
        except ValueError:
            sys.exit(f"{where}: keyword PerSourcePenaltyExemptList invalid address argument.")
    else:
        return False
    found.setdefault(name, value)
    return True

def flattened(path):
    """The lines of a configuration with its includes, without the two keywords."""
    for number, line in enumerate(open(path), start=1):
        include = re.match(r"\\s*Include\\s+(\\S+)", line, re.IGNORECASE)
        if include:
            for each in sorted(glob.glob(include[1])):
                yield from flattened(each)
                yield "Match all\\n"
        elif not taken(line, f"{path} line {number}"):
            yield line

words = sys.argv[1:]
if words == ["-V"]:
    sys.exit("OpenSSH_9.9p2, a stand-in")
kept, config = [], None
while words:
    word = words.pop(0)
    if word == "-o" and taken(words[0], "command-line line 0"):
        words.pop(0)
    elif word == "-f":
        config = words.pop(0)
    else:
        kept.append(word)
with tempfile.TemporaryDirectory(dir="/run") as directory:
    if config is not None:
        copy = os.path.join(directory, "config")
        with open(copy, "w") as file:
            file.writelines(flattened(config))
        kept += ["-f", copy]
    code = subprocess.run([REAL, *kept]).returncode
if code == 0 and "-T" in kept:
    value = found.get("persourcepenalties", "yes")
    parts = {**DEFAULTS, **dict(word.split(":") for word in value.split() if ":" in word)}
    print("persourcepenalties", "no" if value == "no" else " ".join(f"{name}:{parts[name]}" for name in parts))
    print("persourcepenaltyexemptlist", found.get("persourcepenaltyexemptlist", "none"), flush=True)
sys.exit(code)
'''
