"""Map-reduce over a list of futures given as inputs."""

import flowlib
from flowlib import python_app


@python_app
def app_double(x):
    return x * 2


@python_app
def app_sum(inputs=()):
    return sum(inputs)


if __name__ == "__main__":
    with flowlib.load():
        mapped = [app_double(i) for i in range(1, 11)]
        total = app_sum(inputs=mapped)
        assert total.result() == 110
        print("OK", total.result())
