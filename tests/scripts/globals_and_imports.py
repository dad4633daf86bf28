"""Functions of the script see its imports, constants, helpers and classes."""

import math as m
from collections import Counter
from dataclasses import dataclass

import flowlib

FACTOR = 3


@dataclass
class Shape:
    width: float
    height: float

    def area(self):
        return self.width * self.height


def helper(x):
    return x * FACTOR


def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)


@flowlib.python_app
def use(shape, text):
    return Shape(helper(shape.width), m.floor(shape.height)), Counter(text), recursive(5)


@flowlib.python_app
def area(shape):
    return shape.area()


with flowlib.load():
    shape, counted, product = use(Shape(2, 1.5), "aab").result()
    assert type(shape) is Shape and shape == Shape(6, 1)
    assert counted["a"] == 2 and product == 120
    assert area(use(Shape(2, 1.5), "")[0]).result() == 6
    print("OK")
