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
# An outcome by its name is left out if it tells of a label at all.
_OUTCOME_AUC = 0.6
_LATER_SHARE = 0.01
_DIFFERING_SHARE = 0.001
_UNIQUE_SHARE = 0.9
# Values of which there are more, on few lines each, have to be on two lines.
_MANY_VALUES, _FEW_LINES = 10_000, 20


def guess_features(facts: TableFacts, roles: Roles, day_folders: str | None) -> list[FeatureGuess]:
    """Returns for each column what it is as a feature, or why it is none."""
    return [_guess(column, facts, roles, day_folders) for column in facts.columns]


def leaks_of(sample: SampleFacts) -> dict[str, float]:
    """Returns task -> AUC of those whose label a column tells alone."""
    aucs = {task: found.auc for task, found in sample.separations.items()}
    return {task: auc for task, auc in aucs.items() if auc is not None and auc > LEAK_AUC}


def _guess(column: ColumnFacts, facts: TableFacts, roles: Roles, day_folders: str | None) -> FeatureGuess:
    sample = facts.samples.get(column.name, SampleFacts())
    reason = _why_none(column, facts, sample, roles, day_folders)
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
    column: ColumnFacts, facts: TableFacts, sample: SampleFacts, roles: Roles, day_folders: str | None
) -> str | None:
    """Returns why a column is no feature, None where it is one."""
    role = roles.columns.get(column.name)
    if role == "context_key" and roles.is_recurring:
        return None
    if role is not None:
        return role.replace("_", " ")
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
    aucs = [found.auc or 0.0 for found in sample.separations.values()]
    if name_words(column.name) & names.OUTCOME_WORDS and max(aucs, default=0.0) > _OUTCOME_AUC:
        return f"named like an outcome, and its AUC is {max(aucs):.2f}: is it known at the impression?"
    return None


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
