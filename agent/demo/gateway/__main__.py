"""Entry point of `python -m agent.demo.gateway`."""

from agent.demo.gateway.embedded import main

main()
