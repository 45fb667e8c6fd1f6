"""Pages a person wants to read."""
