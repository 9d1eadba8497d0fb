"""The section that shows the config, and what to do with it."""

from esmm_spark.contracts.schemas.layout import CONFIG_NAME
from esmm_spark.pages.page import PageSection
from esmm_spark.profile.result import Profile

_COMMANDS = (
    "spark-submit jobs/preprocess.py --config {config}",
    "horovodrun -np 2 python esmm_spark/train.py --config {config}",
    "spark-submit jobs/score.py --config {config}",
    "spark-submit jobs/evaluate.py --config {config}",
)


def section(found: Profile) -> PageSection:
    """Returns the config and the commands that take it."""
    needed = [f"It needs {needed}." for needed in found.config.needed]
    texts = needed or ["It runs as it is. Beside each guess stands why it was made."]
    commands = "\n".join(command.format(config=CONFIG_NAME) for command in _COMMANDS)
    return PageSection(
        "Config", "config.html", {"texts": texts, "commands": commands, "text": found.config.text}
    )
