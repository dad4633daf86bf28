"""``flowlib sites``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowlib.cli import main


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints."""
    assert main(["sites", *arguments]) == 0
    return capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each machine in service, or those that match; with --all also those of the past."""
    assert "frontier" in output(capsys, "list")
    found = output(capsys, "list", "flux").splitlines()
    assert len(found) == 2
    assert found[1].startswith("tuolumne")
    assert "summit" not in output(capsys, "list")
    assert "Summit (retired on 2024-11-15)" in output(capsys, "list", "--all")
    listed = json.loads(output(capsys, "list", "--json", "frontera"))
    assert listed[0]["id"] == "frontera"
    assert "rtx" in listed[0]["partitions"]


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    """Facts, partitions, and the call to copy; also of machines of the past."""
    shown = output(capsys, "show", "frontier")
    assert "8 x MI250X GCD" in shown
    assert "flowlib.load('frontier', account='abc123')" in shown
    assert "on 2024-11-15; use frontier" in output(capsys, "show", "summit")
    facts = json.loads(output(capsys, "show", "--json", "frontera"))
    assert facts["partitions"]["normal"]["min_nodes"] == 3
    assert "gpus" not in facts["partitions"]["normal"]


def test_python(capsys: pytest.CaptureFixture[str]) -> None:
    """The Python of a configuration, with the choices given, makes it."""
    text = output(capsys, "show", "--python", "frontier", "account=abc", "nodes=3")
    made: dict[str, object] = {}
    exec(compile(text, "shown", "exec"), made)
    assert made["config"].executors[0].provider.nodes_per_block == 3  # type: ignore[attr-defined]
    assert json.loads(output(capsys, "show", "--python", "--json", "laptop"))["site"] == "laptop"


def test_render(capsys: pytest.CaptureFixture[str]) -> None:
    """The script of a job."""
    script = output(capsys, "render", "frontier", "account=abc", "walltime=90m")
    assert script.startswith("#!/bin/bash\n")
    assert "#SBATCH --time=01:30:00" in script
    assert (
        "#SBATCH --account=abc" in json.loads(output(capsys, "render", "--json", "frontier", "account=abc"))["script"]
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show", "fronteer"], "did you mean 'frontier'"),
        (["render", "frontier"], "account (project that pays) is missing"),
        (["render", "frontier", "abc"], "write name=value"),
        (["render", "cori"], "use 'perlmutter' instead"),
        (["render", "local_threads"], "no script to render"),
        (["show", "frontier", "nodes=3"], "go with --python"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    """What cannot be done is said on standard error, with exit code 1."""
    assert main(["sites", *arguments]) == 1
    said = capsys.readouterr()
    assert text in said.err
    assert said.out == ""


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is right is called fine; mistakes are printed as FILE:LINE: what, and make the exit code 1."""
    right, wrong = tmp_path / "right.toml", tmp_path / "wrong.toml"
    text = 'name = "R"\nscheduler = "slurm"\nverified = 2026-01-01\n[partition.a]\nmax_nodes = 2\n'
    right.write_text(text)
    wrong.write_text(text.replace("max_nodes", "maxnodes"))
    assert output(capsys, "check", str(right)) == f"{right}: fine, 1 partition\n"
    assert main(["sites", "check", str(wrong)]) == 1
    assert f"{wrong}:5: [partition.a] there is no 'maxnodes'; did you mean" in capsys.readouterr().out
    assert main(["sites", "check", "--json", str(wrong)]) == 1
    assert json.loads(capsys.readouterr().out)[0]["mistakes"][0]["line"] == 5
    assert main(["sites", "check", str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err
