"""Resource specifications are refused where they are not supported, accepted where they are."""

import flowlib
from flowlib.config import Config
from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor
from flowlib.executors.errors import InvalidResourceSpecification


@flowlib.python_app
def task(x, flowlib_resource_specification={}):
    return x


with flowlib.load(Config(executors=[ThreadPoolExecutor()])):
    assert task(1).result() == 1
    for bad in ({"cores": 2}, {"nonsense": 1}):
        try:
            task(1, flowlib_resource_specification=bad).result()
        except InvalidResourceSpecification as e:
            print(e)
        else:
            raise AssertionError(bad)
flowlib.clear()
with flowlib.load(Config(executors=[HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1)])):
    assert task(2, flowlib_resource_specification={"priority": 5}).result() == 2
    try:
        task(1, flowlib_resource_specification={"prioritty": 1}).result()
    except InvalidResourceSpecification as e:
        assert "priority" in str(e)
        print(e)
print("OK")
