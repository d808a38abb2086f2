"""Text for people: describing values, and redacting secrets."""
