"""What a user installs: the sdist builds the wheel, and the wheel in an empty environment holds what the tree holds."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.package.test_packages_listed import REAL, ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import importlib.metadata, importlib.util, json, pkgutil, sys
import flowlib
names = ["flowlib"] + [m.name for m in pkgutil.walk_packages(flowlib.__path__, "flowlib.")]
import flowlib.executors.base, flowlib.executors.high_throughput.messages, flowlib.providers, flowlib.configs
print(json.dumps({
    "file": flowlib.__file__,
    "names": sorted(n for n in names if not n.endswith("__main__")),
    "leaked": [n for n in ("providers", "executors", "configs", "tests", "examples") if importlib.util.find_spec(n)],
    "version": importlib.metadata.version("flowlib"),
}))
"""


def run(*arguments: str | Path, cwd: Path) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(list(map(str, arguments)), cwd=cwd, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an sdist, and the wheel built from that sdist."""
    pytest.importorskip("build")
    place = tmp_path_factory.mktemp("dist")
    checkout = place / "checkout"
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, files):
        source, target = ROOT / name, checkout / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(source.readlink())
            else:
                target.write_bytes(source.read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, checkout, cwd=place)
    return place


def tree() -> set[str]:
    """Paths in a wheel that stand for the files in the tree."""
    found = set()
    for top, package in REAL.items():
        for path in (ROOT / top).rglob("*"):
            relative = path.relative_to(ROOT / top)
            inside_link = top == "flowlib" and relative.parts[0] in REAL
            if path.is_file() and not inside_link and "__pycache__" not in relative.parts:
                found.add("/".join((*package.split("."), *relative.parts)))
    return found


@pytest.mark.timeout(200)
def test_wheel_holds_the_tree(built: Path) -> None:
    """The wheel, built from the sdist, holds exactly the library's files, below ``flowlib`` and nowhere else."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licenses = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
    assert names == tree()
    assert licenses


@pytest.mark.timeout(200)
def test_sdist_has_what_a_packager_needs(built: Path) -> None:
    """The sdist holds the licence, the readme and no build output."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith((".venv", "output", "runinfo"))]


@pytest.mark.timeout(200)
def test_installed_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    """Installed alone, away from the checkout, every module is there, and nothing is at the top but ``flowlib``."""
    import json

    environment = tmp_path / "empty"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    if subprocess.run([sys.executable, "-c", "import pip"], capture_output=True, check=False).returncode != 0:
        system = subprocess.run(["python3", "-c", "import pip"], cwd="/", capture_output=True, check=False)
        if system.returncode != 0:
            pytest.skip("no pip in this environment nor outside")
        pip[0] = "python3"
    run(*pip, "install", "--no-deps", "--no-index", next(built.glob("*.whl")), cwd=tmp_path)
    # The dependencies come from this environment by path, not as a site directory: what is installed here in
    # editable form stays out of sight.
    import msgspec

    site = next(environment.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(f"{Path(msgspec.__file__).parents[1]}\n")
    facts = json.loads(run(python, "-c", PROGRAM, cwd=tmp_path))
    assert Path(facts["file"]).is_relative_to(environment)
    assert facts["leaked"] == []
    expected = {n.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for n in tree() if n.endswith(".py")}
    assert set(facts["names"]) == {name for name in expected if not name.endswith("__main__")}
    help_text = run(environment / "bin" / "flowlib", "--help", cwd=tmp_path)
    assert "usage: flowlib" in help_text
