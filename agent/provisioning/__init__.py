"""Turn other machines into workers: user data, a new machine's settings, and delivery of its secrets."""
