"""The page in a real browser: no script error, nothing asked from outside, and its tables sort."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.report.write import Image

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SORT = """<script>
const head = [...document.querySelectorAll("th")].find(th => th.textContent === "median ms");
head.click();
const column = () => [...head.closest("table").tBodies[0].rows].map(r => parseFloat(r.cells[head.cellIndex].textContent));
const up = column(); head.click(); const down = column();
document.title = JSON.stringify({up, down});
</script></body>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], tuple[str, str]]:
    """(the page after its scripts ran, what the browser logged)."""
    browser = BROWSER
    if browser is None:
        pytest.skip("no Chromium; install chromium")

    def go(page: Path) -> tuple[str, str]:
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                f"--user-data-dir={tmp_path}/p", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout, done.stderr

    return go


@pytest.mark.slow
def test_the_page_in_a_browser(
    browse: Callable[[Path], tuple[str, str]],
    full: Any,
    pictures: list[Image],
    tmp_path: Path,
) -> None:
    full.write(tmp_path, pictures)
    page = tmp_path / "report.html"
    html = page.read_text(encoding="utf-8")
    shown, logged = browse(page)
    assert "CONSOLE" not in logged  # errors of scripts, and requests that the page's own policy refuses
    assert "Latency on local" in shown
    bad = tmp_path / "bad.html"
    bad.write_text(html.replace("</body>", "<img src='https://example.org/x.png'></body>"), encoding="utf-8")
    assert "CONSOLE" in browse(bad)[1]  # so that silence means something
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
    page.write_text(html.replace("</body>", SORT), encoding="utf-8")
    shown, logged = browse(page)
    assert "CONSOLE" not in logged
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title is not None
    sorts = json.loads(title.group(1))
    assert len(sorts["up"]) > 3
    assert sorts["up"] == sorted(sorts["up"])
    assert sorts["down"] == sorted(sorts["down"], reverse=True)
