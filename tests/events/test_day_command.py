"""`jobs/preprocess.py --ds` as a schedule runs it: each day's run leaves a record of its own."""

from pathlib import Path

import pytest
import yaml

from esmm_spark.commands.command import run_command
from esmm_spark.contracts.schemas.run_record import RunRecord
from tests.events import small_logs
from tests.events.small_logs import DAYS, at, event, impression, write_log

pytestmark = pytest.mark.spark

MINUTE = 1 / 60


@pytest.mark.usefixtures("spark")
def test_a_day_leaves_a_record_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import preprocess as job

    config = small_logs.config(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    shown = [impression(f"i{n}", at(2, 1 + n * MINUTE), user=f"u{n}") for n in range(30)]
    write_log(tmp_path / "logs/impressions", [impression("before", at(1, 5)), *shown])
    clicks = [event(at(2, 1.5 + n * MINUTE), user=f"u{n}") for n in range(9)]
    # Nothing says who clicked: a reject.
    nobody = event(at(2, 2), user=None)
    write_log(tmp_path / "logs/clicks", [event(at(0, 5)), event(at(1, 5)), *clicks, nobody])
    write_log(tmp_path / "logs/conversions", [event(at(2, 3), user="u0")])

    def run(*arguments: str) -> None:
        monkeypatch.setattr(
            "sys.argv", ["jobs/preprocess.py", "--config", str(tmp_path / "config.yaml"), *arguments]
        )
        run_command(job.main)

    def record_of_day(day: str) -> RunRecord:
        return RunRecord.model_validate_json((tmp_path / "dataset.runs" / f"ds={day}.json").read_text())

    run("--ds", DAYS[2], "--allow-missing", "conversions")
    assert [path.name for path in (tmp_path / "dataset.runs").iterdir()] == [f"ds={DAYS[2]}.json"]
    record = record_of_day(DAYS[2])
    assert (record.command, record.partition, record.exit_code) == ("preprocess", f"ds={DAYS[2]}", 0)
    assert (record.rows_in, record.rows_out) == (30 + 10 + 1, 30)
    assert sum(record.rejects.values()) == 1
    assert any("attribute events" in stage.name for stage in record.stages)
    folders = [tmp_path / "dataset" / kind / f"ds={DAYS[2]}" for kind in ("examples", "labels", "rejects")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert record.bytes_out == sum(path.stat().st_size for path in files) > 0

    # The record of a refused day stands beside that of the other one.
    with pytest.raises(SystemExit):
        run("--ds", DAYS[3])
    assert record_of_day(DAYS[2]) == record
    other = record_of_day(DAYS[3])
    assert (other.exit_code, other.rows_out) == (2, None)
    assert f"error: {other.error}" == capsys.readouterr().err.splitlines()[-1]
