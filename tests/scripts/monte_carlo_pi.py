"""Monte-Carlo pi: many samplers, a mean of three."""

import flowlib
from flowlib import python_app
from flowlib.configs.htex_local import config

flowlib.load(config)


@python_app
def pi(num_points):
    from random import random

    inside = 0
    for _ in range(num_points):
        x, y = random(), random()
        if x**2 + y**2 < 1:
            inside += 1
    return inside * 4 / num_points


@python_app
def mean(a, b, c):
    return (a + b + c) / 3


a, b, c = pi(100_000), pi(100_000), pi(100_000)
average = mean(a, b, c)
assert abs(average.result() - 3.14159) < 0.05
print("OK", f"{average.result():.1f}")
flowlib.clear()
