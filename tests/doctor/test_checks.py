"""The checks, each on what it must find and on what it must not take for right."""

import os
import shutil
import time
from importlib import metadata
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from esmm_spark.contracts.config import Config
from esmm_spark.doctor import hosts, installation
from esmm_spark.doctor.finding import Finding, Outcome
from esmm_spark.doctor.hosts import check_hosts, hosts_of
from esmm_spark.doctor.paths import check_counts_of_dataset, check_paths
from esmm_spark.evaluation.kernels.compiling import SCORE_KERNEL_FILES
from esmm_spark.logs.compiling import LINE_KERNEL_FILES
from esmm_spark.model.kernels.compilation import MODEL_KERNEL_FILES
from tests.files.disks import read_only_folder
from tests.synthetic_examples import config_content, random_groups, write_dataset, write_partition


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def failed(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.outcome is Outcome.FAILED]


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "bin"


def test_hosts_are_written_as_for_horovodrun() -> None:
    assert hosts_of("a,b:4, c:1,a:2") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("script", "wrongs"),
    [
        ('eval "$8"', []),
        # A clock that is ten minutes behind.
        ("date -d '10 minutes ago' +%s.%N; echo python", ["clock of far"]),
        ("date -d 'next minute' +%s.%N; echo python", ["clock of far"]),
        ("date +%s.%N", ["Python of far"]),
        ("echo 'Permission denied (publickey).' >&2; exit 255", ["host far"]),
    ],
)
def test_a_host_is_logged_in_to_and_its_clock_and_python_are_looked_at(
    bin_folder: Path, script: str, wrongs: list[str]
) -> None:
    # As of openssh: options, the host, the command.
    program(bin_folder, "ssh", f'[ "$6 $7" = "StrictHostKeyChecking=no far" ] || exit 9\n{script}')
    found = list(check_hosts(["far"]))
    assert [finding.what for finding in failed(found)] == wrongs
    if wrongs == ["host far"]:
        assert "Permission denied (publickey).: horovodrun logs in by ssh" in found[0].text
    if wrongs == ["clock of far"]:
        assert "from this one's: let both follow NTP" in found[1].text
    if not wrongs:
        assert [f.what for f in found] == ["host far", "clock of far", "Python of far"]


@pytest.mark.slow
def test_a_slow_answer_is_no_wrong_clock(bin_folder: Path) -> None:
    program(bin_folder, "ssh", "date +%s.%N; echo python; sleep 2")
    assert failed(list(check_hosts(["far"]))) == []


def test_a_host_that_does_not_answer_is_given_up_on(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "_SECONDS", 0.2)
    program(bin_folder, "ssh", "exec sleep 60")
    started_s = time.monotonic()
    assert [f.text for f in check_hosts(["far"])] == ["ssh gives no answer within 0.2 s"]
    assert time.monotonic() - started_s < 30


def test_without_ssh_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [f.text for f in check_hosts(["far"])] == ["there is no ssh in PATH: install openssh-client"]


@pytest.mark.parametrize(
    ("version", "is_right"), [("17.0.12", True), ("21", True), ("11.0.2", False), ("1.8.0_402", False)]
)
def test_java_must_be_one_that_spark_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_right: bool
) -> None:
    program(tmp_path / "bin", "java", f"echo 'openjdk version \"{version}\" 2024-07-16' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    found = next(installation.check_java())
    assert (found.outcome is Outcome.OK) == is_right
    assert version in found.text
    assert is_right or "install Java 17" in found.text


def test_no_java_and_no_spark_submit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [f.what for f in failed(list(installation.check_java()))] == ["Java", "spark-submit"]


def test_packages_that_are_other_than_pinned_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failed(list(installation.check_packages())) == []
    real = metadata.version

    def other(name: str) -> str:
        if name == "petastorm":
            return "0.13.1"
        if name in ("pyarrow", *installation._FBGEMM):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", other)
    (found,) = installation.check_packages()
    assert found.text == (
        "petastorm is 0.13.1, not 0.12.1; pyarrow is missing, not 14.0.2; fbgemm-gpu or fbgemm-gpu-cpu is "
        "missing: run make setup"
    )


def test_kernels_that_are_not_compiled_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def folder_of(files: tuple[str, ...]) -> str:
        asked.append(files)
        return str(tmp_path)

    monkeypatch.setattr(installation, "cache_folder", folder_of)
    assert {f.outcome for f in installation.check_kernels()} == {Outcome.NOTE}
    assert asked == [LINE_KERNEL_FILES, MODEL_KERNEL_FILES, SCORE_KERNEL_FILES]
    (tmp_path / "kernel.nbi").touch()
    assert {f.text for f in installation.check_kernels()} == {f"1 are compiled, in {tmp_path}"}
    monkeypatch.setattr(installation, "cache_folder", lambda files: None)
    assert len(failed(list(installation.check_kernels()))) == 3


def test_a_horovod_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "python", "echo 'ImportError: undefined symbol: x' >&2; exit 1")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    found = {f.what: f for f in installation.check_horovod(None)}
    assert found["Horovod"].outcome is Outcome.FAILED
    assert "doesn't load: ImportError: undefined symbol: x: build it again" in found["Horovod"].text
    program(tmp_path, "python", "echo False False")
    found = {f.what: f for f in installation.check_horovod(None)}
    assert "is built without Gloo" in found["Horovod"].text


