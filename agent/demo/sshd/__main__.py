"""`python -m agent.demo.sshd`: run it as a process of its own."""

from agent.demo.sshd.throwaway import main

raise SystemExit(main())
