"""`python -m agent.demo.kubernetes`: run it as a process of its own."""

from agent.demo.kubernetes.standin import main

main()
