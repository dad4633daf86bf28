"""Two executors chosen by label, one added while the run goes on, and priorities."""

import os
import threading

import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor


@flowlib.python_app(executors=["here"])
def here():
    return os.getpid(), threading.current_thread().name


@flowlib.python_app(executors=["there"])
def there():
    return os.getpid()


@flowlib.python_app(executors=["late"])
def late():
    return "late"


@flowlib.python_app(executors="hre")
def nowhere():
    return None


with flowlib.load(Config(executors=[ThreadPoolExecutor(label="here"),
                                    HighThroughputExecutor(label="there", address="127.0.0.1", max_workers_per_node=1)])) as dfk:
    assert here().result()[0] == os.getpid()
    assert there().result() != os.getpid()
    dfk.add_executors([ThreadPoolExecutor(label="late")])
    assert late().result() == "late"
    try:
        nowhere().result()
    except ValueError as e:
        assert "here" in str(e), e
        print(e)
    else:
        raise AssertionError
    flowlib.wait_for_current_tasks()
    assert dfk.task_count >= 3
    print("OK", sorted(dfk.executors))
