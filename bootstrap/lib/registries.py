"""Turns Docker's login file (stdin) into the `registries.yaml` that k3s reads (stdout). Standard library only.

JSON is YAML, so quoting is JSON's. Nothing of the input is ever shown: a mistake is named by where it is.
"""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit


def registry(name: str) -> str:
    """Docker may write an address where k3s wants a host: `https://index.docker.io/v1/` is docker.io."""
    host = urlsplit(name if "//" in name else f"//{name}").netloc
    return "docker.io" if host == "index.docker.io" else host


def main() -> int:
    """Exit 1, saying where, for what is not a login file."""
    try:
        logins = json.load(sys.stdin)["auths"]
        configs = {registry(name): {"auth": {"auth": login["auth"]}} for name, login in logins.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(
            f"BETA9_REGISTRY_AUTH_FILE: not a login file as `docker login` writes it ({type(error).__name__})\n"
        )
        return 1
    sys.stdout.write("# Written by the Beta9 worker bootstrap from BETA9_REGISTRY_AUTH_FILE.\n")
    sys.stdout.write(json.dumps({"configs": configs}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
