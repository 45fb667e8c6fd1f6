"""JSON files of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from everyformer.errors import BadInput


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BadInput(f"'{path}' cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadInput(f"'{path}' holds {type(found).__name__}; expected a JSON object")
    return found
