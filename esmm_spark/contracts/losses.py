"""The contract of losses: what is trained, as a list of terms, and the presets of the literature.

    losses:
      - {task: click}
      - {task: conversion, space: entire}
      - {task: conversion, space: given, weight: 0.1, propensity: {clip: 0.1}}

A term is a cross entropy of one task, summed over impressions and divided by those of the global batch; the
loss is the sum of all terms. With y the task's label, o its parent's, p the entire-space probability of the
parent, and bce(y, q) = -y log q - (1 - y) log(1 - q):

    space: entire        weight * bce(y, entire-space probability), on all impressions: y is 0 where o is
    space: given         weight * bce(y, conditional probability), on impressions with o = 1
      propensity         ... * o / max(p, clip), p without gradient, or a carried column: inverse propensities
        normalized       ... and over the mean of o / max(p, clip): self-normalised
      missing: m         ... and m * bce(0, conditional probability) where o = 0: missing labels as negatives
      counterfactual     ... with a second head q' of the conditional probability, for what was not clicked:
                         (1 - o) bce(1 - 0, q') / max(1 - p, clip) + weight * |1 - (q + q')|
      imputation         ... with a head e' = softplus(logit) that estimates e = bce(y, q), doubly robust:
                         e' + o (e - e') / max(p, clip) + weight * o (e - e')^2 / max(p, clip)
    not_above: other     no cross entropy but weight * max(p(task) - p(other), 0), p of the entire space, on
                         all impressions, whatever their labels: for tasks that follow each other without
                         being given each other (AITM's calibrator: Xi et al., KDD 2021, arXiv 2105.08489)
    positives, negatives factors on impressions by their label y, as if drawn several times, or seldom
    sample_weight        a carried column that multiplies the term

An impression of which a term needs an unknown label has no such term; the label of a task is known to be 0
where that of one of its ancestors is. No term is ever divided by a sum over a batch of its own, such as its
clicks: gradients would depend on the number of ranks. Where a method is self-normalised, the mean of its
weights is a running one, over the impressions of all ranks and of the steps before.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from esmm_spark.contracts.section import Section
from esmm_spark.contracts.tasks import Tasks

Sharing = Literal["shared", "separate"]
Space = Literal["entire", "given"]
Factor = Annotated[float, Field(ge=0, le=1e6)]


class Propensity(Section):
    """The probability that the parent happens, whose inverse weighs the impressions where it did."""

    clip: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="The least that is divided by: 0.1 caps a weight at 10. Less is less biased and more "
            "noisy; clipping trades AUC against calibration.",
        ),
    ] = 0.1
    column: Annotated[
        str | None,
        Field(
            min_length=1,
            description="A carried column that holds it; by default the model's own probability of the "
            "parent in the entire space, without a gradient.",
        ),
    ] = None
    normalized: Annotated[
        bool,
        Field(
            description="Divide weights by their running mean over all impressions (self-normalised): "
            "clipping no longer makes the term smaller."
        ),
    ] = False


class Counterfactual(Section):
    """A second head for impressions whose parent did not happen, regularised to be 1 - the first."""

    weight: Annotated[Factor, Field(description="Of abs(1 - (q + q')), q and q' the two heads'.")] = 0.001


class Imputation(Section):
    """A head that estimates the cross entropy where the parent did not happen."""

    weight: Annotated[Factor, Field(description="Of the estimate's own squared error, over clip(p).")] = 1.0


class Term(Section):
    """One term of the loss: a cross entropy of one task."""

    task: Annotated[str, Field(description="A task of `tasks`.")]
    space: Annotated[
        Space,
        Field(
            description="`entire`: of its entire-space probability, on all impressions; `given`: of its "
            "conditional one, on impressions whose parent's label is 1. A task without a parent: `entire`."
        ),
    ] = "entire"
    weight: Annotated[float, Field(gt=0, le=1e6, description="Of the whole term.")] = 1.0
    propensity: Annotated[
        Propensity | None, Field(description="`given`: inverse propensity weights, e.g. `{clip: 0.1}`.")
    ] = None
    counterfactual: Annotated[
        Counterfactual | None,
        Field(description="With a propensity: a twin head where its parent didn't happen."),
    ] = None
    imputation: Annotated[
        Imputation | None, Field(description="With a propensity: doubly robust, by a head for the error.")
    ] = None
    not_above: Annotated[
        str | None,
        Field(
            description="Another task: the term is no cross entropy but `weight` times what the task's "
            "entire-space probability has above that one's."
        ),
    ] = None
    sample_weight: Annotated[
        str | None, Field(min_length=1, description="A carried column that multiplies the term.")
    ] = None
    positives: Annotated[Factor, Field(description="Factor on impressions whose label is 1.")] = 1.0
    negatives: Annotated[Factor, Field(description="Factor on impressions whose label is 0.")] = 1.0
    missing: Annotated[
        Factor,
        Field(description="`given`: impressions whose parent's label is 0 count as negatives, this often."),
    ] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.space == "entire":
            extra = [key for key in ("propensity", "missing") if getattr(self, key)]
            if extra:
                raise ValueError(f"{extra[0]} needs space: given, the term of {self.task} is entire")
        elif self.not_above is not None:
            raise ValueError(f"not_above needs space: entire, the term of {self.task} is given")
        if self.not_above is not None and (self.positives, self.negatives) != (1.0, 1.0):
            raise ValueError(
                f"a term of {self.task} with not_above takes no positives or negatives: it reads no label"
            )
        special = [key for key in ("counterfactual", "imputation") if getattr(self, key) is not None]
        if special and self.propensity is None:
            raise ValueError(f"{special[0]} needs a propensity, which the term of {self.task} lacks")
        if len(special) > 1:
            raise ValueError(
                f"a term of {self.task} has {special[0]} and {special[1]}: only one of them may be"
            )
        if self.imputation is not None and self.propensity is not None and self.propensity.normalized:
            raise ValueError(f"a term of {self.task} with imputation takes no normalized propensity")
        if special and (self.positives, self.negatives, self.missing) != (1.0, 1.0, 0.0):
            raise ValueError(
                f"a term of {self.task} with {special[0]} takes no positives, negatives or missing"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The carried columns that it reads."""
        propensity = self.propensity.column if self.propensity else None
        return tuple(column for column in (propensity, self.sample_weight) if column is not None)


