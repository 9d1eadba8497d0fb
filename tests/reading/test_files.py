"""Which files are read, and what is said of files that do not agree."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.reading.columns import CheckedColumns, check_columns, read_log_schemas
from esmm_spark.reading.files import days_around, files_between, list_log_files


def write(path: Path, **columns: list[object]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def columns_of(tmp_path: Path, file_format: str = "parquet") -> list[str]:
    files = read_log_schemas(list_log_files(str(tmp_path), None), file_format)
    return check_columns("logs.events.clicks", files, {"user_id": "user", "time": "t"}).warnings


def test_only_the_asked_days_folders_are_read_and_hidden_or_empty_files_never(tmp_path: Path) -> None:
    for day in ("2026-11-22", "20261123", "2026-11-24"):
        write(tmp_path / f"ds={day}" / "a.parquet", t=[1])
    write(tmp_path / "ds=20261123" / "_hidden.parquet", t=[1])
    write(tmp_path / ".staging" / "ds=2026-11-23" / "b.parquet", t=[1])
    (tmp_path / "ds=20261123" / "empty.parquet").write_bytes(b"")
    files = list_log_files(str(tmp_path), "ds")
    found = files_between(files, date(2026, 11, 23), date(2026, 11, 24))
    assert [(Path(path).parent.name, day) for path, day in found] == [
        ("ds=2026-11-24", date(2026, 11, 24)),
        ("ds=20261123", date(2026, 11, 23)),
    ]
    undated = list_log_files(str(tmp_path), None)
    assert len(undated) == 3
    assert files_between(undated, date.max, date.max) == undated


def test_an_event_may_lie_a_folder_early_or_some_late() -> None:
    noon = 1_795_435_200_000_000  # 2026-11-23 12:00
    assert days_around(noon, noon, late_days=2) == (date(2026, 11, 22), date(2026, 11, 25))


def test_a_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file or folder at .*nowhere"):
        list_log_files(str(tmp_path / "nowhere"), None)
    with pytest.raises(InputError, match=r"no file or folder at .*/\*\.json \(no glob is taken here"):
        list_log_files(str(tmp_path / "*.json"), None)


@pytest.mark.parametrize(
    "folder",
    ["ds=yesterday", "ds=2026-W48-1", "ds=2026-11-2", "ds=20261123T00", "ds=2026"],
)
def test_a_folder_that_is_no_day_is_refused(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "ds=2026-11-22" / "a.parquet", t=[1])
    write(tmp_path / folder / "a.parquet", t=[1])
    with pytest.raises(InputError, match=f"{folder} is no day, it must be like ds=2026-11-23 or ds=20261123"):
        list_log_files(str(tmp_path), "ds")


def test_a_file_outside_of_the_day_folders_is_refused(tmp_path: Path) -> None:
    for folder in (".", "2026-11-23", "dt=2026-11-23"):
        write(tmp_path / folder / "b.parquet", t=[1])
        with pytest.raises(
            InputError, match=r"b.parquet lies in no folder like ds=2026-11-23 .*leave day_folders"
        ):
            list_log_files(str(tmp_path), "ds")
        (tmp_path / folder / "b.parquet").unlink()
        write(tmp_path / "ds=2026-11-22" / "a.parquet", t=[1])


def test_two_folders_of_one_day_must_be_written_alike(tmp_path: Path) -> None:
    write(tmp_path / "eu" / "ds=2026-11-23" / "a.parquet", t=[1])
    write(tmp_path / "us" / "ds=2026-11-23" / "a.parquet", t=[1])
    assert len(list_log_files(str(tmp_path), "ds")) == 2
    write(tmp_path / "us" / "ds=20261123" / "a.parquet", t=[1])
    with pytest.raises(InputError, match="two folders of one day, ds=20261123 and ds=2026-11-23"):
        list_log_files(str(tmp_path), "ds")


def test_an_unknown_column_is_a_config_error_that_names_it_and_those_there_are(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", user=["u"], time=[1])
    with pytest.raises(
        ConfigError, match=r"logs.events.clicks.time = 't' is no column of .*a.parquet: it has user, time"
    ):
        columns_of(tmp_path)


def test_a_new_column_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", user=["u"], t=[1])
    write(tmp_path / "b.parquet", user=["u"], t=[1], country=["x"])
    write(tmp_path / "c.parquet", country=["x"], t=[1], user=["u"])
    (warning,) = columns_of(tmp_path)
    assert "column country is new in" in warning
    assert "b.parquet, it is ignored" in warning


def test_a_retyped_or_missing_column_names_file_column_and_both_types(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", user=["u"], t=[1])
    write(tmp_path / "b.parquet", user=["u"], t=["1"])
    with pytest.raises(InputError, match=r"b.parquet: column t is string, in .*a.parquet it is int64"):
        columns_of(tmp_path)
    write(tmp_path / "b.parquet", t=[1])
    with pytest.raises(InputError, match=r"b.parquet: column user is missing, in .*a.parquet it is string"):
        columns_of(tmp_path)


def test_csv_headers_and_json_types_are_held_against_each_other_too(tmp_path: Path) -> None:
    csv = tmp_path / "csv"
    csv.mkdir()
    (csv / "a.csv").write_text("user,t\nu,1\n")
    (csv / "b.csv").write_text("\ufefft,country,user\n1,x,u\n")
    assert len(columns_of(csv, "csv")) == 1
    (csv / "c.csv").write_text("t\n1\n")
    with pytest.raises(InputError, match=r"c.csv: column user is missing, in .*a.csv it is string"):
        columns_of(csv, "csv")
    json = tmp_path / "json"
    json.mkdir()
    (json / "a.json").write_text('not json\n{"user": null, "t": 1}\n{"user": "u"}\n')
    (json / "b.json").write_text('{"user": "u", "t": "1"}\n')
    with pytest.raises(InputError, match=r"b.json: column t is string, in .*a.json it is number"):
        columns_of(json, "json")


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", user=["u"], t=[1])
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a.parquet is no whole Parquet file: .*: write it again"):
        columns_of(tmp_path)


def json_columns(folder: Path, **files: str) -> CheckedColumns:
    folder.mkdir()
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content)
    files_of = read_log_schemas(list_log_files(str(folder), None), "json")
    wanted = {"user_id": "user", "time": "t", "features.tags": "tags"}
    return check_columns("logs.events.clicks", files_of, wanted)


def test_a_sparse_json_key_has_the_type_that_any_file_knows(tmp_path: Path) -> None:
    line = '{"user": "u", "t": 1}\n'
    tagged = '{"user": "u", "t": 1, "tags": ["a"]}\n'
    for number, first in enumerate((line, '{"user": "u", "t": 1, "tags": null}\n', "")):
        found = json_columns(tmp_path / str(number), a=first, b=tagged)
        assert (str(found.types["tags"]), found.warnings) == ("array", [])
    found = json_columns(tmp_path / "nowhere", a=line)
    (warning,) = found.warnings
    assert "logs.events.clicks.features.tags = 'tags' stands in no line that was looked at" in warning
    with pytest.raises(ConfigError, match=r"clicks.user_id = 'user' is no column of .*a.json: it has t"):
        json_columns(tmp_path / "no id", a='{"t": 1}\n')
    with pytest.raises(InputError, match=r"a.json has no JSON object in its first lines: write one object"):
        json_columns(tmp_path / "no object", a="7\n")
    mixed = '{"user": "u", "t": 1, "tags": "a"}\n' + tagged
    with pytest.raises(InputError, match=r"features.tags: column tags is string and array in .*a.json"):
        json_columns(tmp_path / "mixed", a=mixed)


def test_columns_of_one_name_are_refused_only_where_they_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"user,x,x,t\ru,1,2,3\r")
    assert columns_of(tmp_path, "csv") == []
    (tmp_path / "a.csv").write_bytes(b"user,t,t\r\nu,1,2\r\n")
    with pytest.raises(InputError, match=r"clicks.time: .*a.csv has 2 columns t: give each its own name"):
        columns_of(tmp_path, "csv")
