"""What is measured, a command a table: `python -m benchmarks.encoder`."""

from benchmarks.peers import torchvision_operators

OPERATORS = torchvision_operators()
"""They last as long as the library that holds them."""
