"""beta9-worker: makes a machine with GPUs, anywhere, a worker of a Beta9 cluster by dialling out."""

__version__ = "0.1.0"
