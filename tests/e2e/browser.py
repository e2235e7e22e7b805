"""A page in a real browser, Chromium without a window, in light and in dark.

Where it is not installed the tests that need it are skipped; under CI=true that is a failure instead.
"""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SCHEMES = {"dark": 0, "light": 1}
WITHIN_S = 120
FOUND = re.compile(r'<pre id="found">(.*?)</pre>', re.DOTALL)


def chromium() -> str:
    """The browser. Skips the test, saying why, where there is none; fails it under CI=true."""
    if path := next(filter(None, map(shutil.which, NAMES)), None):
        return path
    reason = f"none of {', '.join(NAMES)} is installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI these tests are not skipped")
    pytest.skip(reason)


def looked_at(page: str, script: str, *, folder: Path, scheme: str) -> Any:  # noqa: ANN401  # JSON
    """What `script`, a JavaScript expression, gives in the page as it is laid out in that colour scheme."""
    browser = chromium()
    written = f"<pre id='found'></pre><script>found.textContent = JSON.stringify({script})</script>"
    file = folder / "page.html"
    file.write_text(page.replace("</body>", f"{written}</body>"), encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"),
        *(f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"),
        *("--dump-dom", file.as_uri()),
    ]
    shown = subprocess.run(command, capture_output=True, timeout=WITHIN_S, check=True, text=True)
    (found,) = FOUND.findall(shown.stdout)
    return json.loads(unescape(found))
