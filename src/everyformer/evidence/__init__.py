"""What shows that a system works: small experiments that could refute it, each run again by a command."""

from everyformer.evidence.harness import VERDICTS, Finding, evidence, gather, kept, known

__all__ = ["VERDICTS", "Finding", "evidence", "gather", "kept", "known"]
