"""walltime stops Python and bash apps, on threads and on processes."""

import time

import flowlib
from flowlib.app.errors import AppTimeout
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor


@flowlib.python_app(executors=["threads"])
def in_thread(walltime=0.3):
    import time

    for _ in range(1000):
        time.sleep(0.01)


@flowlib.python_app(executors=["htex"])
def in_process(walltime=0.3):
    import time

    time.sleep(100)


@flowlib.bash_app(executors=["htex"])
def in_bash(walltime=1):
    return "sleep 100"


with flowlib.load(Config(executors=[ThreadPoolExecutor(label="threads"),
                                    HighThroughputExecutor(label="htex", address="127.0.0.1", max_workers_per_node=3)])):
    began = time.time()
    for future in [in_thread(), in_process(), in_bash()]:
        try:
            future.result()
        except AppTimeout as e:
            print(type(e).__name__, e)
        else:
            raise AssertionError("no timeout")
    assert time.time() - began < 15
    print("OK")
