"""A worker process and a module that it cannot import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .remote import Remote


@pytest.fixture(scope="module")
def remote() -> Iterator[Remote]:
    """A worker process, shared by the tests of a module as it is by tasks."""
    remote = Remote()
    yield remote
    remote.close()


@pytest.fixture(scope="session")
def zoo() -> Any:
    """The definitions of ``zoo.py`` as those of a notebook."""
    path = Path(__file__).with_name("zoo.py")
    module = ModuleType("notebook")
    sys.modules["notebook"] = module
    exec(compile(path.read_text(), str(path), "exec"), vars(module))  # that is what notebooks do
    return module
