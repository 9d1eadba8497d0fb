"""A process that runs what it is told to, again and again: Spark starts once, so a run takes seconds.

It reads one JSON object a line, {"kind": "preprocess", "folder": ..., "at": ...}, begins at that time of the
monotonic clock, which all processes of a host share, and answers one line: {"code": 0, "error": ""}.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import EsmmSparkError
from esmm_spark.events.days import build_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.samples.dataset import preprocess
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.spark.session import spark_session
from esmm_spark.training.run import train
from tests.events import small_logs
from tests.samples.raw_lines import config_for, context, impression, token, write_split
from tests.synthetic_examples import small_config

DAY = small_logs.DAYS[1]


def write_inputs(folder: Path) -> None:
    """Writes what all kinds of runs but scoring need below `folder`."""
    contexts = [context(f"c{number}", token("101", str(number))) for number in range(300)]
    impressions = [
        impression(f"{number}-{item}", f"c{number}", token("205", str(item)))
        for number in range(300)
        for item in range(10)
    ]
    write_split(folder / "raw", contexts, [*impressions, b"a bad line"])
    times = [small_logs.at(1, hour / 4) for hour in range(80)]
    rows = [small_logs.impression(str(number), time_us) for number, time_us in enumerate(times)]
    small_logs.write_log(folder / "events" / "logs" / "impressions", rows)
    small_logs.write_log(
        folder / "events" / "logs" / "clicks", [small_logs.event(time_us + 1) for time_us in times]
    )
    small_logs.write_log(folder / "events" / "logs" / "conversions", [small_logs.event(times[-1] + 2)])


def run(spark: SparkSession, kind: str, folder: Path) -> None:
    """Runs one command's function on the inputs below `folder`."""
    if kind == "preprocess":
        files = {"skeleton": "skeleton.csv", "common_features": "common_features.csv"}
        split: Any = {name: str(folder / "raw" / file) for name, file in files.items()}
        logs = {"splits": {"test": split}, "max_reject_fraction": 1}
        preprocess(spark, config_for(folder, {}, logs=logs))
    elif kind == "events":
        # The logs hold one day.
        allowed = ("impressions", "clicks", "conversions")
        build_days(spark, small_logs.config(folder / "events"), parse_day(DAY, None), 0, allowed)
    elif kind == "score":
        score(spark, plan_scoring(scoring_config(folder)))
    else:
        train(small_config(folder / "examples", epochs=1, checkpoint_every_steps=2))


def scoring_config(folder: Path) -> Any:
    """Returns the config that scores the examples with a model of random parameters."""
    config = small_config(folder / "examples")
    section = config.score.model_copy(update={"partition": "split=validation"})
    paths = config.paths.model_copy(update={"model": str(folder / "random-model")})
    return config.model_copy(update={"score": section, "paths": paths})


def main() -> None:
    """Answers requests until its input ends."""
    answers = os.fdopen(os.dup(1), "w")
    # What a run prints is no answer.
    os.dup2(2, 1)
    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        "--master local[1] --conf spark.ui.enabled=false --conf spark.driver.memory=1g "
        "--conf spark.sql.shuffle.partitions=2 --conf spark.driver.host=127.0.0.1 "
        "--conf spark.driver.bindAddress=127.0.0.1 --conf spark.ui.showConsoleProgress=false pyspark-shell"
    )
    spark = spark_session("esmm_spark stress")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        time.sleep(max(0.0, request["at"] - time.monotonic()))
        code, message = 0, ""
        try:
            run(spark, request["kind"], Path(request["folder"]))
        except EsmmSparkError as error:
            code, message = error.exit_code, str(error)
        print(json.dumps({"code": code, "error": message}), file=answers, flush=True)


if __name__ == "__main__":
    main()
