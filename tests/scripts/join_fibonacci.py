"""Recursive Fibonacci by join apps."""

import flowlib


@flowlib.python_app
def add(*args):
    """Add all of the arguments together. If no arguments, then zero is returned."""
    accumulator = 0
    for v in args:
        accumulator += v
    return accumulator


@flowlib.join_app
def fibonacci(n):
    if n == 0:
        return add()
    elif n == 1:
        return add(1)
    else:
        return add(fibonacci(n - 1), fibonacci(n - 2))


with flowlib.load():
    assert fibonacci(10).result() == 55
    print("OK", [fibonacci(i).result() for i in range(8)])
