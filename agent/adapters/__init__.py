"""One folder for each thing outside the process. Adapters carry out requests and report; they decide nothing."""
