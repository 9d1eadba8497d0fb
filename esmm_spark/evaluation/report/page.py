"""The HTML page: a title, facts, and a list of sections. All markup that is not a section's own is here.

A section is a title and HTML; another report's section is one more in the list. Nothing on the page is
fetched from anywhere: no script, no font, no image but inline SVG.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { --ink: #1d2530; --muted: #5b6470; --line: #dfe4ea; --soft: #f5f7f9; --accent: #0072b2;
  --good: #00694e; --bad: #a63d00; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans",
    sans-serif; }
main, header > div { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header { background: var(--soft); border-bottom: 1px solid var(--line); padding: 36px 0 28px; }
h1 { margin: 0 0 4px; font-size: 28px; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 52px 0 12px; font-size: 20px; letter-spacing: -0.005em; }
h3 { margin: 26px 0 8px; font-size: 15px; }
p { margin: 0 0 12px; max-width: 74ch; }
ul { margin: 0 0 16px; padding-left: 20px; max-width: 74ch; }
li { margin: 4px 0; }
.lead { color: var(--muted); font-size: 16px; }
.muted, figcaption, small { color: var(--muted); }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px;
  margin: 22px 0 0; }
dl.tiles > div { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
dl.tiles dt { color: var(--muted); font-size: 13px; }
dl.tiles dd { margin: 0; font-size: 23px; font-weight: 600; font-variant-numeric: tabular-nums; }
dl.tiles dd small { display: block; font-size: 13px; font-weight: 400; }
nav { margin-top: 18px; font-size: 14px; }
nav a { display: inline-block; margin-right: 18px; color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 9px 12px 9px 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; white-space: nowrap; padding-left: 12px; }
td.n.long { white-space: normal; min-width: 130px; }
thead th { border-bottom: 2px solid var(--ink); font-size: 13px; vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 120px; }
tr.kind th { padding-top: 22px; border-bottom-color: var(--ink); color: var(--accent); font-size: 13px;
  letter-spacing: 0.04em; text-transform: uppercase; }
td.meaning, th.meaning { padding-left: 18px; }
td.meaning { min-width: 240px; max-width: 340px; color: var(--muted); font-size: 13px; line-height: 1.4; }
td small { display: block; font-size: 12px; }
.note { margin: 0 0 16px; padding: 12px 16px; max-width: 74ch; border-left: 4px solid var(--bad);
  background: #fdf3ec; }
.note p { margin: 0; }
.note p + p { margin-top: 8px; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.key { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr));
  gap: 24px 36px; margin-bottom: 16px; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; max-width: 520px; }
td.meaning, figcaption { text-wrap: pretty; }
figure svg text { font-family: inherit !important; }
figcaption { font-size: 13px; line-height: 1.4; max-width: 520px; }
figcaption b { color: var(--ink); }
table.facts th { width: 190px; font-weight: 400; color: var(--muted); }
table.facts td { overflow-wrap: anywhere; }
footer { margin: 56px 0 40px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--muted);
  font-size: 13px; }
@media (max-width: 600px) {
  main, header > div { padding: 0 16px; }
  h1 { font-size: 23px; }
  dl.tiles { grid-template-columns: 1fr 1fr; }
  dl.tiles dd { font-size: 19px; }
}
/* Where a table has no room a row becomes a list, its cells named by their data-label. */
@media (max-width: 700px) {
  .scroll thead { display: none; }
  .scroll table, .scroll tbody, .scroll tr, .scroll th { display: block; }
  .scroll tr { padding: 10px 0; border-bottom: 1px solid var(--line); }
  .scroll tr.kind { padding: 22px 0 4px; border-bottom-color: var(--ink); }
  .scroll th, .scroll td, .scroll tr.kind th { min-width: 0; max-width: none; padding: 2px 0; border: 0; }
  .scroll td { display: grid; grid-template-columns: minmax(80px, 1fr) auto; column-gap: 16px; }
  .scroll td.meaning { display: block; }
  .scroll td.n { white-space: normal; }
  .scroll td.n::before { content: attr(data-label); color: var(--muted); font-size: 13px; text-align: left; }
  .scroll td small { grid-column: 2; }
  table.facts tr { display: block; padding: 6px 0; border-bottom: 1px solid var(--line); }
  table.facts th, table.facts td { display: block; width: auto; padding: 0; border: 0; }
}
@media print { nav { display: none; } figure, tr { break-inside: avoid; } header { background: none; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own.

    Args:
        title: plain text.
        html: its content; what comes from outside in it is escaped.
    """

    title: str
    html: str


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page: `Clicks`, `12,345`, `CTR 3.9%`."""

    label: str
    value: str
    note: str = ""


def page(title: str, lead: str, tiles: Sequence[Tile], sections: Sequence[Section]) -> str:
    """Returns the whole page.

    Args:
        title: plain text.
        lead: one sentence in plain text.
        tiles: the numbers at the top.
        sections: in their order; their titles make the navigation.
    """
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    boxes = "".join(
        f"<div><dt>{escape(tile.label)}</dt>"
        f"<dd>{escape(tile.value)}<small>{escape(tile.note)}</small></dd></div>"
        for tile in tiles
    )
    body = "".join(
        f'<section id="{_anchor(s.title)}"><h2>{escape(s.title)}</h2>\n{s.html}\n</section>\n'
        for s in sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><div>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
<dl class="tiles">{boxes}</dl>
<nav>{links}</nav>
</div></header>
<main>
{body}<footer>Made by esmm_spark. metrics.json holds the same numbers and the points of the curves.</footer>
</main>
</body>
</html>
"""


def figures(drawings: Sequence[tuple[str, str]]) -> str:
    """Returns a grid of figures, as many beside each other as fit.

    Args:
        drawings: (svg, caption) pairs, both HTML.
    """
    inner = "".join(
        f"<figure>{svg}<figcaption>{caption}</figcaption></figure>\n" for svg, caption in drawings
    )
    return f'<div class="grid">\n{inner}</div>'


def facts(rows: Mapping[str, str]) -> str:
    """Returns a table of two columns: name and plain text."""
    inner = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>\n" for name, value in rows.items()
    )
    return f'<table class="facts"><tbody>\n{inner}</tbody></table>'


def note(texts: Sequence[str]) -> str:
    """Returns a box of paragraphs of plain text that nobody should miss; nothing for none."""
    inner = "".join(paragraph(text) for text in texts)
    return f'<div class="note" role="note">{inner}</div>\n' if texts else ""


def paragraph(text: str) -> str:
    """Returns a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
