"""Labels of any tree of tasks, and carried columns, against plain Python."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.contracts.tasks import Task, Tasks
from esmm_spark.logs.lines import lines_of
from esmm_spark.logs.reasons import reason_names
from esmm_spark.samples.grouping.grouper import Grouper, rejected_lines
from tests.samples.raw_lines import SPEC, context

TREE = Tasks(
    {
        "click": Task(),
        "cart": Task(given="click"),
        "order": Task(given="cart"),
        "like": Task(given="click"),
        "share": Task(),
    }
)
CARRIED = ImpressionColumns(TREE, {"price": "float", "position": "int", "segment": "string"})


def line_of(number: int, labels: Sequence[str], carried: Sequence[str] = ()) -> bytes:
    return ",".join([f"{number:03d}", *labels, "k", *carried, "0", ""]).encode()


def run(
    lines: list[bytes], brought: ImpressionColumns, labels_required: bool, capacity: int = 4096
) -> tuple[list[dict[str, Any]], dict[bytes, str]]:
    """Returns the rows of the examples, and line -> reason of the rejects."""
    grouper = Grouper(SPEC, brought, {}, 3, labels_required, capacity)
    kinds = pa.array([0] + [1] * len(lines), type=pa.int8())
    texts = pa.array([context("k"), *sorted(lines)], type=pa.binary())
    of_kernel = lines_of(pa.record_batch([kinds, texts], names=["kind", "line"]))
    batches = [*grouper.take(of_kernel), *grouper.finish()]
    names = reason_names(brought.tasks)
    rejects = {row["line"]: names[row["reason"]] for row in rejected_lines(of_kernel).to_pylist()}
    return pa.Table.from_batches(batches, grouper.schema).to_pylist(), rejects


def judge(labels: Sequence[str], tasks: Tasks, labels_required: bool) -> str | None:
    """Returns why these labels are rejected, by the words of docs/line-format.md."""
    of_task = dict(zip(tasks.names, labels, strict=True))
    for name, label in of_task.items():
        parent = tasks.parent(name)
        if label not in ("0", "1", "") or (label == "" and labels_required):
            return "bad_label"
        if label and parent and of_task[parent] == "":
            return "bad_label"
    for name, label in of_task.items():
        parent = tasks.parent(name)
        if label == "1" and parent and of_task[parent] == "0":
            return f"{name}_without_{parent}"
    return None


label = st.sampled_from(["0", "1", "1", "1", "", "2", "01", "-"])
likely = st.sampled_from(["0", "1", "1", "1"])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.lists(likely, min_size=5, max_size=5), st.lists(label, min_size=5, max_size=5))),
    st.booleans(),
)
def test_a_label_is_1_only_where_its_parents_is(all_labels: list[list[str]], labels_required: bool) -> None:
    lines = {line_of(i, labels): labels for i, labels in enumerate(all_labels)}
    rows, rejects = run(list(lines), ImpressionColumns(TREE, {}), labels_required)
    judged = {line: judge(labels, TREE, labels_required) for line, labels in lines.items()}
    assert rejects == {line: reason for line, reason in judged.items() if reason}
    kept = [labels for line, labels in sorted(lines.items()) if not judged[line]]
    for place, name in enumerate(TREE.names):
        found = [value for row in rows for value in row[name]]
        assert found == [None if labels[place] == "" else int(labels[place]) for labels in kept]


floats, integers = st.floats(allow_nan=False), st.integers(-(2**63), 2**63 - 1)
carried = st.tuples(st.none() | floats, st.none() | integers, st.none() | st.text("a,%\n\r \u00e92C"))


def escaped(value: object) -> str:
    """The text of a carried value: nothing for null, a lone % for an empty text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    for character, escape in (("%", "%25"), (",", "%2C"), ("\n", "%0A"), ("\r", "%0D")):
        value = value.replace(character, escape)
    return value or "%"


@settings(max_examples=100, deadline=None)
@given(st.lists(carried, min_size=1, max_size=12), st.sampled_from([64, 4096]))
@pytest.mark.slow
def test_carried_values_arrive_as_they_were(
    values: list[tuple[float | None, int | None, str | None]], capacity: int
) -> None:
    lines = [line_of(i, "00000", list(map(escaped, of_line))) for i, of_line in enumerate(values)]
    rows, rejects = run(lines, CARRIED, True, capacity)
    assert not rejects
    found = [[value for row in rows for value in row[name]] for name in CARRIED.carry]
    assert list(zip(*found, strict=True)) == values


def test_a_line_with_a_carried_value_too_few_is_rejected() -> None:
    line = line_of(1, "00000", ["1.5", "7"])
    _, rejects = run([line], CARRIED, True)
    assert rejects == {line: "too_few_columns"}


@pytest.mark.parametrize("labels", ["1100", "110000"])
def test_a_line_of_other_tasks_is_rejected(labels: str) -> None:
    line = line_of(1, labels)
    _, rejects = run([line], ImpressionColumns(TREE, {}), True)
    assert len(rejects) == 1
