"""Bad input is refused where it enters, with the nearest valid name."""

import flowlib
from flowlib.config import Config
from flowlib.errors import ConfigurationError
from flowlib.executors import HighThroughputExecutor, ThreadPoolExecutor


def refused(error, *words):
    class Check:
        def __enter__(self):
            return self

        def __exit__(self, kind, value, tb):
            assert kind is not None and issubclass(kind, error), (kind, value)
            for word in words:
                assert word in str(value), (word, str(value))
            print(f"{kind.__name__}: {value}")
            return True

    return Check()


with refused(TypeError, "retries"):
    Config(retires=3)
with refused((TypeError, ConfigurationError), "retries"):
    Config(retries="three")
with refused(ConfigurationError, "same"):
    flowlib.load(Config(executors=[ThreadPoolExecutor(label="same"), ThreadPoolExecutor(label="same")]))
with refused((TypeError, ConfigurationError), "executors"):
    Config(executors=ThreadPoolExecutor())
with refused(TypeError, "max_workers_per_node"):
    HighThroughputExecutor(max_workers=3)
with refused((TypeError, ValueError), "cores_per_worker"):
    HighThroughputExecutor(cores_per_worker="many")
with refused(ValueError, "cpu_affinity", "alternating"):
    HighThroughputExecutor(cpu_affinity="alternate")
with refused((ValueError, ConfigurationError), "exit_mode", "cleanup"):
    Config(exit_mode="clean")
with refused((ValueError, ConfigurationError), "strategy", "simple"):
    Config(strategy="simpel")
with refused(TypeError, "callable"):
    flowlib.python_app(5)
with refused(TypeError, "cache"):
    flowlib.python_app(cach=True)
with refused(TypeError, "Config"):
    flowlib.load({"executors": []})


@flowlib.python_app
def ok():
    return 1


with refused(flowlib.errors.NoDataFlowKernelError, "load"):
    ok()
with flowlib.load(Config(executors=[ThreadPoolExecutor()])):
    with refused(ConfigurationError, "already"):
        flowlib.load(Config(executors=[ThreadPoolExecutor()]))
    with refused(ValueError, "threads"):
        flowlib.python_app(ok.func, executors=["thread"])().result()
    with refused(TypeError):
        ok(1, 2, 3)
        ok(1, 2, 3).result()
    assert ok().result() == 1
print("OK")
