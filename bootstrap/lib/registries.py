"""Convert Docker's login file (stdin) to the `registries.yaml` that k3s reads (stdout). Standard library only.

The output is JSON, which is valid YAML. Errors never show the input, since it contains credentials.
"""

from __future__ import annotations

import json
import sys
from urllib.parse import urlsplit


def registry(name: str) -> str:
    """Return the host that k3s expects for a name in Docker's file: `https://index.docker.io/v1/` is docker.io."""
    host = urlsplit(name if "//" in name else f"//{name}").netloc
    return "docker.io" if host == "index.docker.io" else host


def main() -> int:
    """Convert stdin to stdout; return 1 with a message if stdin is not a login file."""
    try:
        logins = json.load(sys.stdin)["auths"]
        configs = {registry(name): {"auth": {"auth": login["auth"]}} for name, login in logins.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(
            f"BETA9_REGISTRY_AUTH_FILE: not a login file as written by `docker login` ({type(error).__name__})\n"
        )
        return 1
    sys.stdout.write("# Written by the Beta9 worker bootstrap from BETA9_REGISTRY_AUTH_FILE.\n")
    sys.stdout.write(json.dumps({"configs": configs}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
