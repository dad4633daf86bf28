"""cache=True: equal calls run once."""

import os

import flowlib
from flowlib.config import Config
from flowlib.dataflow.memoization import BasicMemoizer
from flowlib.executors import ThreadPoolExecutor


@flowlib.python_app(cache=True)
def slow(x, path):
    with open(path, "a") as f:
        f.write(f"{x}\n")
    return x * 2


@flowlib.python_app(cache=True, ignore_for_cache=["ignored"])
def ignoring(x, ignored=0):
    return ignored


path = os.path.abspath("runs")
with flowlib.load(Config(executors=[ThreadPoolExecutor()], memoizer=BasicMemoizer(checkpoint_mode="task_exit"))):
    assert slow(1, path).result() == 2
    assert slow(1, path).result() == 2
    assert slow(2, path).result() == 4
    assert open(path).read() == "1\n2\n"
    assert ignoring(1, ignored=5).result() == 5
    assert ignoring(1, ignored=6).result() == 5
flowlib.clear()
from flowlib.utils import get_all_checkpoints

with flowlib.load(Config(executors=[ThreadPoolExecutor()], memoizer=BasicMemoizer(checkpoint_files=get_all_checkpoints()))):
    assert slow(1, path).result() == 2
assert open(path).read() == "1\n2\n"
print("OK")
