"""A directory for PYTHONPATH, whose pynvml.py is found before the real one."""
