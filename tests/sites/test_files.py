"""Files of sites: directories that come first, mistakes by line, imports."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import flowlib
from flowlib.configs import build, names
from flowlib.errors import ConfigurationError
from flowlib.sites import catalogue
from flowlib.sites.choices import configuration
from flowlib.sites.lines import line_of
from flowlib.sites.site import Parameter, Partition, Site

SITE = """\
name = "Ours"
scheduler = "slurm"
verified = 2026-01-31

[partition.short]
max_nodes = 4
walltime = "01:00:00"
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's directory of sites and the centre's."""
    user, centre = tmp_path / "config" / "flowlib" / "sites", tmp_path / "centre"
    user.mkdir(parents=True)
    centre.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("FLOWLIB_SITES", str(centre))
    return user, centre


def test_order(places: tuple[Path, Path]) -> None:
    """The user's file wins over the centre's, and that over the package's."""
    user, centre = places
    (centre / "frontier.toml").write_text(SITE.replace("Ours", "The centre's"))
    assert catalogue.get("frontier").name == "The centre's"
    (user / "frontier.toml").write_text(SITE.replace("Ours", "Mine"))
    assert catalogue.get("frontier").name == "Mine"
    assert catalogue.get("andes").name == "Andes"


def test_new_site(places: tuple[Path, Path]) -> None:
    """A new file is a new name, for load and for imports."""
    user, _ = places
    (user / "ourcluster.toml").write_text(SITE)
    assert "ourcluster" in names()
    provider: Any = build("ourcluster", nodes=2).executors[0]
    assert provider.provider.nodes_per_block == 2
    try:
        module = importlib.import_module("flowlib.configs.ourcluster")
        assert module.config.executors[0].label == "ourcluster"
    finally:
        sys.modules.pop("flowlib.configs.ourcluster", None)


def test_nothing_of_that_name() -> None:
    """A wrong name is answered with the nearest."""
    with pytest.raises(ConfigurationError, match="did you mean 'frontier'.*flowlib sites list"):
        build("fronteer")
    with pytest.raises(ConfigurationError, match="no configuration named"):
        build("../frontier")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("flowlib.configs.nosuchsite")


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ('"slurm"', '"slrum"', 2, "did you mean 'slurm'"),
        ("verified = 2026-01-31", "", 1, "verified is missing"),
        ("2026-01-31", '"lately"', 3, "write a day as 2026-01-31"),
        ("max_nodes = 4", "max_node = 4", 6, "[partition.short] there is no 'max_node'; did you mean 'max_nodes'?"),
        ("max_nodes = 4", "max_nodes = 0", 6, "a whole number, 1 or more"),
        ("max_nodes = 4", "max_nodes = 4\nmin_nodes = 5", 7, "a job may have 4 nodes at most"),
        ("01:00:00", "an hour", 7, "write a time as '02:00:00'"),
        ("max_nodes = 4", 'options = ["--x={acount}"]', 6, "nothing is known by {acount}"),
        ("max_nodes = 4", "provider = { qso = 'x' }", 6, "SlurmProvider takes no 'qso'; did you mean 'qos'"),
        ("max_nodes = 4", "executor = { workers = 3 }", 6, "the executor takes no 'workers'"),
        ("max_nodes = 4", "launcher = 'run'", 6, "its kind is 'run'"),
        ("max_nodes = 4", "gpus = 2\naffinity = 'list:0-3'", 7, "affinity has 1 lists, but gpus is 2"),
        ("max_nodes = 4", "max_nodes = ", 6, "it is not TOML"),
        ("max_nodes = 4", "walltime_by_nodes = [[4, '1h'], [2, '2h']]", 6, "in the order of their nodes"),
        ("[partition.short]\nmax_nodes = 4\n", "", 1, "it has no partition"),
        ("[partition.short]", "default = 'long'\n[partition.short]", 5, "default is 'long'"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, line: int, text: str) -> None:
    """Each mistake is reported with the line it stands on, what was written, and what could be."""
    file = tmp_path / "ours.toml"
    broken = SITE.replace(old, new).replace(
        'walltime = "01:00:00"\n', "" if "it has no" in text else 'walltime = "01:00:00"\n'
    )
    file.write_text(broken)
    site, mistakes = catalogue.check(file)
    assert site is None
    assert any(number == line and text in said for number, said in mistakes), mistakes


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Several mistakes are reported together, in the order of their lines."""
    file = tmp_path / "ours.toml"
    file.write_text(SITE.replace("slurm", "slrum").replace("max_nodes = 4", "max_nodes = 'x'"))
    with pytest.raises(ConfigurationError) as caught:
        catalogue.open_site(file)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["2", "6"]


def test_line_of() -> None:
    """Tables, dotted keys, quoted names, comments and long texts do not lead astray."""
    text = '# a\na.b = 1\n["x y"]\nlong = """\nc = 2\n"""\nc = 3\n'
    assert line_of(text, ("a", "b")) == 2
    assert line_of(text, ("x y", "c")) == 7
    assert line_of(text, ("x y", "d")) == 3
    assert line_of(text, ("q",)) == 1


def test_load_takes_choices() -> None:
    """``flowlib.load`` passes choices on, and refuses them beside a Config."""
    with pytest.raises(ConfigurationError, match="account"):
        flowlib.load("frontier", nodes=2)
    with pytest.raises(TypeError, match="goes with the name of a machine"):
        flowlib.load(flowlib.Config(), nodes=2)


def test_one_file_is_read(tmp_path: Path) -> None:
    """Building a site reads that site's file only."""
    program = (
        "import sys\nopened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "from flowlib.configs import build\nbuild('frontier', account='a')\n"
        "print(sum(name.endswith('.toml') for name in opened))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout.strip(), done.stderr) == ("1", "")


def test_documented_example(tmp_path: Path) -> None:
    """The file in the guide is right, and what the guide loads from it works."""
    page = (Path(__file__).parents[2] / "docs" / "guide" / "add_your_site.md").read_text(encoding="utf-8")
    file = tmp_path / "ourcluster.toml"
    file.write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    site = catalogue.open_site(file)
    call = configuration(site, {"account": "p1234", "gpu": True})
    assert call.arguments["executors"][0].arguments["provider"].arguments["partition"] == "gpu"


def test_every_key_is_documented() -> None:
    """The guide names every key that a file may have."""
    page = (Path(__file__).parents[2] / "docs" / "guide" / "add_your_site.md").read_text(encoding="utf-8")
    for kind in (Site, Partition, Parameter):
        missing = [f.name for f in fields(kind) if "kind" in f.metadata and f"`{f.name}" not in page]
        assert not missing, f"{kind.__name__}: {missing}"