class ObjectivePreset(NamedTuple):
    """An objective of the literature.

    Attributes:
        terms: the terms of a task that is given another; a task without a parent has its cross entropy.
        embedding: whether all heads read one embedding, or each its own.
        head_space: what a task's logit is of: its conditional probability, or the entire-space one, from
            which the conditional one follows by division.
    """

    terms: Callable[[str], list[Term]]
    embedding: Sharing = "shared"
    head_space: Space = "given"

    def terms_of(self, tasks: Tasks) -> list[Term]:
        """Returns the terms of all tasks, in their order."""
        return [
            term
            for task in tasks.names
            for term in ([Term(task=task)] if tasks.parent(task) is None else self.terms(task))
        ]


def _entire(task: str) -> list[Term]:
    """Returns ESMM's term.

    Source: Ma et al., "Entire Space Multi-Task Model", SIGIR 2018 (arXiv 1804.07931), equation 3.
    """
    return [Term(task=task, space="entire")]


def _given(task: str) -> list[Term]:
    """Returns BASE's term, a cross entropy on clicked impressions alone. Source: Ma et al., section 3.1."""
    return [Term(task=task, space="given")]


def _aman(task: str) -> list[Term]:
    """Returns AMAN's term: all missing as negatives.

    The paper draws 10 to 100% of the unclicked impressions as negatives and reports the best rate; here all
    of them count, at `missing: 0.1` a tenth.

    Source: Ma et al., section 3.1 (AMAN, after Pan et al., "One-Class Collaborative Filtering", ICDM 2008).
    """
    return [Term(task=task, space="given", missing=1.0)]


def _oversampling(task: str) -> list[Term]:
    """Returns OVERSAMPLING's term: conversions count several times, as often as the paper's middle rate.

    Source: Ma et al., section 3.1 (OVERSAMPLING, rates of 2, 3, 5, 10).
    """
    return [Term(task=task, space="given", positives=3.0)]


def _inverse_propensity(task: str) -> list[Term]:
    """Returns a cross entropy on clicked impressions over their probability of a click.

    UNBIAS draws clicked impressions by rejection, in inverse proportion to pCTR, which is the same in
    expectation. Multi-IPW has it with a shared embedding, and pCTR of the model itself.

    Source: Ma et al., section 3.1 (UNBIAS); Zhang et al., "Large-scale Causal Approaches to Debiasing
    Post-click Conversion Rate Estimation with Multi-task Learning", WWW 2020 (arXiv 1910.09337).
    """
    return [Term(task=task, space="given", propensity=Propensity())]


def _doubly_robust(task: str) -> list[Term]:
    """Returns Multi-DR's term, with the imputation's own error. Source: Zhang et al. (arXiv 1910.09337)."""
    return [Term(task=task, space="given", propensity=Propensity(), imputation=Imputation())]


def _escm2_ips(task: str) -> list[Term]:
    """Returns ESMM's term and, as a regulariser, inverse propensities.

    Large weights of the latter hurt pCTCVR: 0.1 to 1 serve.

    Source: Wang et al., "ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion Rate
    Estimation", SIGIR 2022 (arXiv 2204.05125).
    """
    return [*_entire(task), Term(task=task, space="given", weight=0.1, propensity=Propensity())]


def _escm2_dr(task: str) -> list[Term]:
    """Returns ESMM's term and, as a regulariser, the doubly robust one. Source: as `_escm2_ips`."""
    regulariser = Term(task=task, space="given", weight=0.1, propensity=Propensity(), imputation=Imputation())
    return [*_entire(task), regulariser]


def _dcmt(task: str) -> list[Term]:
    """Returns ESMM's term and DCMT's, with its counterfactual twin of the conditional probability.

    Its weights are self-normalised, those where the parent happened and those where not each by a mean of
    their own, as the paper's. Theirs are sums over a batch, ours running means.

    Source: Zhu et al., "DCMT: A Direct Entire-Space Causal Multi-Task Framework for Post-Click Conversion
    Estimation", ICDE 2023 (arXiv 2302.06141).
    """
    return [
        *_entire(task),
        Term(
            task=task,
            space="given",
            propensity=Propensity(normalized=True),
            counterfactual=Counterfactual(),
        ),
    ]


# BASE and the other baselines of ESMM's paper are models of their own: they share no embedding.
PRESETS: Mapping[str, ObjectivePreset] = {
    "esmm": ObjectivePreset(_entire),
    "base": ObjectivePreset(_given, "separate"),
    "esmm_ns": ObjectivePreset(_entire, "separate"),
    "aman": ObjectivePreset(_aman, "separate"),
    "oversampling": ObjectivePreset(_oversampling, "separate"),
    "unbias": ObjectivePreset(_inverse_propensity, "separate"),
    "division": ObjectivePreset(_entire, "separate", "entire"),
    "multi_ipw": ObjectivePreset(_inverse_propensity),
    "multi_dr": ObjectivePreset(_doubly_robust),
    "escm2_ips": ObjectivePreset(_escm2_ips),
    "escm2_dr": ObjectivePreset(_escm2_dr),
    "dcmt": ObjectivePreset(_dcmt),
}
