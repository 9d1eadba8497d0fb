"""The field's own words for clicks and conversions, the default tasks; `words` has those of any other task.

This is the one place of the report that knows the two by name.
"""

from typing import NamedTuple


class TargetWords(NamedTuple):
    """What people call a target and its labels.

    Attributes:
        header: over a narrow column, `CVR clicks`.
        score: of what predicts it, `pCVR`.
        positive: an impression with label 1.
        negative: one with label 0.
        positives: what label 1 counts.
        population: the impressions that have a label.
        labels: 0 and 1.
    """

    header: str
    score: str
    positive: str
    negative: str
    positives: str
    population: str
    labels: tuple[str, str]


# By the name of the target.
PAPER_WORDS = {
    "ctr": TargetWords(
        "CTR",
        "pCTR",
        "a clicked impression",
        "one that nobody clicked",
        "clicks",
        "all impressions",
        ("not clicked", "clicked"),
    ),
    "cvr_clicks": TargetWords(
        "CVR clicks",
        "pCVR",
        "a click that converted",
        "a click that did not",
        "conversions",
        "clicked impressions only",
        ("not converted", "converted"),
    ),
    "ctcvr": TargetWords(
        "CTCVR",
        "pCTCVR",
        "an impression that led to a conversion",
        "one that did not",
        "conversions",
        "all impressions",
        ("not converted", "converted"),
    ),
    "cvr_entire_space": TargetWords(
        "CVR entire",
        "pCVR",
        "an impression that would convert if clicked",
        "one that would not",
        "conversions if every impression were clicked",
        "all impressions, clicked or not, by the simulator's truth",
        ("would not convert", "would convert"),
    ),
}

_WHY = (
    "A CVR model is asked about every impression, but a conversion can be seen on clicked ones only, and "
    "those are no fair sample: what gets clicked more often also converts more often, or less. BASE learns "
    "pCVR from clicks alone and inherits that bias. ESMM learns pCTR and pCTCVR = pCTR x pCVR from all "
    "impressions: its pCVR is what makes the product right over the entire space, and rests on the embedding "
    "that all impressions have trained."
)
_READING = (
    "CVR on clicks judges pCVR where BASE was taught. CVR over the entire space judges it where it is used: "
    "that is the fair comparison, and only a simulator knows its labels. CTCVR is what can be measured over "
    "all impressions of real logs."
)
PAPER_TEXTS = (_WHY, _READING)
