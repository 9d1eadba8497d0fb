"""Names of shared files, columns of shared tables: each stands in `contracts/schemas` and nowhere else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from esmm_spark.contracts.schemas import columns, layout
from tests.repository import ROOT

PACKAGE = ROOT / "esmm_spark"
HOME = PACKAGE / "contracts/schemas"
# Words of the language, too: these are only looked for where paths are joined.
WORDS = {"examples", "rejects", "labels", "vocabulary", "versions", "checkpoints", "embedding", "items"}
NAMES = {value for name, value in vars(layout).items() if name.isupper()}
TABLES = {
    "examples": set(columns.EXAMPLE_COLUMNS),
    "view": set(columns.names_of(columns.view_columns(columns.DEFAULT_LABELS, {}))),
    "label_columns": set(columns.names_of(columns.label_columns(columns.DEFAULT_LABELS))),
    **{
        name: set(columns.names_of(getattr(columns, name)))
        for name in ("REJECT_COLUMNS", "SCORE_COLUMNS", "TRUTH_COLUMNS")
    },
    "PROBABILITIES": set(columns.PROBABILITIES),
}
TYPES = r"(?:string|binary|boolean|tinyint|int|bigint|float|double|array<\w+>)"
FEWEST = 3  # columns that make a table


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if HOME not in path.parents]


def texts_of(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yields the texts of a module that are no docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def joined_texts(tree: ast.AST) -> set[int]:
    """Returns which texts are arguments of `join`, as in `storage.join(dataset, "examples")`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    joins = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "join"]
    return {id(argument) for call in joins for argument in call.args}


def copied_names(source: str) -> list[tuple[int, str]]:
    """Returns line and name of each shared file or folder that a module calls by a text of its own.

    A path has no spaces, as prose has, and is no module's. A word of the language counts where it is joined
    or stands beside a slash.
    """
    tree = ast.parse(source)
    joined = joined_texts(tree)
    found = []
    for node in texts_of(tree):
        text = str(node.value)
        if not re.search(r"\s|\.py$", text):
            is_path = "/" in text or id(node) in joined
            shared = [part for part in text.split("/") if part in NAMES and (is_path or part not in WORDS)]
            found += [(node.lineno, part) for part in shared]
    return found


def literal_lists(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yields line and names of what may declare a table.

    A tuple, list or set of names or of (name, type); a dict of names and types; SQL. A dict of names and
    values is none: whoever writes a table must say which value goes where.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            yield node.lineno, [name for item in node.elts if (name := name_of(item)) is not None]
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield (
                node.lineno,
                [str(key.value) for key, value in pairs if isinstance(key, ast.Constant) and is_type(value)],
            )
    for node in texts_of(tree):
        yield node.lineno, re.findall(rf"(\w+) {TYPES}\b", str(node.value))


def name_of(item: ast.expr) -> str | None:
    """Returns the name in `"click"`, `("click", int8())` or `StructField("click", ByteType())`."""
    if isinstance(item, ast.Tuple) and item.elts:
        item = item.elts[0]
    elif isinstance(item, ast.Call) and item.args:
        item = item.args[0]
    return item.value if isinstance(item, ast.Constant) and isinstance(item.value, str) else None


def is_type(value: ast.expr) -> bool:
    """Returns whether a value is a type: `pa.int8()`, `ByteType()`, `"tinyint"`, `np.int8`."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str) and re.fullmatch(TYPES, value.value) is not None
    text = ast.unparse(value)
    return re.match(r"(?:pa|np|types)\.\w*(?:int|float|string|list|bool|binary)|\w+Type\(", text) is not None


def copied_tables(source: str) -> list[tuple[int, str]]:
    """Returns line and table of each declaration that names three or more of a shared table's columns."""
    found = []
    for line, names in literal_lists(ast.parse(source)):
        of_table = {table: len(shared & set(names)) for table, shared in TABLES.items()}
        table = max(of_table, key=lambda name: of_table[name])
        if of_table[table] >= FEWEST:
            found.append((line, table))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_shared_names_and_tables_stand_in_contracts_schemas_alone(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    copies = copied_names(source) + copied_tables(source)
    assert copies == [], f"{path.relative_to(ROOT)}: take these from contracts/schemas"


def test_no_two_names_of_the_layout_are_one() -> None:
    names = [name for name in vars(layout) if name.isupper()]
    assert len(names) == len(NAMES)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('MARKER = "_SUCCESS"', "_SUCCESS"),
        ('uri = storage.join(models, "versions", version)', "versions"),
        ('uri = f"{dataset}/examples/{name}"', "examples"),
        ('uri = f"{folder}/_score.json"', "_score.json"),
        ('files = ("part-0", "history.json")', "history.json"),
        ('day = f"ds={date}"', "ds="),
        ('partition = "split=train"', "split=train"),
    ],
)
def test_a_planted_name_is_found(source: str, name: str) -> None:
    assert copied_names(source) == [(1, name)]


@pytest.mark.parametrize(
    "source",
    [
        '"""Writes manifest.json."""',
        'raise InputError("no model.json in this folder")',
        'frame.agg(F.sum("x").alias("labels"))',
        'source: Literal["examples", "raw"]',
        "names = [MANIFEST_NAME, DENSE_NAME]",
    ],
)
def test_prose_and_other_words_are_no_names(source: str) -> None:
    assert copied_names(source) == []


@pytest.mark.parametrize(
    "source",
    [
        'SCORES = ("pctr", "pcvr", "pctcvr")',
        'schema = pa.schema([("group_key", pa.string()), ("pctr", pa.float32()), ("pcvr", pa.float32())])',
        'StructType([StructField("group_key", S()), StructField("pctr", F()), StructField("click", B())])',
        'types = {"group_key": pa.string(), "group_hash": pa.int64(), "click": pa.list_(pa.int8())}',
        'frame.mapInArrow(work, "impression_id string, group_key string, click tinyint")',
        'COLUMNS = ["line", "source", "reason"]',
        'types = {"impression_id": "string", "pctr": "double", "pcvr": "double"}',
    ],
)
def test_a_planted_table_is_found(source: str) -> None:
    assert len(copied_tables(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'table = pa.table({"impression_id": ids, "pctr": labels.pctr, "pcvr": labels.pcvr})',
        'key = ["impression_id", "group_key"]',
        'rows = frame.select("impression_id", F.col("click") > 0, "mature")',
    ],
)
def test_values_and_references_are_no_tables(source: str) -> None:
    assert copied_tables(source) == []
