"""Serves OSV's query API on loopback from a checkout of the Python Packaging Advisory Database.

For sites that cannot reach a vulnerability service: `make audit ADVISORIES=DIR`. The database is
https://github.com/pypa/advisory-database: one YAML file per advisory, in the OSV schema, below vulns/PACKAGE/.
The API is https://google.github.io/osv.dev/post-v1-query/, of which pip-audit uses one query: the known vulnerabilities
of one version of a package.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version


class Advisories:
    """The advisories in a checkout, read lazily by package."""

    def __init__(self, checkout: Path) -> None:
        """Raises: FileNotFoundError if the checkout contains no advisories."""
        self._packages: dict[str, list[Path]] = {}
        for folder in (path for path in (checkout / "vulns").glob("*") if path.is_dir()):
            self._packages.setdefault(canonicalize_name(folder.name), []).append(folder)
        if not self._packages:
            raise FileNotFoundError(
                f"{checkout} contains no vulns/PACKAGE/*.yaml; give a checkout of pypa/advisory-database"
            )

    def of(self, package: str, version: str) -> list[dict[str, Any]]:
        """Return the advisories that affect one version. Raises: InvalidVersion."""
        wanted = Version(version)
        folders = self._packages.get(canonicalize_name(package), [])
        advisories = (
            yaml.load(path.read_bytes(), _Loader)
            for folder in folders
            for path in sorted(folder.glob("*.yaml"))
        )
        return [each for each in advisories if _concerns(each, canonicalize_name(package), wanted)]


class _Loader(yaml.CSafeLoader):
    """Loads YAML but keeps dates as text, as in the API's JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _concerns(advisory: Mapping[str, Any], package: str, wanted: Version) -> bool:
    return any(
        canonicalize_name(affected["package"]["name"]) == package and _affects(affected, wanted)
        for affected in advisory.get("affected", [])
        if affected.get("package", {}).get("ecosystem") == "PyPI"
    )


def _affects(affected: Mapping[str, Any], wanted: Version) -> bool:
    listed = (_version(text) for text in affected.get("versions", []))
    ranges = (each["events"] for each in affected.get("ranges", []) if each["type"] == "ECOSYSTEM")
    return wanted in listed or any(_within(events, wanted) for events in ranges)


def _within(events: list[Mapping[str, str]], wanted: Version) -> bool:
    """Apply OSV's rule: in version order, each event at or below the version opens or closes the range."""
    affected = False
    for kind, version in sorted(
        ((kind, _version(text)) for event in events for kind, text in event.items()), key=lambda each: each[1]
    ):
        if kind == "last_affected":
            affected = affected and wanted <= version
        elif version <= wanted:
            affected = kind == "introduced"
    return affected


def _version(text: str) -> Version:
    """Parse a version. Invalid ones, as in old advisories, become a version that no package has."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0.dev0+unreadable")


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, advisories: Advisories, *args: Any) -> None:
        self._advisories = advisories
        super().__init__(*args)

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self._advisories.of(query["package"]["name"], query["version"])
        body = json.dumps({"vulns": found} if found else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing: every request comes from this process's own pip-audit."""


@contextmanager
def served(checkout: Path) -> Iterator[str]:
    """Serve the query API and yield its URL. Raises: FileNotFoundError if the checkout has no advisories."""
    handler = partial(_Handler, Advisories(checkout))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()
