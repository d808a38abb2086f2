"""What makes other machines workers, as far as it is pure text."""
