"""All rows of the table, in its order."""

from __future__ import annotations

from benchmarks import footprint, managers, throughput
from benchmarks.measured import Row

ROWS = {
    row.name: row
    for row in (
        Row("noop", throughput.noop_rate),
        Row("latency", throughput.latency),
        Row("chain", throughput.chain),
        Row("fanin", throughput.fan_in),
        Row("threads", throughput.thread_rate),
        Row("map", throughput.map_rate),
        Row("bash", throughput.bash_rate),
        Row("waiting", footprint.waiting_memory),
        Row("finished", footprint.finished_memory),
        Row("import", footprint.import_time),
        Row("first", footprint.first_result),
        Row("exit", footprint.exit_time),
        Row("million", throughput.million, deadline=1800, long=True, runs=1),
        Row("managers", managers.many_managers, deadline=600, long=True, runs=1),
        Row("idle", footprint.idle, deadline=600, long=True, runs=1),
    )
}
