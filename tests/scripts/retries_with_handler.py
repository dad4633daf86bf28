"""Retries paid by a handler with fractional costs."""

import os

import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor


class Flaky(Exception):
    pass


def handler(exception, task_record):
    assert task_record["fail_count"] >= 1
    assert task_record["func_name"] in ("flaky", "broken")
    return 0.25 if isinstance(exception, Flaky) else 100


@flowlib.python_app
def flaky(path):
    fd = os.open(path, os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    os.write(fd, b".")
    if os.fstat(fd).st_size < 4:
        raise Flaky("not yet")
    return os.fstat(fd).st_size


@flowlib.python_app
def broken(path):
    with open(path, "a") as f:
        f.write(".")
    raise ValueError("for good")


config = Config(
    executors=[HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1)],
    retries=1,
    retry_handler=handler,
)
with flowlib.load(config):
    assert flaky(os.path.abspath("flaky")).result() == 4
    try:
        broken(os.path.abspath("broken")).result()
    except ValueError as e:
        assert str(e) == "for good"
    assert os.path.getsize("broken") == 1
    print("OK")
