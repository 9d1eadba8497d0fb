"""The columns of tables that follow from the tasks; of the default tasks they are those of `columns.py`."""

from esmm_spark.contracts.schemas.columns import Column
from esmm_spark.contracts.tasks import Tasks


def score_columns(tasks: Tasks) -> tuple[Column, ...]:
    """Returns the columns of scores, a row per scored impression: labels are null where unknown."""
    return (
        Column("impression_id", "string"),
        Column("group_key", "string"),
        *(Column(probability, "float") for probability in tasks.all_score_columns),
        Column("model_version", "string"),
        *(Column(label, "tinyint") for label in tasks.names),
    )


def truth_columns(tasks: Tasks) -> tuple[Column, ...]:
    """Returns the columns of the truth, a row per simulated impression: what its labels were drawn from."""
    return (
        Column("impression_id", "string"),
        *(Column(tasks.score_columns(name).conditional, "double") for name in tasks.names),
        *(Column(truth_label(tasks, name), "tinyint") for name in tasks.names if tasks.parent(name)),
    )


def truth_label(tasks: Tasks, name: str) -> str:
    """Returns the truth's column that tells what a task's label is if its parent's is 1.

    Example: `conversion_if_clicked`, of other parents `repurchase_if_conversion`.
    """
    parent = tasks.parent(name)
    return f"{name}_if_{'clicked' if parent == 'click' else parent}"
