"""Guesses from counts: which columns are features, their level and buckets; which leak."""

from collections.abc import Sequence

from esmm_spark.contracts.fields.amounts import FEW_NUMBERS, is_amount_name, name_words
from esmm_spark.contracts.fields.field_spec import Level
from esmm_spark.profile.counts.collisions import suggested_buckets
from esmm_spark.profile.counts.facts import ColumnFacts, FeatureGuess, SampleFacts, TableFacts
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.profile.guesses import names
from esmm_spark.profile.guesses.role_guess import unit_of_time

LEAK_AUC = 0.95
OUTCOME = "named like an outcome"
# A history is an outcome if it tells a label better than this.
_OUTCOME_AUC = 0.6
_LATER_SHARE = 0.01
_DIFFERING_SHARE = 0.001
_UNIQUE_SHARE = 0.9
# Values of which there are more, on few lines each, have to be on two lines.
_MANY_VALUES, _FEW_LINES = 10_000, 20


def guess_features(facts: TableFacts, roles: Roles, day_folders: str | None) -> list[FeatureGuess]:
    """Returns for each column what it is as a feature, or why it is none."""
    parts = roles.among(facts.names)
    return [_guess(column, facts, roles, parts.get(column.name), day_folders) for column in facts.columns]


def leaks_of(sample: SampleFacts) -> dict[str, float]:
    """Returns task -> AUC of those whose label a column tells alone."""
    aucs = {task: found.auc for task, found in sample.separations.items()}
    return {task: auc for task, auc in aucs.items() if auc is not None and auc > LEAK_AUC}


def _guess(
    column: ColumnFacts, facts: TableFacts, roles: Roles, role: str | None, day_folders: str | None
) -> FeatureGuess:
    sample = facts.samples.get(column.name, SampleFacts())
    if role == "context_key" and roles.is_recurring:
        reason = _never_back(column)
    elif role is not None:
        reason = role.replace("_", " ")
    else:
        reason = _why_none(column, facts, sample, day_folders)
    if reason is not None:
        return FeatureGuess(column, None, reason)
    is_context = roles.context_key is not None and sample.differing <= _DIFFERING_SHARE * facts.sample_keys
    why = "groups of one"
    if roles.context_key is not None:
        why = f"differs within {sample.differing:,} of {facts.sample_keys:,} keys of several lines"
    boundaries = _boundaries(column)
    level: Level = "context" if is_context else "impression"
    if boundaries:
        return FeatureGuess(column, level, why, boundaries=boundaries)
    rare = column.distinct > _MANY_VALUES and column.values < _FEW_LINES * column.distinct
    return FeatureGuess(column, level, why, suggested_buckets(column.distinct), 2 if rare else 1)


def _why_none(
    column: ColumnFacts, facts: TableFacts, sample: SampleFacts, day_folders: str | None
) -> str | None:
    """Returns why a column that is nothing else is no feature, None where it is one."""
    if column.is_constant:
        return "constant: " + (f"always {column.first}" if column.values else "no line has a value")
    if column.name == day_folders:
        return "the day of the folder"
    return _leak(column, facts, sample) or _never_back(column)


def _leak(column: ColumnFacts, facts: TableFacts, sample: SampleFacts) -> str | None:
    """Returns why a column isn't known at the impression."""
    if leaks := leaks_of(sample):
        found = " and ".join(f"{auc:.3f} for {task}" for task, auc in leaks.items())
        return f"leaks the label: alone it has an AUC of {found}"
    later = sample.later / max(facts.sample_lines, 1)
    if later > _LATER_SHARE and unit_of_time(column) is not None:
        return f"the future: a time after the impression's on {later:.1%} of the lines"
    return _outcome(column, [found.auc for found in sample.separations.values() if found.auc is not None])


def _outcome(column: ColumnFacts, aucs: Sequence[float]) -> str | None:
    """Returns why a column is what became of an impression, by its name; None where it isn't called so.

    How well it tells a label is no measure of that: likes of those who don't buy come as late as others.
    Lists, and what is called past, are taken for histories unless they do tell.
    """
    if not names.is_outcome(column.name):
        return None
    best = max(aucs, default=0.0)
    is_history = column.shape != "value" or names.is_of_the_past(column.name)
    if is_history and best <= _OUTCOME_AUC:
        return None
    told = f", and its AUC is {best:.2f}" if aucs else ""
    return f"{OUTCOME}{told}: put it back if it is known at the impression"


def _never_back(column: ColumnFacts) -> str | None:
    """Returns why a column's values say nothing of later lines."""
    words = name_words(column.name)
    if words & names.TIME_WORDS and unit_of_time(column) is not None:
        return "a time: it does not come back"
    if words & names.REQUEST_WORDS and not words - names.REQUEST_WORDS - names.ID_WORDS:
        return "an id that does not come back"
    if column.distinct > _UNIQUE_SHARE * column.values and not _boundaries(column):
        return "nearly every line has a value of its own"
    return None


def _boundaries(column: ColumnFacts) -> Sequence[float]:
    """Returns where buckets of a number begin, about 20 of as many lines each; none of a category."""
    if not column.is_number or column.shape != "value" or column.distinct <= FEW_NUMBERS:
        return ()
    is_amount = column.wholes < column.numbers or is_amount_name(column.name)
    if not is_amount:
        return ()
    lowest, *inner, highest = (float(f"{quantile:.7g}") for quantile in column.quantiles)
    # Where nearly all are the lowest, only the others have a bucket of their own.
    return tuple(sorted({*inner} - {lowest})) or (highest,)
