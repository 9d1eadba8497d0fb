"""The paths of a config: none is written over another, checked when the config is read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.errors import ConfigError
from tests.events.small_logs import config as event_config

CONFIG: dict[str, Any] = {
    "paths": {"dataset": "d", "model": "m", "scores": "s", "report": "r"},
    "logs": {"splits": {"train": {"skeleton": "raw/a", "common_features": "raw/b"}}},
    "features": {
        "tables": {"user": {"num_buckets": 10}},
        "fields": [{"name": "user", "level": "context"}],
    },
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the command runs in, with a config in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(folder)
    return folder


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("config.yaml", overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("paths.scores=d/examples", "paths.dataset = d holds paths.scores = d/examples"),
        ("paths.model=d", "paths.dataset = d is the same place as paths.model = d"),
        ("paths.model=./x/../d/", "is the same place as paths.model = ./x/../d (which is "),
        ("paths.report=s/report", "paths.scores = s holds paths.report = s/report"),
        ("paths.dataset=raw", "paths.dataset = raw holds logs.splits.train.skeleton = raw/a"),
        ("paths.dataset=raw/a", "is the same place as logs.splits.train.skeleton = raw/a"),
        ("paths.model=raw/a/m", "paths.model = raw/a/m lies in logs.splits.train.skeleton = raw/a"),
        ("logs.splits.train.skeleton=d/rejects", "holds logs.splits.train.skeleton = d/rejects"),
        ("logs.splits.train.skeleton=d/examples/*.csv", "overlaps what is matched by logs.splits.train.skel"),
        ("logs.splits.train.skeleton=*", "paths.dataset = d overlaps what is matched by logs.splits.train"),
        ("score.raw={skeleton: s/x, common_features: b}", "paths.scores = s holds score.raw.skeleton = s/x"),
        ("score.raw={skeleton: x, common_features: m}", "same place as score.raw.common_features = m"),
        ("evaluate.truth=r/truth.parquet", "paths.report = r holds evaluate.truth = r/truth.parquet"),
        ("evaluate.baseline_scores=d/base", "paths.dataset = d holds evaluate.baseline_scores = d/base"),
        ("evaluate.baseline_scores=s/base", "paths.scores = s holds evaluate.baseline_scores = s/base"),
        ("paths.dataset=.", "paths.dataset = . is or holds the folder that this command runs in"),
        ("paths.report=..", "paths.report = .. is or holds the folder that this command runs in"),
        ("paths.dataset=/", "paths.dataset = / is a root"),
        ("paths.dataset=s3a://bucket/", "paths.dataset = s3a://bucket is a root"),
        ("paths.model=d.run.json", "that writes paths.dataset = d.run.json is the same place as paths.model"),
        ("paths.report=s.runs/r", "the records of a run that writes paths.scores = s.runs holds paths.repor"),
        ("logs.splits.train.skeleton=*.json", "paths.dataset = d.run.json overlaps what is matched by logs"),
    ],
)
def test_a_path_that_would_be_written_over_another_is_refused(
    work: Path, override: str, expected: str
) -> None:
    assert expected in refusal(override)


def test_links_and_uris_do_not_hide_that_two_paths_are_one(work: Path) -> None:
    (work / "d").mkdir()
    (work / "link").symlink_to("d")
    assert f"paths.scores = link/examples (which is {work}/d/examples)" in refusal(
        "paths.scores=link/examples"
    )
    assert "same place as paths.model" in refusal(f"paths.model=FILE://localhost{work}/d")
    both = ["paths.dataset=s3a://bucket/x", "paths.model=S3://bucket/x/y"]
    assert "paths.dataset = s3a://bucket/x holds paths.model = s3://bucket/x/y" in refusal(*both)
    (work / "home").mkdir()
    assert "holds paths.model = hdfs:///x/y" in refusal(
        "paths.dataset=hdfs://name/x", "paths.model=hdfs:///x/y"
    )


def test_the_home_folder_is_not_replaced(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(work / "home"))
    assert "is or holds the home folder" in refusal(f"paths.dataset={work}/home")


def test_what_is_only_read_may_share_a_place(work: Path) -> None:
    load_config(
        "config.yaml",
        [
            "logs.splits.train.common_features=raw/a",
            "logs.splits.test={skeleton: raw, common_features: raw/b/*.csv}",
            "score.raw={skeleton: raw/a, common_features: raw}",
            "evaluate.truth=raw/truth.parquet",
        ],
    )
    # Beside what the glob matches; the run that makes a baseline's scores.
    load_config("config.yaml", ["logs.splits.train.skeleton=*.csv", "evaluate.baseline_scores=s"])


def test_event_logs_and_catalogs_are_no_place_to_write_to(tmp_path: Path) -> None:
    content = event_config(tmp_path).model_dump(mode="json")
    items = {"path": f"{tmp_path}/items", "key": "item", "key_column": "item_id", "features": {"brand": "b"}}
    content["logs"]["events"]["catalogs"] = [items]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    load_config(str(path))
    events = content["logs"]["events"]
    for key, inside in (
        ("impressions.path", events["impressions"]["path"]),
        ("clicks.path", events["clicks"]["path"]),
        ("conversions.path", events["conversions"]["path"]),
        ("catalogs.0.path", events["catalogs"][0]["path"]),
    ):
        with pytest.raises(ConfigError, match=rf"paths\.model .* logs\.events\.{key}"):
            load_config(str(path), [f"paths.model={inside}"])


def test_what_fit_writes_is_an_output_and_what_another_dataset_holds_an_input(
    tmp_path: Path, work: Path
) -> None:
    path = tmp_path / "events.yaml"
    path.write_text(yaml.safe_dump(event_config(tmp_path).model_dump(mode="json")))
    load_config(str(path), [f"samples.frozen_from={tmp_path}/frozen"])
    frozen = f"samples.frozen_from={tmp_path}/logs/clicks/frozen"
    with pytest.raises(ConfigError, match=r"samples\.frozen_from .* lies in logs\.events\.clicks\.path"):
        load_config(str(path), [frozen])
    with pytest.raises(ConfigError, match=r"paths\.model .* holds samples\.frozen_from"):
        load_config(str(path), [f"samples.frozen_from={tmp_path}/model/frozen"])
    load_config("config.yaml", ["samples.frozen_from=raw/frozen", "logs.splits.train.skeleton=raw"])


def test_an_output_in_a_folder_whose_name_is_a_glob_is_refused(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "paths.dataset = 'd[1]': it holds [], which Spark would take for a glob" in refusal(
        "paths.dataset=d[1]"
    )
    (work / "{job}").mkdir()
    (work / "{job}" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(work / "{job}")
    assert f"paths.dataset = d is {work}/{{job}}/d, which holds {{}}, for Spark a glob" in refusal()
