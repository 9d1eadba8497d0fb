"""What the bench of faults sees of folders, and what it says of trials."""

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.faults.contents import contents, litter
from bench.faults.event_fuzz import mutated_events
from bench.faults.line_fuzz import mutated_lines
from bench.faults.report import write_results
from bench.faults.scenarios import Scenario
from bench.faults.trials import Lab, Undisturbed, days_are_whole
from tests.samples.join_oracle import group
from tests.samples.raw_lines import SPEC

TRIAL = {
    "scenario": "score",
    "fault": "kill the tree",
    "at_s": 1.0,
    "commit": "1234abcd",
    "hit": True,
    "ended_s": 0.1,
    "left": "before",
}
WELL: dict[str, Any] = {**TRIAL, "wrong": []}


def write(folder: Path, value: float, moment: str, **metadata: str) -> None:
    table = pa.table({"score": [value]}).replace_schema_metadata(metadata)
    pq.write_table(table, folder / "part-0.parquet")
    record = {"created_at": moment, "impressions": 1}
    (folder / "_score.json").write_text(json.dumps(record))


def test_a_moment_is_no_content_but_a_value_and_a_name_are(tmp_path: Path) -> None:
    assert contents(tmp_path / "nowhere") == {}
    write(tmp_path, 0.5, "today", written="today")
    first = contents(tmp_path)
    assert list(first) == ["_score.json", "part-0.parquet"]
    write(tmp_path, 0.5, "tomorrow", written="tomorrow")
    assert contents(tmp_path) == first
    write(tmp_path, 0.25, "today")
    changed = contents(tmp_path)
    assert changed["_score.json"] == first["_score.json"]
    assert changed["part-0.parquet"] != first["part-0.parquet"]


def test_staging_and_leases_are_litter_and_records_of_runs_are_not(tmp_path: Path) -> None:
    for name in (".x.staging/part-0", ".x.lease", "x.run.json", "x.runs/a.json", "x/part-0"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list(contents(tmp_path)) == ["x/part-0"]
    assert litter(tmp_path) == [".x.lease", ".x.staging/part-0"]


def test_how_spark_names_a_write_is_no_content_and_hadoops_checksums_no_litter(tmp_path: Path) -> None:
    found = []
    for run in ("fbdd676b-794f-4483-ad52-8c150ccb380c", "13cf77df-3cac-42ed-82aa-d3bd644f77a4"):
        folder = tmp_path / run
        folder.mkdir()
        name = f"part-00000-{run}-c000.csv"
        (folder / name).write_text("1")
        (folder / f".{name}.crc").touch()
        (folder / "_SUCCESS").write_text(json.dumps({"entries": [name]}))
        assert litter(folder) == []
        found.append(contents(folder))
    assert found[0] == found[1]
    (folder / name).unlink()
    assert litter(folder) == [f".{name}.crc"]


@pytest.mark.parametrize(
    ("wrong", "differ", "code"), [([], [], 0), (["it hangs"], [], 1), ([], ["1-0: groups differ"], 1)]
)
def test_what_went_wrong_is_told_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], differ: list[str], code: int
) -> None:
    lines = {"lines": 10, "impressions": 6, "rejects": {"bad_token": 4}, "differ": differ}
    fuzzed = {"lines": lines, "events": {"rows": 5, "rejects": {}, "labels": {}, "differ": []}}
    trials = [WELL, {**TRIAL, "left": "after", "wrong": wrong}]
    assert write_results(tmp_path, trials, fuzzed, 1) == code
    said = capsys.readouterr().out
    assert "| score | 2 | 2 | 1 | 1 | 0 | 0.1 | " in said
    assert (
        "Seed 1: 2 kills and 0 other faults at random moments: 2 x kill the tree. At commits 1234abcd (2)."
        in said
    )
    assert all(text in said for text in (*wrong, *differ))
    # A run of one kind leaves the other's results.
    assert write_results(tmp_path, [], None, 1) == code
    assert capsys.readouterr().out == said


def test_mutated_lines_are_of_all_kinds_and_follow_from_the_seed() -> None:
    contexts, impressions = mutated_lines(random.Random("1"), 3000)
    assert (contexts, impressions) == mutated_lines(random.Random("1"), 3000)
    groups, rejects = group(contexts, impressions, SPEC, 7)
    reasons = {reason for _, _, reason in rejects}
    assert reasons >= {
        "bad_label", "bad_token", "duplicate_context", "duplicate_impression", "invalid_utf8", "missing_id",
        "token_count_mismatch", "too_few_columns", "unknown_context",
    }  # fmt: skip
    assert sum(len(found["impression_id"]) for found in groups.values()) > 300


def test_mutated_events_are_rejected_for_several_reasons_and_some_are_not() -> None:
    users, logs, rejects = mutated_events(random.Random("1"), 600)
    assert len(users) == 50
    assert set(rejects["impressions"]) == {
        "missing_id", "bad_id", "unparsable_time", "time_out_of_range", "duplicate_impression",
    }  # fmt: skip
    told = sum(len(events) for days in logs.values() for events in days.values())
    accepted = sum(len(events) for own in users for events in own.values())
    assert 0 < accepted < told


def test_a_fault_that_comes_after_the_end_is_made_again_sooner(tmp_path: Path) -> None:
    lasts_half_a_second = "mkdir -p $0; sleep 0.4; echo 1 > $0/manifest.json; sleep 0.1"
    scenario = Scenario("x", "data", lambda to: ["sh", "-c", lasts_half_a_second, str(to / "data")])
    lab = Lab(tmp_path / "disk", tmp_path / "log", tmp_path)
    subprocess.run(scenario.command(tmp_path), check=True)
    known = Undisturbed(6.0, 5.0, {}, contents(tmp_path / "data"))
    trial = lab.disturb(scenario, known, "kill the command", random.Random("1"))
    assert trial.hit
    assert trial.at_s < 1.0


@pytest.mark.parametrize(
    ("left", "is_whole"),
    [
        ({"manifest.json": "?", "x/ds=2026-01-01/a": "1", "x/ds=2026-01-02/a": "2", "_SUCCESS": ""}, True),
        ({"manifest.json": "?", "x/ds=2026-01-01/a": "0", "x/ds=2026-01-02/a": "2", "_SUCCESS": ""}, True),
        ({"manifest.json": "?", "x/ds=2026-01-01/a": "9", "x/ds=2026-01-02/a": "2", "_SUCCESS": ""}, False),
        ({"manifest.json": "?", "x/ds=2026-01-01/a": "0", "y/ds=2026-01-01/b": "1", "_SUCCESS": ""}, False),
        ({"manifest.json": "?", "x/ds=2026-01-02/a": "2", "_SUCCESS": ""}, False),
        ({"manifest.json": "?", "x/ds=2026-01-01/a": "0"}, False),
    ],
)
def test_of_days_that_are_published_one_by_one_each_is_as_before_or_as_after(
    left: dict[str, str], is_whole: bool
) -> None:
    before = {"manifest.json": "0", "x/ds=2026-01-01/a": "0", "_SUCCESS": ""}
    after = {
        **{"manifest.json": "1", "x/ds=2026-01-01/a": "1", "y/ds=2026-01-01/b": "1"},
        **{"x/ds=2026-01-02/a": "2", "_SUCCESS": ""},
    }
    if left.get("x/ds=2026-01-01/a") == "1":
        left = {**left, "y/ds=2026-01-01/b": "1"}
    assert days_are_whole(left, Undisturbed(1.0, 0.5, before, after)) == is_whole
