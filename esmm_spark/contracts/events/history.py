"""The config of features from a user's past: `logs.events.history`, `logs.events.crosses`."""

from typing import Annotated

from pydantic import Field

from esmm_spark.contracts.section import Section


class History(Section):
    """A feature field counted from a user's events strictly before the impression minus the lag."""

    field: Annotated[str, Field(description="The feature field's name.")]
    of: Annotated[
        str, Field(description="Which events: `clicks`, `conversions`, or a task of `logs.events.tasks`.")
    ] = "clicks"
    value: Annotated[
        str,
        Field(description="Which attribute of them: one of that log's features, or else of an item catalog."),
    ]
    last_n: Annotated[int, Field(ge=1, le=10_000, description="The newest so many values count.")] = 100
    half_life_days: Annotated[
        float | None,
        Field(
            gt=0,
            description="If set, an event counts 2^(-age / this) instead of 1, from impression minus lag.",
        ),
    ] = None
    window_days: Annotated[
        int, Field(ge=1, le=365, description="Only events in [impression - lag - this, impression - lag).")
    ] = 14
    lag_s: Annotated[
        int,
        Field(ge=0, le=30 * 86400, description="Seconds until an event is known where features are made."),
    ] = 0


class Cross(Section):
    """A feature field: the impression's values that are in its history, with the history's weight."""

    field: Annotated[str, Field(description="The feature field's name, e.g. `508`.")]
    history: Annotated[str, Field(description="A history's field, e.g. `109_14`.")]
    value: Annotated[str, Field(description="An attribute of the impression, e.g. `206`.")]
