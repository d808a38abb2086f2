"""Entry point of `python -m agent.demo.sshd`."""

from agent.demo.sshd.throwaway import main

raise SystemExit(main())
