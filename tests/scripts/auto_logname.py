"""Names of automatic log files: by default, and by a function of the configuration."""

import os

import flowlib
from flowlib.config import Config
from flowlib.executors import ThreadPoolExecutor


@flowlib.bash_app
def fakeapp(n, stdout=flowlib.AUTO_LOGNAME, label=None):
    return f"echo {n}"


def autopath(task_record, kind):
    return os.path.abspath(f"mine/{task_record['func_name']}.{task_record['id']}.{kind}")


with flowlib.load(Config(executors=[ThreadPoolExecutor()])) as dfk:
    f = fakeapp(1, label="special")
    f.result()
    assert f.stdout == os.path.join(dfk.run_dir, "task_logs", "0000", "task_0000_fakeapp_special.stdout"), f.stdout
    assert open(f.stdout).read() == "1\n"
flowlib.clear()
with flowlib.load(Config(executors=[ThreadPoolExecutor()], std_autopath=autopath)):
    f = fakeapp(2)
    f.result()
    assert f.stdout.endswith("mine/fakeapp.0.stdout")
    assert open(f.stdout).read() == "2\n"
print("OK")
