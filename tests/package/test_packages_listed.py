"""pyproject.toml lists packages by hand, since a search would miss some; these tests keep the list complete."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
REAL = {"flowlib": "flowlib", "providers": "flowlib.providers", "executors": "flowlib.executors"}
REAL["configs"] = "flowlib.configs"


def project() -> dict[str, Any]:
    """pyproject.toml."""
    if sys.version_info < (3, 11):
        pytest.skip("needs tomllib, Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_in_tree() -> list[str]:
    """Every package, found by its ``__init__.py`` in the real directories."""
    found = []
    for top, name in REAL.items():
        for directory, _, files in os.walk(ROOT / top):  # does not follow links
            if "__init__.py" in files:
                relative = Path(directory).relative_to(ROOT / top).parts
                found.append(".".join((name, *relative)))
    return sorted(found)


def test_every_package_is_listed() -> None:
    """The list in pyproject.toml is the tree's packages: one left out would vanish from the wheel silently."""
    assert sorted(project()["tool"]["setuptools"]["packages"]) == packages_in_tree()


def test_every_directory_with_code_is_a_package() -> None:
    """No directory holds Python files without an ``__init__.py``: it would not be installed."""
    for top in REAL:
        for directory, _, files in os.walk(ROOT / top):
            if any(name.endswith(".py") for name in files):
                assert "__init__.py" in files, directory


@pytest.mark.parametrize("name", ["providers", "executors", "configs"])
def test_links_are_relative(name: str) -> None:
    """``flowlib/<name>`` is a relative link to the real directory, so a checkout works wherever it lies."""
    link = ROOT / "flowlib" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"


def test_data_files_are_packaged() -> None:
    """Every file beside the code that is not Python matches the package-data patterns."""
    patterns = project()["tool"]["setuptools"]["package-data"]["*"]
    for top in REAL:
        for directory, folders, files in os.walk(ROOT / top):
            folders[:] = [f for f in folders if f != "__pycache__"]
            for name in files:
                path = Path(directory, name)
                assert name.endswith(".py") or any(path.match(p) for p in patterns), f"{path} would not be installed"
