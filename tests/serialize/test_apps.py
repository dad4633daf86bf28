"""Apps stand in their modules where functions stood; what is sent is the function."""

from __future__ import annotations

from typing import Any

from flowlib.app.app import bash_app, python_app
from flowlib.serialize.functions import decode_function, encode_function

from .remote import Remote


@python_app
def double(x: int) -> int:
    """An app in an importable module."""
    return 2 * x


@bash_app
def command(word: str) -> str:
    """A bash app in an importable module."""
    return f"test {word} = yes"


def test_function_of_an_app_travels_by_name(remote: Remote) -> None:
    """Not the app but its function arrives, by name."""
    body = encode_function(double.target)
    assert len(body) < 140
    assert decode_function(body) is double.func
    assert remote.call(double.target, 4) == 8


def test_bash_call_travels_small(remote: Remote) -> None:
    """What runs a bash app's command travels with its function by name."""
    assert len(encode_function(command.target)) < 300
    assert remote.call(command.target, "yes") == 0


def test_function_that_uses_apps(remote: Remote) -> None:
    """A function sent by value brings the apps it names: importable ones by name, others whole."""

    @python_app
    def local(x: int) -> int:
        return x + 1

    def body(x: int) -> Any:
        return double.func(local.func(x)), type(double).__name__

    assert remote.call(body, 3) == (8, type(double).__name__)
    assert len(encode_function(lambda: double)) < 600


def test_apps_as_arguments(remote: Remote) -> None:
    """An app given as an argument is the app there."""
    assert remote.call(lambda app: app.func(5), double) == 10
