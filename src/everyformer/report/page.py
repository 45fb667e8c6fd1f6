"""Pages that need nothing but themselves: one file, one style, light and dark."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """A template of this folder, with the style that all pages share as `style`."""
    import jinja2
    from markupsafe import Markup

    style = Markup((_HERE / "page.css").read_text())
    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return pages.from_string((_HERE / template).read_text()).render(style=style, **values)


def written(path: Path, text: str) -> Path:
    """The text in a file, written beside its place and renamed."""
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.replace(path)
    return path


@dataclass(frozen=True)
class Page:
    """A look inside a model: save it, or let a notebook show it."""

    data: dict[str, Any]
    """What `inside.gather` found."""
    view: str = ""
    """The view that is open first."""

    def html(self) -> str:
        """The whole page."""
        from markupsafe import Markup

        plain = json.dumps({**self.data, "open": self.view}, ensure_ascii=False, separators=(",", ":"))
        safe = plain.replace("<", "\\u003c")
        return rendered(
            "look.html", title=self.data["title"], data=Markup(safe), script=Markup((_HERE / "look.js").read_text())
        )

    def save(self, path: str | Path) -> Path:
        """Write the page and give its path."""
        return written(Path(path), self.html())

    def _repr_html_(self) -> str:
        """The page inside a notebook, in a frame of its own."""
        return f'<iframe srcdoc="{html.escape(self.html())}" style="width:100%;height:720px;border:0"></iframe>'
