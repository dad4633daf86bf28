"""stdout and stderr of bash apps in every spelling."""

import os
import pathlib

import flowlib
from flowlib import AUTO_LOGNAME, File, bash_app

here = pathlib.Path.cwd()


@bash_app
def echo(text, stdout=None, stderr=None):
    return f"echo {text}; echo {text} >&2"


@bash_app
def by_default(stdout=str(here / "default.out"), stderr=flowlib.AUTO_LOGNAME):
    return "echo default"


with flowlib.load():
    echo("a", stdout=str(here / "a.out")).result()
    echo("b", stdout=here / "a.out", stderr=here / "b.err").result()
    assert (here / "a.out").read_text() == "a\nb\n"
    echo("c", stdout=(str(here / "a.out"), "w")).result()
    assert (here / "a.out").read_text() == "c\n"
    auto = echo("d", stdout=AUTO_LOGNAME, stderr=AUTO_LOGNAME)
    auto.result()
    assert pathlib.Path(auto.stdout).read_text() == "d\n"
    assert os.path.basename(auto.stderr).endswith("_echo.stderr"), auto.stderr
    uri = echo("e", stdout=File(f"file://{here}/uri.out"))
    uri.result()
    assert (here / "uri.out").read_text() == "e\n"
    assert uri.stdout.result().filepath == str(here / "uri.out")
    f = by_default()
    f.result()
    assert (here / "default.out").read_text() == "default\n"
    assert os.path.exists(f.stderr)
    print("OK")
