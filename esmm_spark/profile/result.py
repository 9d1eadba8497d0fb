"""What a profile found, as page and terminal show it."""

from collections.abc import Sequence
from dataclasses import dataclass

from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.profile.counts.facts import FeatureGuess, TableFacts
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.profile.guesses.config_guess import WrittenConfig
from esmm_spark.profile.guesses.features import OUTCOME


@dataclass(frozen=True)
class Profile:
    """What a profile found.

    Attributes:
        facts: of the table.
        roles: of its columns.
        features: of all columns, in the table's order.
        table: how it was read.
        config: written from them.
        unread: columns that can't be read.
    """

    facts: TableFacts
    roles: Roles
    features: Sequence[FeatureGuess]
    table: TableLog
    config: WrittenConfig
    unread: Sequence[str]

    @property
    def chosen(self) -> list[FeatureGuess]:
        """The columns that are features."""
        return [guess for guess in self.features if guess.level is not None]

    @property
    def left_out(self) -> list[FeatureGuess]:
        """The others."""
        return [guess for guess in self.features if guess.level is None]

    @property
    def outcomes(self) -> list[FeatureGuess]:
        """Of the others, those that are called like what becomes of an impression, and don't tell."""
        return [guess for guess in self.left_out if guess.reason.startswith(OUTCOME)]

    @property
    def leaks(self) -> list[FeatureGuess]:
        """Of the others, those that aren't known at the impression."""
        return [guess for guess in self.left_out if guess.reason.startswith(("leaks", "the future"))]
