"""Published systems: one file each, or one for a close family."""
