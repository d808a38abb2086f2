"""Entry point of `python -m agent.demo.worker`."""

from agent.demo.worker.worker import main

main()
