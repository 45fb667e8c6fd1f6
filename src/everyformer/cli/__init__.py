"""The command line: `everyformer --help`."""

from everyformer.cli.app import main

__all__ = ["main"]
