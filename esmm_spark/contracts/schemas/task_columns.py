"""The columns of the truth, which follow from the tasks; those of the default tasks are in `columns.py`."""

from esmm_spark.contracts.schemas.columns import Column
from esmm_spark.contracts.tasks import Tasks


def truth_columns(tasks: Tasks) -> tuple[Column, ...]:
    """Returns the columns of the truth, of each simulated impression: what its labels were drawn from."""
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
