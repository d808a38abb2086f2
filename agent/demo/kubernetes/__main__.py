"""Entry point of `python -m agent.demo.kubernetes`."""

from agent.demo.kubernetes.standin import main

main()
