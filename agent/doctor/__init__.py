"""`doctor`: every prerequisite by name, with what was seen and the fix. Each group of checks is a file of its own.

`check` says what a check is, `case` what all of them share, `runner` runs them side by side. Loaded only by the
command: a running agent needs none of it.
"""
