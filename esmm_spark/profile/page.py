"""profile.html: the page of all sections."""

from collections.abc import Callable

from esmm_spark.contracts.tasks import plural
from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import Frame, PageSection, Tile, page
from esmm_spark.profile.result import Profile
from esmm_spark.profile.sections import (
    collisions,
    columns,
    days,
    frequent_values,
    glance,
    how,
    leaks,
    numbers,
    written_config,
)

# In the page's order.
_SECTIONS: tuple[Callable[[Profile], PageSection | None], ...] = (
    glance.section,
    columns.section,
    leaks.section,
    numbers.section,
    days.section,
    frequent_values.section,
    collisions.section,
    written_config.section,
    how.section,
)


def profile_html(found: Profile) -> str:
    """Returns profile.html."""
    facts = found.facts
    made = (make(found) for make in _SECTIONS)
    labels = " and ".join(found.roles.labels) or "no label"
    frame = Frame(
        f"Profile of {facts.path}",
        f"{len(facts.columns)} columns, {len(found.chosen)} of them features; {labels} to be predicted.",
        "profile.json holds the same numbers.",
        "esmm_spark.profile",
        _tiles(found),
    )
    return page(frame, [section for section in made if section is not None])


def _tiles(found: Profile) -> list[Tile]:
    facts = found.facts
    tiles = [
        Tile("Lines", f"{facts.lines:,}", f"{facts.malformed:,} malformed" if facts.malformed else "all read")
    ]
    source = found.roles.context_key
    keys = facts.distinct_of(source.column) if source is not None and source.column is not None else None
    if keys:
        tiles.append(Tile("Contexts", f"{keys:,}", f"{facts.lines / keys:.1f} lines each"))
    for task in found.roles.labels:
        positives, judged = facts.labels[task]
        parent = found.roles.tasks.parent(task) if found.roles.tasks else None
        over = f"of {plural(parent)}" if parent else "of the lines"
        tiles.append(
            Tile(plural(task).capitalize(), f"{positives:,}", f"{percent(positives, judged)} {over}")
        )
    tiles.append(
        Tile("Left out", f"{len(found.left_out)} columns", f"{len(found.leaks)} leak a label or the future")
    )
    return tiles
