"""Module paths of the field, and what is not offered."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flowlib
from flowlib._aliases import ALIASES, UNOFFERED, UNOFFERED_NAMES, install

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("alias", ALIASES)
def test_alias_takes_no_name(alias: str) -> None:
    """Importing ``a.b`` sets ``b`` in ``a``: where ``a`` is an alias, that must not hide a name of the real module."""
    parent, _, name = alias.rpartition(".")
    file = importlib.import_module(parent).__file__
    assert file is not None
    tree = ast.parse(Path(file).read_text())
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert name not in loaded


@pytest.mark.parametrize("alias", ALIASES)
def test_alias_is_the_module(alias: str) -> None:
    """An alias is the very module, which keeps its own name and spec; it can be looked up and imported from."""
    real = importlib.import_module(ALIASES[alias])
    assert importlib.util.find_spec(alias) is not None
    assert importlib.import_module(alias) is real
    assert real.__spec__ is not None
    assert (real.__name__, real.__spec__.name) == (ALIASES[alias], ALIASES[alias])
    package, _, name = alias.rpartition(".")
    assert getattr(importlib.import_module(package), name) is real


def test_aliases_first() -> None:
    """An alias works as the first import of a process, and the real module afterwards is the same."""
    for alias, real in sorted(ALIASES.items()):
        program = f"import {alias} as a, {real} as b, importlib; assert a is b; assert importlib.import_module('{alias}') is b"
        done = subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr


def test_one_class() -> None:
    """A class found through an alias is the class, and pickles under its real name."""
    from flowlib import errors

    found = importlib.import_module("flowlib.dataflow.errors").DependencyError
    assert found is errors.DependencyError
    assert b"flowlib.errors" in pickle.dumps(found)


def test_patches_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch through an alias is seen through the real path."""
    monkeypatch.setattr("flowlib.jobs.errors.TooManyJobFailuresError", 5)
    from flowlib import errors

    assert errors.TooManyJobFailuresError == 5


@pytest.mark.parametrize("module", UNOFFERED)
def test_unoffered_modules(module: str) -> None:
    """A module that is not offered says so and names the alternative; it can be caught as a missing one."""
    with pytest.raises(ModuleNotFoundError, match=re.escape(UNOFFERED[module])) as caught:
        importlib.import_module(module)
    assert caught.value.name == module


@pytest.mark.parametrize("name", UNOFFERED_NAMES)
def test_unoffered_names(name: str) -> None:
    """So does a class of it."""
    with pytest.raises(ImportError, match=name):
        exec(f"from flowlib import {name}")
    package = UNOFFERED_NAMES[name].rpartition(".")[0]
    with pytest.raises(ImportError, match=name):
        exec(f"from {package} import {name}")


def test_submodules_as_attributes() -> None:
    """After `import flowlib` its modules are there as attributes; what is no module is an AttributeError."""
    program = (
        "import flowlib\n"
        "assert flowlib.errors.AppTimeout and flowlib.app.errors and flowlib.config.Config and flowlib.app.app\n"
        "assert flowlib.dataflow.errors.JoinError and flowlib.executors.errors and flowlib.jobs.states and flowlib.providers.base\n"
        "assert flowlib.data_provider.files.File and not hasattr(flowlib.app, 'nothing_of_that')\n"
        "assert not hasattr(flowlib, 'nothing_of_that') and not hasattr(flowlib, '_private')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=30)
    with pytest.raises(AttributeError, match="did you mean 'python_app'"):
        _ = flowlib.pyton_app


def test_installed_once() -> None:
    """Installing again adds nothing."""
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before


def test_import_stays_small() -> None:
    """`import flowlib` loads little, and an app little more."""
    program = (
        "import sys; before = set(sys.modules); import flowlib; bare = set(sys.modules) - before\n"
        "flowlib.bash_app(lambda: 'x'); flowlib.python_app(cache=True)(lambda: 'x'); all = set(sys.modules) - before\n"
        "print(len(bare), len(all), *sorted(all))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    bare, everything, *names = done.stdout.split()
    assert int(bare) < 45, names
    assert int(everything) < 120, names
    assert not set(names) & {
        "asyncio",
        "dataclasses",
        "dill",
        "inspect",
        "msgspec",
        "psutil",
        "rich",
        "subprocess",
        "typeguard",
        "zmq",
    }
