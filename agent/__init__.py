"""beta9-worker: turns any GPU machine into a worker of your Beta9 cluster, with outgoing connections only."""

__version__ = "0.1.0"
