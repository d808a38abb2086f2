"""The subcommands of `beta9-worker`, a file each: `add_parser(subparsers)` and `run(args) -> int`."""
