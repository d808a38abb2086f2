"""Switch off one repository in a file of apt's sources (stdin to stdout). Standard library only.

Usage: apt_sources.py list|sources ARCHITECTURE URI SUITE

apt reads nothing at all if a repository is listed twice with different options, such as two keys. It is the same
repository for apt if its index files would get the same name: whatever the scheme, a user name, or $(ARCH).
Everything else in the file stays as it is.
"""

from __future__ import annotations

import re
import sys

ONE_LINE = re.compile(r"\s*deb(-src)?\s+(\[[^]]*\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)")
FIELD = re.compile(r"([^\s:#]+)\s*:(.*)", re.DOTALL)
OFF = {"no", "false", "without", "off", "disable", "0"}


def identity(uri: str, suite: str, architecture: str) -> str:
    """Return what apt derives the names of a repository's index files from."""
    uri, suite = (text.replace("$(ARCH)", architecture) for text in (uri, suite))
    place = re.sub(r"^[^:/]*:(//([^/@]*@)?)?", "", uri)
    place += "" if place.endswith("/") else "/"
    if not suite.endswith("/"):
        return f"{place}dists/{suite}/"
    return place if suite == "/" else place + suite


class Stanza:
    """One stanza of a deb822 file: its lines, and where its fields are."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.fields: dict[str, tuple[int, int]] = {}
        name = ""
        for number, line in enumerate(lines):
            match = FIELD.match(line)
            if match:
                name = match[1].lower()
                self.fields[name] = (number, number + 1)
            elif name and line[:1] in {" ", "\t"}:
                self.fields[name] = (self.fields[name][0], number + 1)

    def words(self, name: str) -> list[str]:
        start, end = self.fields.get(name, (0, 0))
        text = " ".join(line.strip() for line in self.lines[start:end] if not line.startswith("#"))
        return text.partition(":")[2].split()

    def having(self, **values: list[str]) -> list[str]:
        """Return the stanza's lines with other values in these fields; a missing one is put first."""
        lines = list(self.lines)
        for name, words in sorted(
            values.items(), key=lambda item: self.fields.get(item[0], (-1, -1)), reverse=True
        ):
            first = min(start for start, _ in self.fields.values())
            start, end = self.fields.get(name, (first, first))
            label = lines[start].partition(":")[0] if end > start else name.capitalize()
            lines[start:end] = [f"{label}: {' '.join(words)}\n"]
        return lines

    def without(self, unwanted: str, architecture: str) -> list[str]:
        """Return lines that list everything this stanza lists, except for one repository."""
        uris, suites = self.words("uris"), self.words("suites")
        hit = {
            uri: [each for each in suites if identity(uri, each, architecture) == unwanted] for uri in uris
        }
        if not any(hit.values()) or " ".join(self.words("enabled")).lower() in OFF:
            return self.lines
        kept = [uri for uri in uris if not hit[uri]]
        parts = [{"uris": kept}] if kept else []
        for uri in uris:
            rest = [each for each in suites if each not in hit[uri]]
            if hit[uri] and rest:
                parts.append({"uris": [uri], "suites": rest})
        if not parts:
            return self.having(enabled=["no"])
        return "\n".join("".join(self.having(**part)).rstrip("\n") + "\n" for part in parts).splitlines(True)


def edited(text: str, kind: str, unwanted: str, architecture: str) -> str:
    """Return the file's text without the repository."""
    lines = text.splitlines(keepends=True)
    if kind == "list":
        for number, line in enumerate(lines):
            match = ONE_LINE.match(line)
            if match and identity(match["uri"], match["suite"], architecture) == unwanted:
                lines[number] = f"# {line}"
        return "".join(lines)
    stanzas: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            stanzas[-1].append(line)
        else:
            stanzas += [[line], []]
    return "".join("".join(Stanza(each).without(unwanted, architecture)) for each in stanzas)


def main() -> int:
    kind, architecture, uri, suite = sys.argv[1:]
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")  # type: ignore[union-attr]
    sys.stdout.write(edited(sys.stdin.read(), kind, identity(uri, suite, architecture), architecture))
    return 0


if __name__ == "__main__":
    sys.exit(main())
