"""The schema: every code is described, numbers never change, readers take older and newer records."""

from __future__ import annotations

import json

import msgspec

from flowlib.dataflow.states import States
from flowlib.events import schema
from flowlib.events.render import json_lines, named, text_lines
from flowlib.events.schema import FIELDS, FIRST_SAMPLE, NAMES, STATUSES, Code, as_dict
from flowlib.executors.high_throughput.messages import Status


def test_every_code_has_fields() -> None:
    """Codes are unique plain ints, and each has fields that begin with the time."""
    assert set(NAMES) == set(FIELDS)
    assert len(NAMES) == len([name for name in vars(Code) if name.isupper()])
    assert all(type(code) is int for code in NAMES)
    assert all(fields[0] == "time" and len(set(fields)) == len(fields) for fields in FIELDS.values())


def test_samples_are_the_last_codes() -> None:
    """What is dropped first is told by the number alone."""
    assert {NAMES[code] for code in NAMES if code >= FIRST_SAMPLE} == {"TASK_SAMPLE", "NODE_SAMPLE"}


def test_numbers_are_for_ever() -> None:
    """A change of these breaks every log there is; new ones may be added."""
    fixed = {"RUN_STARTED": 1, "RUN_ENDED": 2, "EXECUTOR": 3, "APP": 4, "TASK_SUBMITTED": 10, "TASK_LAUNCHED": 11}
    fixed |= {"TRY_ENDED": 12, "TASK_DONE": 13, "MANAGER": 20, "BLOCK": 21, "MESSAGE": 30, "DROPPED": 31}
    assert {name: vars(Code)[name] for name in fixed} == fixed
    assert schema.FORMAT == 1


def test_statuses_agree_with_the_messages() -> None:
    """The names of statuses are those of the wire; where a value is kept is nothing that the log tells."""
    told = {status.name: int(status) for status in Status if status is not Status.STORED}
    assert told == {name: i for i, name in enumerate(STATUSES)}


def test_older_and_newer_records() -> None:
    """Missing fields are left out; unknown codes and fields are kept under made-up names."""
    assert as_dict([Code.TASK_DONE, 1.0]) == {"event": "TASK_DONE", "time": 1.0}
    assert as_dict([Code.TASK_DONE, 1.0, 7, 4, "why", "", "new"])["field_5"] == "new"
    assert as_dict([999, 1.0, "x"]) == {"event": "CODE_999", "time": 1.0, "field_1": "x"}


def test_named_replaces_numbers() -> None:
    """States and statuses appear by name, progress as its values, other bodies as text."""
    assert named([Code.TASK_DONE, 1.0, 7, int(States.memo_done)])["state"] == "memo_done"
    assert named([Code.TRY_ENDED, 1.0, 7, 0, 2])["status"] == "WORKER_LOST"
    assert named([Code.TRY_ENDED, 1.0, 7, 0, 77])["status"] == 77
    body = msgspec.msgpack.encode([3, 10, "halfway"])
    assert named([Code.NOTE, 1.0, 7, 0, "progress", body])["body"] == [3, 10, "halfway"]
    assert named([Code.NOTE, 1.0, 7, 0, "emit", b"\x80\x04"])["body"] == "gAQ="


def test_lines() -> None:
    """JSON has one object per record; text resolves apps and executors and counts seconds from the first record."""
    records: list[list[object]] = [
        [Code.EXECUTOR, 100.0, 0, "htex", "HighThroughputExecutor", ""],
        [Code.APP, 100.5, 0, "simulate", "python", "__main__", "s.py", 3],
        [Code.TASK_SUBMITTED, 101.0, 0, 0, []],
        [Code.TASK_LAUNCHED, 101.25, 0, 0, 0],
        [Code.TRY_ENDED, 102.0, 0, 0, 1, 101.5, 101.75, -1, -1, "builtins.ValueError", "bad value"],
    ]
    assert [json.loads(line)["event"] for line in json_lines(records)][-1] == "TRY_ENDED"
    lines = list(text_lines(records))
    assert "TASK_SUBMITTED task=0 app=simulate" in lines[3]
    assert "1.250000  TASK_LAUNCHED  task=0 app=simulate attempt=0 executor=htex" in lines[4]
    assert "TRY_ENDED      task=0 app=simulate attempt=0 status=RAISED" in lines[5]
    assert all(len(line) <= 40 for line in text_lines(records, 40))
    assert list(text_lines(records, 40))[5].endswith("...")
    assert "status=RAISED started=1.5 ended=1.75 error_type=builtins.ValueError error_text='bad value'" in lines[5]
