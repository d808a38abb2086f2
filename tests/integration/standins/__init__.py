"""Stand-ins for what test machines lack; each says what it models."""
