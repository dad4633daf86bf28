"""``flowlib sites``: looks at sites from a shell."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flowlib.errors import ConfigurationError
from flowlib.sites import calls, catalogue
from flowlib.sites.choices import configuration
from flowlib.sites.site import Parameter, Site
from flowlib.sites.words import describe, retirement

if TYPE_CHECKING:
    import argparse

_PLAIN_WIDTH = 160
"""Characters of a line where the output is no terminal."""
MANAGER = "python3 -m flowlib.executors.high_throughput.manager ..."
"""Stands in a rendered script for the command line, which a run makes."""


def run(options: argparse.Namespace) -> int:
    """Carry out one of the commands.

    Args:
        options: As parsed by ``flowlib.cli``.

    Returns:
        Exit code.

    Raises:
        ConfigurationError: There is no such site, or it cannot be configured like this.
        OSError: A file cannot be read.
    """
    if options.action == "list":
        return _list(options)
    if options.action == "check":
        return _check(options.files, options.json)
    site = catalogue.get(options.site)
    chosen = choices(options.choices)
    if options.action == "render":
        return _render(site, chosen, options.json)
    if options.python:
        return _python(site, chosen, options.json)
    if chosen:
        raise ConfigurationError("choices such as account=... go with --python, or with `flowlib sites render`")
    return _show(site, options.json)


def choices(words: Iterable[str]) -> dict[str, Any]:
    """Choices as ``flowlib.load`` takes them.

    Args:
        words: ``name=value``; values are whole numbers, true, false, or text.

    Raises:
        ConfigurationError: One is not of that form.

    Example:
        >>> choices(["account=abc123", "nodes=4", "gpu=true"])
        {'account': 'abc123', 'nodes': 4, 'gpu': True}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"{word!r} is no choice; write name=value, for example account=abc123 nodes=4")
        found[name] = {"true": True, "false": False}.get(value.lower(), int(value) if value.isdecimal() else value)
    return found


# ------------------------------------------------------------------------------------------------------------- list


def _list(options: argparse.Namespace) -> int:
    sites, broken = [], []
    for name in catalogue.names():
        try:
            sites.append(catalogue.get(name))
        except ConfigurationError as e:
            broken.append(str(e))
    word = (options.word or "").casefold()
    sites = [s for s in sites if word in f"{s.id} {s.name} {s.centre} {s.country} {s.scheduler}".casefold()]
    if not options.all:
        sites = [s for s in sites if not s.retired]
    if options.json:
        print_json([_summary(site) for site in sites])
    else:
        _print_table(sites)
    for text in broken:
        sys.stderr.write(f"flowlib: {text}\n")
    return 1 if broken else 0


def _summary(site: Site) -> dict[str, Any]:
    return {
        "id": site.id,
        "name": site.name,
        "centre": site.centre,
        "country": site.country,
        "scheduler": site.scheduler,
        "partitions": list(site.partitions),
        "retired": site.retired,
        "verified": site.verified,
    }


def _print_table(sites: list[Site]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True, style="bold")
    for heading in ("machine", "centre", "", "scheduler", "partitions"):
        table.add_column(heading)
    for site in sites:
        machine = site.name if not site.retired else f"{site.name} (retired {retirement(site)})"
        row = (machine, site.centre or site.description, site.country, site.scheduler, " ".join(site.partitions))
        table.add_row(Text(site.id), *map(Text, row), style="dim" if site.retired else None)
    print_parts(table)


# ------------------------------------------------------------------------------------------------------------- show


def _show(site: Site, as_json: bool) -> int:
    if as_json:
        facts = {key: value for key, value in dataclasses.asdict(site).items() if value not in ("", None, (), {})}
        facts["partitions"] = {
            name: {key: value for key, value in partition.items() if value not in ("", None, (), {}, 0, False)}
            for name, partition in facts.get("partitions", {}).items()
        }
        print_json(facts)
        return 0
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [Text.assemble((site.name, "bold"), " ", site.centre or site.description)]
    facts_table = Table(box=None, pad_edge=False, show_header=False)
    facts_table.add_column(style="dim", no_wrap=True)
    facts_table.add_column(overflow="fold")
    for heading, text in _facts(site):
        facts_table.add_row(heading, Text(text))
    parts.append(facts_table)
    if site.partitions:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("partition", no_wrap=True)
        table.add_column("a job, and a node")
        for partition in site.partitions.values():
            first = " (default)" if partition is site.first() and len(site.partitions) > 1 else ""
            about = "; ".join([text for text in (describe(partition), partition.description) if text][:2])
            table.add_row(Text(partition.name + first), Text(about))
        parts.append(table)
    if not site.retired:
        shown = "".join(f", {p.name}={p.example or '...'!r}" for p in site.parameters.values() if _needed(p))
        parts.append(Text(f"flowlib.load({site.id!r}{shown})", style="bold"))
    print_parts(*parts)
    return 0


def _needed(parameter: Parameter) -> bool:
    return parameter.default is None and not parameter.optional


def _facts(site: Site) -> Iterable[tuple[str, str]]:
    rows = [
        ("retired", f"{retirement(site)}; use {site.successor or 'another'}" if site.retired else ""),
        ("scheduler", site.scheduler),
        ("login", " ".join(site.login)),
        ("architecture", site.arch),
        ("interface", " or ".join(site.interface)),
        ("scratch", site.scratch),
        ("Python", site.python),
        ("refused", " ".join(site.forbid)),
        ("documentation", site.docs),
        ("facts of", site.verified),
    ]
    rows += [(p.name, f"{p.help}{'' if _needed(p) else ' (may be left out)'}") for p in site.parameters.values()]
    rows += [("note", note) for note in site.notes]
    return [(heading, text) for heading, text in rows if text]


# ----------------------------------------------------------------------------------------------------------- others


def _python(site: Site, chosen: Mapping[str, Any], as_json: bool) -> int:
    text = calls.python(configuration(site, chosen))
    if as_json:
        print_json({"site": site.id, "python": text})
    else:
        sys.stdout.write(text)
    return 0


def _render(site: Site, chosen: Mapping[str, Any], as_json: bool) -> int:
    config = calls.make(configuration(site, chosen))
    provider = getattr(config.executors[0], "provider", None)
    if provider is None:
        raise ConfigurationError(f"site {site.id!r} runs in the script's own process: there is no script to render")
    script = provider.render_script(MANAGER, job_name="flowlib")
    if as_json:
        print_json({"site": site.id, "script": script})
    else:
        sys.stdout.write(script if script.endswith("\n") else script + "\n")
    return 0


def _check(files: list[str], as_json: bool) -> int:
    results = {path: catalogue.check(path) for path in files}
    if as_json:
        print_json(
            [
                {"file": path, "mistakes": [{"line": line, "text": text} for line, text in mistakes]}
                for path, (_, mistakes) in results.items()
            ]
        )
    else:
        for path, (site, mistakes) in results.items():
            for line, text in mistakes:
                sys.stdout.write(f"{path}:{line}: {text}\n")
            if site is not None:
                count = len(site.partitions)
                sys.stdout.write(f"{path}: fine, {count} partition{'' if count == 1 else 's'}\n")
    return 1 if any(mistakes for _, mistakes in results.values()) else 0


def print_json(value: Any) -> None:
    """Print plain values as JSON, for ``--json``."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_parts(*parts: Any) -> None:
    """Print tables and texts, as wide as the terminal; elsewhere with a fixed width and without colours."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(*parts, sep="\n")
        return
    console = Console(width=_PLAIN_WIDTH, highlight=False, file=io.StringIO())
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    sys.stdout.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())
