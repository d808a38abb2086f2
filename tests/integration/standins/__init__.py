"""Stand-ins for what cannot run here; each says what it stands for."""
