"""A page in headless Chromium: what it shows after some actions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
)  # fmt: skip


def acted(page: Path, script: str, folder: Path, *, size: str = "1000,800", dark: bool = False) -> dict:
    """What `script`, an async function's body, returns in the page; errors of the page fail the test.

    It may `await open("lens")` a tab, and `await until(() => ...)` something.
    """
    tools = """
      const fails = []; addEventListener("error", e => fails.push(e.message));
      addEventListener("unhandledrejection", e => fails.push(String(e.reason && e.reason.stack || e.reason)));
      const until = async found => { for (let i = 0; i < 400; i++) { const it = found(); if (it) return it; await new Promise(r => setTimeout(r, 20)); } throw Error("waited in vain: " + found); };
      const open = async name => { document.getElementById("tab-" + name).click(); await until(() => document.getElementById("view").dataset.ready === name); };
    """
    act = (
        f"<script>(async () => {{ {tools} let got; try {{ await until(() => document.getElementById('view').dataset.ready);"
        f"got = await (async () => {{ {script} }})(); }} catch (e) {{ fails.push(String(e.stack || e)); }}"
        "const out = document.createElement('pre'); out.id = 'result'; out.textContent = JSON.stringify({got, fails});"
        "document.body.append(out); })();</script>"
    )
    text = page.read_text()
    first = text.index("<script type=")
    changed = folder / "acted.html"
    changed.write_text(text[:first] + text[first:].replace("</body>", act + "</body>"))
    options = [f"--user-data-dir={folder / 'browser'}", f"--window-size={size}"]
    if dark:
        options.append("--blink-settings=preferredColorScheme=0")
    done = subprocess.run(
        [CHROMIUM, *_QUIET, *options, "--dump-dom", changed.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )  # fmt: skip
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    import html

    result = json.loads(html.unescape(found.group(1)))
    assert not result["fails"], result["fails"]
    return result["got"]
