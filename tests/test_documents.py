"""What looks like code in the README and the docs runs."""

import re

import matplotlib
import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()) + re.findall(r'src="([^"]+)"', page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}, which does not exist"


def test_the_readme_has_its_two_commands():
    commands = [line for block in blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    install = "python3 -m venv .venv && .venv/bin/pip install "
    example = " && .venv/bin/python examples/mnist/attention.py"
    assert any(line.startswith(install) and example in line for line in commands)
    assert any(line.startswith(install) and line.endswith(" && .venv/bin/python -m pytest") for line in commands)
