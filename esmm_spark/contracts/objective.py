"""What a config trains: its tasks, terms and heads, resolved from `tasks`, `losses` and `model`.

A head is a logit of the network: one per task, in their order, then one for each counterfactual or imputation
of a term, or `model.extra_heads` for a loss of one's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from esmm_spark.contracts.losses import PRESETS, Sharing, Space, Term
from esmm_spark.contracts.tasks import Tasks

# The objective of a config whose `losses` lists terms.
LISTED = "terms"


class ModelSection(Protocol):
    """What is read of the config's model section."""

    @property
    def objective(self) -> str:
        """A preset, LISTED, or `package.module:function`."""
        ...

    @property
    def embedding(self) -> Sharing | None:
        """Overrides the preset's."""
        ...

    @property
    def head_space(self) -> Space | None:
        """Overrides the preset's."""
        ...

    @property
    def extra_heads(self) -> int:
        """Heads beside the tasks', for a function."""
        ...


@dataclass(frozen=True)
class Objective:
    """Tasks, and how they are trained.

    Attributes:
        name: the preset's, LISTED, or `package.module:function`.
        tasks: K tasks.
        terms: the loss is their sum; none where a function gives it.
        heads: [H] names, those of the tasks first, then `conversion:counterfactual`, `extra:0`.
        embedding: whether all heads read one embedding, or each its own.
        head_space: what a task's logit is of; see `ObjectivePreset`.
    """

    name: str
    tasks: Tasks
    terms: tuple[Term, ...]
    heads: tuple[str, ...]
    embedding: Sharing
    head_space: Space

    @property
    def num_embeddings(self) -> int:
        """Embeddings in the arena: table row r of head h is arena row h * `spec.num_rows` + r."""
        return len(self.heads) if self.embedding == "separate" else 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The carried columns that the terms read, each once."""
        return tuple(dict.fromkeys(column for term in self.terms for column in term.columns))

    def entire_heads(self, task: str) -> tuple[int, ...]:
        """Returns the heads whose probabilities multiply to the task's entire-space probability."""
        chain = self.tasks.chain(task) if self.head_space == "given" else (task,)
        return tuple(self.tasks.names.index(name) for name in chain)

    def extra_head(self, term: Term) -> int:
        """Returns the head of a term's counterfactual or imputation, -1 where it has neither."""
        kind = _extra_kind(term)
        return self.heads.index(f"{term.task}:{kind}") if kind else -1


def resolve(model: ModelSection, losses: Sequence[Term], tasks: Tasks) -> Objective:
    """Returns what a config trains.

    Raises:
        ValueError: `losses` and `model.objective` contradict each other, or a term doesn't fit the tasks.
    """
    if bool(losses) != (model.objective == LISTED):
        found = f"losses lists {len(losses)} terms" if losses else "losses lists no term"
        raise ValueError(f"{found}, but model.objective is {model.objective}: leave one of them out")
    preset = PRESETS.get(model.objective)
    terms = preset.terms_of(tasks) if preset else list(losses)
    is_function = preset is None and not losses
    if model.extra_heads and not is_function:
        raise ValueError(
            f"model.extra_heads = {model.extra_heads} are for a loss of your own, model.objective is "
            f"{model.objective}: leave it out"
        )
    head_space = model.head_space or (preset.head_space if preset else "given")
    _check_terms(terms, tasks, head_space)
    extra = [f"{term.task}:{kind}" for term in terms if (kind := _extra_kind(term))]
    repeated = [name for name in extra if extra.count(name) > 1]
    if repeated:
        raise ValueError(f"losses has two terms with a head {repeated[0]}: only one may have it")
    extra += [f"extra:{number}" for number in range(model.extra_heads)]
    return Objective(
        name=model.objective,
        tasks=tasks,
        terms=tuple(terms),
        heads=(*tasks.names, *extra),
        embedding=model.embedding or (preset.embedding if preset else "shared"),
        head_space=head_space,
    )


def _check_terms(terms: Sequence[Term], tasks: Tasks, head_space: Space) -> None:
    trained: set[str] = set()
    for term in terms:
        if term.task not in tasks.names:
            raise ValueError(
                f"losses has a term of {term.task!r}, which is no task: there are {', '.join(tasks.names)}"
            )
        if term.space == "given" and head_space == "entire":
            raise ValueError(
                f"losses has a term of {term.task} with space: given, but with model.head_space: entire "
                "no head is of a conditional probability: leave one of them out"
            )
        if term.space == "given" and tasks.parent(term.task) is None:
            raise ValueError(
                f"losses has a term of {term.task} with space: given, but it is given no task: leave it out"
            )
        if term.not_above is not None:
            _check_constraint(term.task, term.not_above, tasks, head_space)
            continue
        is_product = term.space == "entire" and head_space == "given"
        trained |= set(tasks.chain(term.task) if is_product else (term.task,))
    untrained = [name for name in tasks.names if terms and name not in trained]
    if untrained:
        raise ValueError(f"no term of losses trains {', '.join(untrained)}: add one, or drop the task")


def _check_constraint(task: str, other: str, tasks: Tasks, head_space: Space) -> None:
    """Raises ValueError if `task`, not_above `other`, says nothing, or what can't be."""
    if other not in tasks.names:
        raise ValueError(
            f"losses has a term of {task} with not_above: {other!r}, which is no task: there are "
            f"{', '.join(tasks.names)}"
        )
    if other == task:
        raise ValueError(f"losses has a term of {task} with not_above: {other}, itself: name another task")
    if head_space == "given" and other in tasks.chain(task):
        raise ValueError(
            f"losses has a term of {task} with not_above: {other}, but {task} is given {other} and so never "
            f"above it, the term is always 0: drop it, or make {task} a task without given"
        )
    if task in tasks.chain(other):
        raise ValueError(
            f"losses has a term of {task} with not_above: {other}, but {other} is given {task} and so never "
            "above it: exchange them, or drop the term"
        )


def _extra_kind(term: Term) -> str | None:
    if term.counterfactual is not None:
        return "counterfactual"
    return "imputation" if term.imputation is not None else None
