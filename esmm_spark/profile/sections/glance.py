"""The section that says what was guessed, and what is to be looked at."""

from esmm_spark.pages.page import PageSection
from esmm_spark.profile.guesses.split_guess import split_rule
from esmm_spark.profile.result import Profile

_KEYS = {"context_key": "Context", "impression_id": "Impression id", "time": "Time"}
_NONE = {
    "context_key": "no column tells which lines belong together: each line is a group of its own",
    "impression_id": "none: made of file and line, the same in each run",
    "time": "no column of times: there are no days to split or to compare",
}


def section(found: Profile) -> PageSection:
    """Returns the guesses with their reasons, and warnings."""
    facts, roles = found.facts, found.roles
    items = [
        (
            f"Label {task}",
            str(label.flag or label.time),
            roles.reasons.get(f"labels.{task}", "as the config has it"),
        )
        for task, label in roles.labels.items()
    ]
    for key, title in _KEYS.items():
        source = getattr(roles, key)
        reason = roles.reasons.get(key, "as the config has it" if source is not None else _NONE[key])
        items.append((title, str(source) if source is not None else "", reason))
    items.append(("Split", "", split_rule(facts, roles)[1]))
    context = sum(guess.level == "context" for guess in found.chosen)
    of_impressions = len(found.chosen) - context
    items.append(("Features", "", f"{context} of the context, {of_impressions} of the impression"))
    warnings = [f"The config needs {needed}." for needed in found.config.needed]
    warnings += [f"{guess.column.name} {guess.reason}. It is left out." for guess in found.leaks]
    if found.outcomes:
        names = ", ".join(guess.column.name for guess in found.outcomes)
        warnings.append(
            f"Named like what becomes of an impression, and left out: {names}. Put back those that are known "
            "when it is shown."
        )
    if facts.malformed:
        warnings.append(
            f"{facts.malformed:,} of {facts.lines:,} lines can't be parsed: they will be rejected."
        )
    if found.unread:
        warnings.append(f"Not read, since no feature has such a type: {', '.join(found.unread)}.")
    return PageSection("At a glance", "glance.html", {"warnings": warnings, "items": items})
