"""Configurations: what is refused, when, and with which hint."""

from __future__ import annotations

from typing import Any

import pytest

from flowlib.config import Config
from flowlib.errors import ConfigurationError
from flowlib.executors import InlineExecutor, ThreadPoolExecutor


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"retires": 3}, TypeError, "retries"),
        ({"retries": "three"}, TypeError, "retries"),
        ({"retries": -1}, ConfigurationError, "retries"),
        ({"retries": True}, TypeError, "retries"),
        ({"executors": ThreadPoolExecutor()}, TypeError, "executors"),
        ({"executors": ["threads"]}, TypeError, "executors"),
        ({"executors": []}, ConfigurationError, "executors"),
        ({"executors": [InlineExecutor("a"), ThreadPoolExecutor("a")]}, ConfigurationError, "'a'"),
        ({"exit_mode": "clean"}, ConfigurationError, "cleanup"),
        ({"strategy": "simpel"}, ConfigurationError, "simple"),
        ({"retry_handler": 5}, TypeError, "retry_handler"),
        ({"max_idletime": float("nan")}, ConfigurationError, "max_idletime"),
        ({"monitoring": 1j}, ConfigurationError, "events"),
        ({"usage_tracking": 7}, ConfigurationError, "usage_tracking"),
        ({"initialize_logging": "yes"}, TypeError, "LogConfig"),
        ({"memoizer": 1}, TypeError, "Memoizer"),
        ({"run_dir": 5}, TypeError, "run_dir"),
    ],
    ids=repr,
)
def test_refused(options: dict[str, Any], error: type[Exception], word: str) -> None:
    """A wrong option is refused at once, and the text leads to the right one."""
    with pytest.raises(error, match=word):
        Config(**options)


def test_assignment_is_checked() -> None:
    """Setting an option later is checked like giving it."""
    config = Config()
    config.retries = 2
    with pytest.raises(TypeError, match="retries"):
        config.retries = "2"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="retries"):
        config.retrys = 2
    assert config.retries == 2


def test_used_config_is_locked() -> None:
    """While a run uses a configuration it cannot be changed; afterwards it can."""
    config = Config()
    config.acquire()
    with pytest.raises(ConfigurationError, match="retries"):
        config.retries = 1
    config.release()
    config.retries = 1
    assert config.retries == 1


def test_labels_are_checked_again() -> None:
    """Labels made equal after construction are found when the run begins."""
    executors = [InlineExecutor("a"), InlineExecutor("b")]
    config = Config(executors=executors)
    executors[1].label = "a"
    with pytest.raises(ConfigurationError, match="'a'"):
        config.acquire()


def test_defaults_and_repr() -> None:
    """Without arguments there is one thread executor; the repr tells every option."""
    config = Config(strategy=None)
    assert [executor.label for executor in config.executors] == ["threads"]
    assert config.strategy == "none"
    assert "lost_retries=2" in repr(config)


@pytest.mark.parametrize("bad", [{"max_threads": 0}, {"max_threads": "2"}, {"label": ""}, {"label": 3}], ids=repr)
def test_thread_executor_refuses(bad: dict[str, Any]) -> None:
    """The thread executor checks its arguments."""
    with pytest.raises((TypeError, ValueError), match=next(iter(bad))):
        ThreadPoolExecutor(**bad)
