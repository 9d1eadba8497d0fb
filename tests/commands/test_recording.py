"""The record of a run, and the same as Prometheus's text, of commands that do little."""

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from esmm_spark.commands.metrics_file import metrics_text
from esmm_spark.commands.recording import record_of, write_records
from esmm_spark.contracts.errors import ConfigError, TargetBusyError
from esmm_spark.contracts.schemas.run_record import RunRecord, record_uri
from esmm_spark.runtime import run_notes
from esmm_spark.runtime.run_notes import Output, RunNotes, stage
from tests.commands.forked import run_code, run_script
from tests.repository import ROOT

# What a command does is its first argument, code; the others are noted as its output and partition.
COMMAND = """
import sys
from esmm_spark.commands.command import OneLineParser, run_command
from esmm_spark.contracts.errors import CountMismatchError, InputError, TargetBusyError
from esmm_spark.files import storage
from esmm_spark.runtime.run_notes import this_run, stage
def command(argv):
    parser = OneLineParser()
    parser.add_argument("code")
    parser.add_argument("output")
    parser.add_argument("partition", nargs="?")
    arguments = parser.parse_args(argv)
    this_run().writes(arguments.output, arguments.partition)
    exec(arguments.code)
run_command(command)
"""
WRITE = """
with stage("write"), stage("write all of it"):
    storage.write_text(arguments.output + "/" + (arguments.partition or ".") + "/x", "12345")
this_run().counted(rows_in=7, rows_out=5, rejects={"bad_line": 2})
"""


def run(*arguments: str | Path) -> CompletedProcess[str]:
    return run_code(COMMAND, *arguments)


def read(path: Path) -> dict[str, Any]:
    return RunRecord.model_validate_json(path.read_text()).model_dump()


@pytest.mark.parametrize(
    ("partition", "beside"), [([], "out.run.json"), (["split=test"], "out.runs/split=test.json")]
)
def test_a_run_leaves_its_record_beside_its_output(tmp_path: Path, partition: list[str], beside: str) -> None:
    done = run(WRITE, tmp_path / "out", *partition)
    assert (done.returncode, done.stderr) == (0, "")
    record = read(tmp_path / beside)
    assert record["output"] == str(tmp_path / "out")
    assert record["partition"] == (partition[0] if partition else None)
    assert [stage["name"] for stage in record["stages"]] == ["write", "write all of it"]
    assert record["stages"][0]["seconds"] >= record["stages"][1]["seconds"]
    assert record["seconds"] >= record["stages"][0]["seconds"]
    assert record["started_at"] <= record["ended_at"]
    assert (record["rows_in"], record["rows_out"], record["rejects"]) == (7, 5, {"bad_line": 2})
    assert (record["bytes_out"], record["exit_code"], record["error"]) == (5, 0, None)
    assert record["peak_memory_bytes"] > 1 << 20
    assert record["versions"]["pyspark"] == "4.0.5"
    # The output holds what the run wrote, and no record.
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["x"]


@pytest.mark.parametrize(
    ("code", "exit_code", "error"),
    [
        (
            "raise InputError('no file at s3a://KEY:SECRET@bucket/x')",
            2,
            "no file at s3a://***@bucket/x",
        ),
        ("raise CountMismatchError('a line got lost')", 1, "a line got lost"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("sys.exit(143)", 143, "stopped by SIGTERM"),
        ("raise KeyboardInterrupt", 130, "stopped by Ctrl-C: what was there before is whole"),
    ],
)
def test_a_failed_run_leaves_a_record_that_says_why(
    tmp_path: Path, code: str, exit_code: int, error: str
) -> None:
    done = run(code, tmp_path / "out")
    assert done.returncode == exit_code
    record = read(tmp_path / "out.run.json")
    assert (record["exit_code"], record["error"], record["bytes_out"]) == (exit_code, error, None)
    assert [path.name for path in tmp_path.iterdir()] == ["out.run.json"]


def test_the_record_of_the_last_run_replaces_the_one_before(tmp_path: Path) -> None:
    run(WRITE, tmp_path / "out")
    run("raise InputError('no file')", tmp_path / "out")
    assert read(tmp_path / "out.run.json")["exit_code"] == 2
    run(WRITE, tmp_path / "out")
    assert read(tmp_path / "out.run.json")["exit_code"] == 0


def test_a_failed_run_makes_no_folder_for_its_record(tmp_path: Path) -> None:
    assert run("raise InputError('no file')", tmp_path / "nowhere" / "out").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_refused_leaves_the_record_to_the_run_that_writes_there(tmp_path: Path) -> None:
    assert run("raise TargetBusyError('another one')", tmp_path / "out").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "out.run.json").mkdir()
    (tmp_path / "out.run.json" / "x").touch()
    done = run(WRITE, tmp_path / "out")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: the run's record is not written: ")


def test_no_record_and_no_metrics_hold_a_credential(tmp_path: Path) -> None:
    secret = "https://user:SECRET@host/x?token=SECRET"
    done = run(f"raise InputError('{secret}')", tmp_path / "out", "--metrics-file", tmp_path / "m.prom")
    assert done.returncode == 2
    for content in (done.stderr, *(path.read_text() for path in tmp_path.iterdir())):
        assert "SECRET" not in content
    assert "https://***@host/x?***" in read(tmp_path / "out.run.json")["error"]


