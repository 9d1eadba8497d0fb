"""The HTML page: tiles, a navigation and sections, each rendered by a Jinja2 template of `templates/`.

A section is a title, the name of a template and the values that it shows. `tables.html` and `figures.html`
serve most sections; a package that has others has a `templates/` of its own. Templates escape whatever they
are given but `Markup`, which our own plots alone are.
Nothing on the page is fetched from anywhere: no script, no font, no image but inline SVG.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_MINUS = "\N{MINUS SIGN}"
_PACKAGE = "esmm_spark.pages"


@dataclass(frozen=True)
class PageSection:
    """A part of the page under a heading of its own.

    Args:
        title: plain text.
        template: a file of `templates/`, here or in the page's own package.
        values: what the template shows, by the names that it gives them.
    """

    title: str
    template: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page: `Clicks`, `12,345`, `CTR 3.9%`."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot and its caption: the title in bold, a colon, and plain text."""

    svg: Markup
    title: str
    caption: str


@dataclass(frozen=True)
class FigureGroup:
    """Figures under a heading, or under none; `colour` is that of a series."""

    figures: Sequence[Figure]
    heading: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose lines become lists where a screen has no room for columns.

    Args:
        heads: of all columns, that of the lines' names first.
        lines: name -> cells, numbers or text.
        heading: above it, or none.
    """

    heads: Sequence[str]
    lines: Sequence[tuple[str, Sequence[int | str]]]
    heading: str = ""


@dataclass(frozen=True)
class Frame:
    """What stands around the sections.

    Args:
        title: plain text.
        lead: one sentence in plain text.
        footer: the last line, in plain text.
        package: where templates lie beside the shared ones.
        tiles: the numbers at the top.
    """

    title: str
    lead: str
    footer: str = ""
    package: str = _PACKAGE
    tiles: Sequence[Tile] = ()


def page(frame: Frame, sections: Sequence[PageSection]) -> str:
    """Returns the whole page; the titles of the sections, in their order, make the navigation."""
    templates = _templates(frame.package)
    bodies = [
        # What a template of ours has rendered is HTML.
        (section.title, Markup(templates.get_template(section.template).render(section.values)))
        for section in sections
    ]
    return templates.get_template("page.html").render(frame=frame, sections=bodies)


def _templates(package: str) -> Environment:
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, _PACKAGE))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"anchor": _anchor, "minus": _minus, "cell": _cell}
    return templates


def _anchor(title: str) -> str:
    """Returns the id of a section: `roc-curves`."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _minus(number: str) -> str:
    """Returns the text of a number with a minus as wide as a plus; reasons why there is none as they are."""
    return number if "n/a" in number else number.replace("-", _MINUS)


def _cell(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value
