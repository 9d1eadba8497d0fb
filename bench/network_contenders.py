"""What `python -m bench.network_quality` compares: networks over the fields of the demo in several forms."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import ROOT
from esmm_spark.contracts.config_file import load_config
from esmm_spark.simulation.impressions import CROSSES

VALIDATION_FRACTION = 0.15  # 5% of the demo's contexts, the default, have 330 conversions
# A history's field and the impression's field whose table it then shares.
_TARGETS = {"109_14": "206", "110_14": "207", "127_14": "216"}


@dataclass(frozen=True)
class Contender:
    """A network over one form of the demo's fields.

    Attributes:
        title: as the table has it.
        network: `model.network`.
        histories: `own`: pooled, in tables of their own, as conf/demo.yaml has them; `shared`: in the tables
            of the fields that attend to them; `unpooled`: the same, value by value.
        crosses: whether the crosses of histories and impressions are among the fields.
    """

    title: str
    network: str
    histories: str = "own"
    crosses: bool = True


CONTENDERS = {
    **{name: Contender(f"`{name}`", name) for name in ("mlp", "dcn", "mmoe", "ple", "aitm")},
    "mlp-shared": Contender("`mlp`, din's tables", "mlp", "shared"),
    "din": Contender("`din`", "din", "unpooled"),
    "mlp-no-crosses": Contender("`mlp`, din's tables, no crosses", "mlp", "shared", crosses=False),
    "din-no-crosses": Contender("`din`, no crosses", "din", "unpooled", crosses=False),
}


def demo_content(raw: Path, folder: Path, contender: Contender) -> dict[str, Any]:
    """Returns the sections of conf/demo.yaml over the log `raw`, with a contender's fields and network.

    Args:
        raw: what jobs/simulate.py wrote.
        folder: where everything else goes.
        contender: the contender.
    """
    content = load_config(str(ROOT / "conf" / "demo.yaml")).model_dump(mode="json", exclude_unset=True)
    content["paths"] = {part: str(folder / part) for part in ("dataset", "model", "scores", "report")}
    content["logs"]["splits"] = {
        split: {
            "skeleton": str(raw / f"sample_skeleton_{split}"),
            "common_features": str(raw / f"common_features_{split}"),
        }
        for split in ("train", "test")
    }
    content["samples"] = {"validation_fraction": VALIDATION_FRACTION}
    content["model"]["network"] = contender.network
    content["evaluate"] = {"truth": str(raw / "truth.parquet"), "bootstrap_samples": 0}
    features = content["features"]
    if not contender.crosses:
        features["fields"] = [field for field in features["fields"] if field["name"] not in CROSSES]
    for field in features["fields"]:
        if field["name"] in _TARGETS and contender.histories != "own":
            field["table"] = _TARGETS[field["name"]]
            if contender.histories == "unpooled":
                # A context of the demo has at most 100 events: nothing is cut.
                field |= {"pooling": "none", "max_length": 100}
    used = {field.get("table", field["name"]) for field in features["fields"]}
    features["tables"] = {name: size for name, size in features["tables"].items() if name in used}
    return content
