"""The figures of the engines: what is measured is told and written before anything else can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import engines
from tests.benchmarks.engines import Report, fault_table, work_table, write_docs

FACTS = {"cores": 2, "cpu": "a processor", "load": 0.1, "date": "2026-11-21 17:00 UTC"}
WORK = {"loop": 40.0} | {
    f"{engine} {what}": seconds
    for engine, seconds in (("direct", 50.0), ("flink", 80.0), ("spark", 90.0))
    for what in ("1", "2", "start")
}


def test_each_table_is_there_before_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "engines.md"
    page.write_text("before\n<!-- figures -->\n\nNot measured yet.\n\n<!-- /figures -->\nafter\n")
    monkeypatch.setattr(engines, "_DOCS", page)
    monkeypatch.setattr(engines, "engines_line", lambda: "Flink 1.19.3, Spark 3.5.0")
    report = Report(FACTS, write_docs)
    report.add(work_table(WORK, "24 clips"))
    assert "| flink | 80 | +40 | +100 % | 80 | 80 |" in " ".join(capsys.readouterr().out.split())
    first = page.read_text()
    assert "24 clips" in first
    assert "Flink 1.19.3, Spark 3.5.0" in first
    assert "Not measured yet" not in first
    report.add(fault_table({"flink": {"worker killed": 12.3}, "spark": {}}))
    second = page.read_text()
    assert second.startswith("before\n")
    assert second.endswith("after\n")
    assert "24 clips" in second
    assert "| worker killed | 12 | |" in " ".join(second.split())
    assert second.count("2 cores of a processor") == 1
