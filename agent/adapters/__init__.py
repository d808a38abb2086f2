"""One file for each thing outside the process. An adapter does what it is told and reports; it decides nothing."""