def test_the_metrics_file_is_what_prometheus_reads_and_says_what_the_record_says(tmp_path: Path) -> None:
    metrics = tmp_path / "m.prom"
    metrics.write_text("of the run before")
    done = run(WRITE, tmp_path / 'a "b" \\ c', "split=test", "--metrics-file", metrics)
    assert (done.returncode, done.stderr) == (0, "")
    record = read(tmp_path / 'a "b" \\ c.runs' / "split=test.json")
    samples = parsed(metrics.read_text())
    output = str(tmp_path / 'a "b" \\ c')
    assert {sample["output"] for name in samples for sample, _ in samples[name]} == {output}
    values = {name: found[0][1] for name, found in samples.items()}
    assert values["exit_code"] == 0
    assert (values["rows_in"], values["rows_out"], values["output_bytes"]) == (7, 5, 5)
    assert values["duration_seconds"] == record["seconds"]
    assert values["peak_memory_bytes"] == record["peak_memory_bytes"]
    assert values["end_timestamp_seconds"] >= values["start_timestamp_seconds"] > 1.7e9
    assert [(labels["reason"], value) for labels, value in samples["rejected_rows"]] == [("bad_line", 2)]
    stages = {labels["stage"]: value for labels, value in samples["stage_duration_seconds"]}
    assert stages == {stage["name"]: stage["seconds"] for stage in record["stages"]}
    assert samples["info"][0][0]["python"] == record["versions"]["python"]


def test_metrics_of_a_failed_run_have_its_exit_code_and_no_counts(tmp_path: Path) -> None:
    run("raise InputError('no file')", tmp_path / "out", "--metrics-file", tmp_path / "m.prom")
    samples = parsed((tmp_path / "m.prom").read_text())
    assert samples["exit_code"][0][1] == 2
    assert not {"rows_in", "rows_out", "output_bytes", "rejected_rows"} & samples.keys()


def test_a_run_whose_config_cannot_be_read_has_metrics_and_no_record(tmp_path: Path) -> None:
    options = ("--config", tmp_path / "no.yaml", "--metrics-file", tmp_path / "m")
    done = run_script("jobs/score.py", *options)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert parsed((tmp_path / "m").read_text())["exit_code"][0] == ({"command": "score", "output": ""}, 2)


@pytest.mark.parametrize("path", ["s3a://bucket/m.prom", "{}/nowhere/m.prom", "{}"])
def test_a_metrics_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, path: str) -> None:
    done = run(WRITE, tmp_path / "out", "--metrics-file", path.format(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: --metrics-file ")
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_leave_no_record(tmp_path: Path) -> None:
    assert run("--metrics-file", tmp_path / "m.prom", "--version").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_comes_again_adds_up_and_one_that_fails_counts() -> None:
    notes = run_notes.begin_run(None)
    for _ in range(2):
        with pytest.raises(ConfigError), stage("a"):
            raise ConfigError("x")
    with stage("b"):
        pass
    assert list(notes.stages) == ["a", "b"]
    record = record_of(notes, [], 1, "x")
    assert sum(stage.seconds for stage in record.stages) <= record.seconds


def test_a_record_is_written_once_however_often_the_run_ends() -> None:
    ends: list[int] = []
    notes = RunNotes(at_end=lambda notes, code, error: ends.append(code))
    notes.ended_within(5, 1, "another rank failed")
    notes.ended(0)
    assert ends == [1]


def test_the_bytes_of_a_day_are_those_of_all_its_folders(tmp_path: Path) -> None:
    for folder, size in (("examples/ds=1", 3), ("labels/ds=1", 4), ("examples/ds=2", 50), ("other/ds=1", 60)):
        (tmp_path / "d" / folder).mkdir(parents=True)
        (tmp_path / "d" / folder / "x").write_bytes(b"." * size)
    notes = RunNotes()
    notes.writes(str(tmp_path / "d"), "ds=1", ("examples", "labels", "rejects"))
    assert record_of(notes, [], 0, None).bytes_out == 7


def test_a_bucket_has_nothing_beside_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    notes = RunNotes(output=Output("s3a://bucket"))
    write_records(notes, [], 1, TargetBusyError("x"))
    assert caplog.messages == []
    write_records(notes, [], 1, "x")
    assert caplog.messages == ["no record of the run: nothing can lie beside s3a://bucket"]


def test_docs_say_of_each_key_of_the_record_what_the_schema_says() -> None:
    rows = (ROOT / "docs" / "operations.md").read_text().splitlines()
    for key, field in RunRecord.model_fields.items():
        (row,) = [row for row in rows if row.startswith(f"| `{key}` |")]
        assert row.endswith(f" | {field.description or ''} |")


def test_docs_name_every_metric() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    known = {"rows_in": 1, "rows_out": 1, "rejects": {"a": 1}, "bytes_out": 1}
    record = record_of(RunNotes(stages={"a": 1}), [], 0, None).model_copy(update=known)
    names = parsed(metrics_text(record))
    assert len(names) == 11
    for name in names:
        assert f"esmm_spark_run_{name}" in text, name


def test_records_lie_where_docs_say() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert record_uri("<paths.dataset>", None) in text
    assert record_uri("<paths.scores>", "<partition>") in text


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Returns the samples by name without its prefix, as Prometheus's own parser finds them."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        name = family.name.removeprefix("esmm_spark_run_")
        found[name] = [(dict(sample.labels), sample.value) for sample in family.samples]
    return found
