"""Files made by bash apps, joined by another, read by a Python app."""

import os

import flowlib
from flowlib import File, bash_app, python_app


@bash_app
def generate(outputs=()):
    return f"echo $(( RANDOM % (10 - 5 + 1) + 5 )) &> {outputs[0].filepath}"


@bash_app
def concat(inputs=(), outputs=(), stdout="stdout.txt", stderr="stderr.txt"):
    return "cat {0} > {1}".format(" ".join(i.filepath for i in inputs), outputs[0])


@python_app
def total(inputs=()):
    total = 0
    with open(inputs[0].filepath) as f:
        for line in f:
            total += int(line)
    return total


with flowlib.load():
    files = [generate(outputs=[File(os.path.join(os.getcwd(), f"random-{i}.txt"))]) for i in range(5)]
    cc = concat(inputs=[i.outputs[0] for i in files], outputs=[File(os.path.join(os.getcwd(), "all.txt"))],
                stdout=os.path.join(os.getcwd(), "o.txt"), stderr=os.path.join(os.getcwd(), "e.txt"))
    sum_ = total(inputs=[cc.outputs[0]])
    assert 25 <= sum_.result() <= 50
    print("OK")