def test_the_embedding_must_fit_into_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = config_content(tmp_path)
    for table in content["features"]["tables"].values():
        table["num_buckets"] = 100_000_000
    config = Config.model_validate(content)
    needed = config.features.num_rows * (config.model.dim + 1) * 4
    monkeypatch.setattr(installation, "memory_limit_bytes", lambda: needed // 2)
    assert [f.what for f in failed(list(installation.check_memory(config, 1)))] == ["embedding"]
    assert failed(list(installation.check_memory(config, 2))) == []
    content["train"] = {**content.get("train", {}), "embedding_optimizer": "adam"}
    config = Config.model_validate(content)
    (finding,) = failed(list(installation.check_memory(config, 2)))
    assert f"(dim {config.model.dim} + {2 * config.model.dim} of adam)" in finding.text


def test_torchs_backend_does_without_horovod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installation, "_version", lambda package: None)
    content = config_content(tmp_path)
    for backend, outcome in (("torch", Outcome.NOTE), ("horovod", Outcome.FAILED)):
        config = Config.model_validate({**content, "train": {"backend": backend}})
        assert [finding.outcome for finding in installation.check_horovod(config)] == [outcome]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A config whose dataset of two files is there, and whose raw logs are not."""
    counts = write_partition(tmp_path / "dataset", "split=train", random_groups(40, seed=5), [[20], [20]])
    write_dataset(tmp_path / "dataset", {"split=train": counts})
    content = config_content(tmp_path)
    raw = {name: f"{tmp_path}/raw/{name}" for name in ("skeleton", "common_features")}
    content["logs"]["splits"]["train"] = raw
    return Config.model_validate(content)


def test_inputs_must_be_there_and_outputs_be_writable_and_nothing_is_left(
    config: Config, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = {f.what: f for f in check_paths(config)}
    assert sorted(tmp_path.rglob("*")) == before
    assert {found[f"paths.{name}"].outcome for name in type(config.paths).model_fields} == {Outcome.OK}
    missing = [what for what in found if what.startswith("logs.")]
    assert missing
    assert {found[what].outcome for what in missing} == {Outcome.FAILED}
    for what in missing:
        file = Path(found[what].text.partition("no file at ")[2])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    assert failed(list(check_paths(config))) == []


def test_an_output_that_cannot_be_written_is_told(config: Config, tmp_path: Path) -> None:
    with read_only_folder(tmp_path / "locked") as locked:
        paths = config.paths.model_copy(update={"report": f"{locked}/a/report", "model": f"{locked}"})
        found = {f.what: f for f in check_paths(config.model_copy(update={"paths": paths}))}
    for what in ("paths.report", "paths.model"):
        assert found[what].outcome is Outcome.FAILED
        assert "the file system refuses" in found[what].text
    assert found["paths.scores"].outcome is Outcome.OK


def test_files_of_a_dataset_are_counted_against_its_manifest(config: Config) -> None:
    dataset = config.paths.dataset
    assert [(f.outcome, f.text) for f in check_counts_of_dataset(dataset)] == [
        (Outcome.OK, "2 files hold 40 groups, as the manifest says")
    ]
    file = Path(dataset, "examples/split=train/part-00001.parquet")
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.slice(0, 19), file)
    (found,) = check_counts_of_dataset(dataset)
    assert found.outcome is Outcome.FAILED
    assert "part-00001.parquet" in found.text
    file.unlink()
    (found,) = check_counts_of_dataset(dataset)
    assert (found.outcome, found.text) == (Outcome.FAILED, f"{file} is missing: preprocess again")


def test_a_dataset_that_is_not_there_yet_is_a_note_and_half_of_one_is_wrong(config: Config) -> None:
    dataset = Path(config.paths.dataset)
    (dataset / "_SUCCESS").unlink()
    assert [f.outcome for f in check_counts_of_dataset(str(dataset))] == [Outcome.FAILED]
    shutil.rmtree(dataset)
    assert [f.outcome for f in check_counts_of_dataset(str(dataset))] == [Outcome.NOTE]
