"""The context manager's exit modes."""

import threading

import flowlib
from flowlib.config import Config
from flowlib.executors import ThreadPoolExecutor


@flowlib.python_app
def hold(event_number):
    return event_number


gate = threading.Event()


@flowlib.python_app
def wait_for_gate():
    gate.wait(30)
    return "opened"


def config(mode):
    return Config(executors=[ThreadPoolExecutor(max_threads=2)], exit_mode=mode)


with flowlib.load(config("wait")):
    future = wait_for_gate()
    threading.Timer(0.2, gate.set).start()
assert future.done() and future.result() == "opened"

with flowlib.load(config("skip")) as dfk:
    future = hold(1)
assert future.result() == 1
assert hold(2).result() == 2  # still loaded
dfk.cleanup()
flowlib.clear()

with flowlib.load(config("cleanup")):
    assert hold(3).result() == 3

try:
    with flowlib.load(config("wait")):
        raise KeyError("mine")
except KeyError:
    pass

try:
    hold(4)
except flowlib.errors.NoDataFlowKernelError as e:
    print(e)
else:
    raise AssertionError
print("OK")
