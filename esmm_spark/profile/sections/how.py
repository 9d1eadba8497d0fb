"""The section that says how the numbers were made."""

from esmm_spark.pages.page import PageSection
from esmm_spark.profile.result import Profile


def section(found: Profile) -> PageSection:
    """Returns the passes, the sample and the table's place."""
    facts, table = found.facts, found.table
    texts = [
        "The table was read three times, in memory that doesn't grow with it. First each column was "
        "counted by sketches: "
        "HyperLogLog of 2^14 registers, quantiles to a thousandth of the ranks. Then whole context "
        "keys were sampled by "
        "their hash, for AUCs, levels, and which values are frequent. Last, these values were "
        "counted over all lines, "
        "by label and by day."
    ]
    share = facts.sample_lines / max(facts.lines - facts.malformed, 1)
    layout = table.file_format + (f", day folders {table.day_folders}=" if table.day_folders else "")
    shown = {
        "table": facts.path,
        "format": layout + (f", a line per item of {table.explode}" if table.explode else ""),
        "lines": f"{facts.lines:,}, {facts.malformed:,} of them malformed",
        "sample": f"{facts.sample_lines:,} lines ({share:.1%}), {facts.sample_keys:,} keys of several lines",
    }
    return PageSection("Method", "method.html", {"texts": texts, "facts": shown})
