"""Measuring Python modules, in plain Python: this file knows nothing of tasks. Part of ``stdlib_report.py``."""

from __future__ import annotations

import ast
import os
import time
import warnings
from dataclasses import dataclass, field

TESTS = "tests"
"""The group of all tests."""

TEST_FOLDERS = {"test", "tests", "idle_test"}
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert, ast.comprehension)


@dataclass
class Module:
    """Figures of one module.

    Attributes:
        group: The package it is in, or its own name at the top level; "tests" for tests, wherever they are.
        lines: Lines of its file.
        documentable: Public functions, methods and classes.
        documented: How many of these have a docstring.
        lengths: Lines of each function.
        branches: Decisions in all functions.
        modules: 1; so that a module can be counted in like a group of them.
    """

    group: str
    lines: int
    documentable: int = 0
    documented: int = 0
    lengths: list[int] = field(default_factory=list)
    branches: int = 0
    modules: int = 1


@dataclass
class Piece:
    """What one task found: its modules, the files it could not parse, and where and when it ran."""

    modules: list[Module]
    unreadable: list[str]
    worker: int
    began: float
    ended: float


def cut(modules: list[tuple[str, int]], size: int) -> list[list[str]]:
    """Divide modules, given as (path, bytes), into pieces of about ``size`` bytes, largest modules first."""
    pieces: list[list[str]] = []
    filled = size
    for path, weight in sorted(modules, key=lambda module: -module[1]):
        if filled + weight > size:
            pieces.append([])
            filled = 0
        pieces[-1].append(path)
        filled += weight
    return pieces


def measure_piece(source: str, paths: list[str], names_file: str) -> Piece:
    """Measure modules; set aside what cannot be parsed; write the names met outside of tests, one a line."""
    began = time.time()
    modules: list[Module] = []
    unreadable: list[str] = []
    names: list[str] = []
    for path in paths:
        try:
            modules.append(measure_module(source, path, names))
        except (SyntaxError, ValueError):  # ValueError: a null byte, or an encoding that does not exist
            unreadable.append(path)
    with open(names_file, "w", encoding="utf-8") as file:
        file.writelines(names)
    return Piece(modules, unreadable, os.getpid(), began, time.time())


def measure_module(source: str, path: str, names: list[str]) -> Module:
    """The figures of one module; the names it imports and calls, unless it is a test, are appended to ``names``.

    Raises:
        SyntaxError: It is not valid Python.
    """
    with open(path, "rb") as file:
        text = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old source has old escapes
        tree = ast.parse(text, path)
    parts = os.path.relpath(path, source).split(os.sep)
    module = Module(TESTS if TEST_FOLDERS.intersection(parts) else parts[0].removesuffix(".py"), text.count(b"\n"))
    if module.group == TESTS:
        names = []
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            _measure_definition(module, node)
        elif isinstance(node, BRANCHES):
            module.branches += 1
        elif isinstance(node, ast.BoolOp):
            module.branches += len(node.values) - 1
        elif isinstance(node, ast.Import):
            names.extend(f"import {alias.name.partition('.')[0]}\n" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(f"import {node.module.partition('.')[0]}\n")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names.append(f"call {node.func.id}\n")
    return module


def _measure_definition(module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    if not node.name.startswith("_"):
        module.documentable += 1
        module.documented += ast.get_docstring(node, clean=False) is not None
    if not isinstance(node, ast.ClassDef):
        module.lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
