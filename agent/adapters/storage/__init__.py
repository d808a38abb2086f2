"""Files that survive a restart."""
