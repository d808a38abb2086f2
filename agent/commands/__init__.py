"""The subcommands of `beta9-worker`, one file each: `add_parser(commands)` and `run(args) -> int`."""
