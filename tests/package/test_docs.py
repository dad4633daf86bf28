"""Documentation that is run: each Python block works as it stands, in an empty directory.

A block is run unless the line before it is ``<!-- not run: why -->``. Blocks of one page run one after another in one
program, so that a page can build on what it said before, unless the line before a block is ``<!-- fresh -->``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")


def programs(page: Path) -> list[str]:
    """The programs that a page's blocks make; each line keeps its number on the page."""
    text = page.read_text(encoding="utf-8")
    found: list[str] = []
    for match in BLOCK.finditer(text):
        note = match["note"] or ""
        if note.startswith("not run:"):
            continue
        line = text.count("\n", 0, match.start("code"))
        if not found or note == "fresh":
            found.append("")
        found[-1] += "\n" * (line - found[-1].count("\n")) + match["code"]
    return found


CASES = [
    pytest.param(page, program, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, program in enumerate(programs(page))
]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "program"), CASES)
def test_blocks_run(page: Path, program: str, tmp_path: Path) -> None:
    """The page's program ends well within a minute and prints no traceback."""
    script = tmp_path / page.with_suffix(".py").name
    script.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project leads to one."""
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
