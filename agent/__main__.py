"""`python -m agent`: equivalent to the console script `beta9-worker`."""

import sys

from agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
