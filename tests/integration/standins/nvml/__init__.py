"""A directory for PYTHONPATH: its pynvml.py is found before the real one."""
