"""What a profile says on the terminal."""

from esmm_spark.contracts.schemas.layout import CONFIG_NAME
from esmm_spark.files import storage
from esmm_spark.profile.profiling import PAGE_NAME
from esmm_spark.profile.result import Profile


def print_summary(found: Profile, output: str) -> None:
    """Prints what was found, guessed and left out."""
    facts = found.facts
    print(f"{facts.path}: {facts.lines:,} lines, {facts.malformed:,} malformed, {len(facts.columns)} columns")
    for task in found.roles.labels:
        positives, judged = facts.labels[task]
        reason = found.roles.reasons.get(f"labels.{task}", "as given")
        print(f"label {task}: {positives:,} of {judged:,}; {reason}")
    for key in ("context_key", "impression_id", "time"):
        source = getattr(found.roles, key)
        print(f"{key}: {source or 'none'}; {found.roles.reasons.get(key, 'as given' if source else '')}")
    for guess in found.features:
        if guess.level is None:
            print(f"left out: {guess.column.name}: {guess.reason}")
    chosen = [guess for guess in found.features if guess.level is not None]
    context = sum(guess.level == "context" for guess in chosen)
    print(f"features: {len(chosen)}, {context} of the context, {len(chosen) - context} of the impression")
    for name in (PAGE_NAME, CONFIG_NAME):
        print(storage.join(output, name))
