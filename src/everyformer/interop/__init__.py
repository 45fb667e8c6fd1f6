"""Ways in from other libraries and out to them."""
