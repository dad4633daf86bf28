"""The concurrent.futures face."""

from concurrent.futures import as_completed

from flowlib.concurrent import FlowlibPoolExecutor
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor


def square(x):
    return x * x


def divide(a, b):
    return a / b


if __name__ == "__main__":
    with FlowlibPoolExecutor(Config(executors=[HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=2)])) as pool:
        assert list(pool.map(square, range(50))) == [i * i for i in range(50)]
        futures = [pool.submit(divide, 10, i) for i in (1, 2, 5)]
        assert sorted(f.result() for f in as_completed(futures)) == [2, 5, 10]
        assert isinstance(pool.submit(divide, 1, 0).exception(), ZeroDivisionError)
    try:
        pool.submit(square, 1)
    except RuntimeError as e:
        print(e)
    print("OK")
