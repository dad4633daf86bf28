"""Errors are lazy: they surface at result(), and name the root cause."""

import flowlib
from flowlib.dataflow.errors import DependencyError


@flowlib.python_app
def fails(i):
    raise ZeroDivisionError(f"number {i}")


@flowlib.python_app
def depends(x):
    return x


class MyError(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


@flowlib.python_app
def raises_mine():
    raise MyError(17, "from the script itself")


with flowlib.load():
    f = fails(3)
    g = depends(depends(f))
    try:
        g.result()
    except DependencyError as e:
        assert isinstance(e.__cause__, ZeroDivisionError), e.__cause__
        assert "number 3" in str(e)
        print(e)
    else:
        raise AssertionError
    try:
        raises_mine().result()
    except MyError as e:
        assert e.code == 17
    assert depends(4).result() == 4
    print("OK")
