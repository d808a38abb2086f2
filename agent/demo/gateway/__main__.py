"""`python -m agent.demo.gateway`: run it as a process of its own."""

from agent.demo.gateway.embedded import main

main()
