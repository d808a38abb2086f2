"""Shell completion, made from the tables that `--help` is made from. Imported only when it is printed."""
