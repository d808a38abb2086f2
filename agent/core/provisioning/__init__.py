"""Texts that turn other machines into workers: user data, settings files, keys. Pure."""
