"""`doctor`: named checks of every prerequisite, each with what was seen and how to fix it. One file per group.

`check` defines checks and findings, `case` what they share, `runner` runs them in parallel. Only the command imports
this package: a running agent needs none of it.
"""
