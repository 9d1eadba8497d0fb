"""Scores, baseline and truth side by side, a row per impression, and proof that none is lost or doubled."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from esmm_spark.contracts.errors import CountMismatchError, InputError
from esmm_spark.contracts.schemas.columns import LABELS, PROBABILITIES
from esmm_spark.evaluation.measure.inputs import reading
from esmm_spark.evaluation.measure.targets import BASELINE, MODEL, ORACLE, TARGETS, LabelCounts


@dataclass(frozen=True)
class AlignedScores:
    """All inputs, impression by impression.

    Args:
        impressions: group_hash bigint (xxhash64 of group_key; two keys meet in it once in 2^64),
            `<series>_pctr`, `_pcvr`, `_pctcvr` double, click, conversion, conversion_if_clicked tinyint,
            null where unknown. Cached: the caller unpersists it.
        series: `model`, and `baseline` and `oracle` where given.
        num_impressions: scores read, which is rows of `impressions`.
        num_unlabelled: impressions whose click label is unknown.
        labels: target name -> impressions with a label, and positives. Without truth, no `cvr_entire_space`.
    """

    impressions: DataFrame
    series: tuple[str, ...]
    num_impressions: int
    num_unlabelled: int
    labels: Mapping[str, LabelCounts]

    @property
    def has_truth(self) -> bool:
        """Whether the simulator's truth is there."""
        return ORACLE in self.series


def align(
    scores: DataFrame, num_rows: int, baseline: DataFrame | None = None, truth: DataFrame | None = None
) -> AlignedScores:
    """Returns the inputs side by side, after one shuffle by impression id.

    Args:
        scores: `SCORES_SCHEMA`.
        num_rows: rows that `scores` must have.
        baseline: `SCORES_SCHEMA`, of the same impressions with the same labels; None for no baseline.
        truth: `TRUTH_SCHEMA`, of these impressions and any others; None for none.

    Raises:
        InputError: an impression id that comes twice, one that the other side lacks, a score outside [0, 1],
            an impossible label, labels that differ: with the number of them.
        CountMismatchError: not every row of `scores` came through.
    """
    sides = {MODEL: _scores_side(scores, MODEL)}
    if baseline is not None:
        sides[BASELINE] = _scores_side(baseline, BASELINE)
    if truth is not None:
        sides[ORACLE] = _truth_side(truth)
    # A union and one aggregation find duplicates, missing and surplus impressions at once; joins would
    # multiply or drop them before anyone has counted. Only numbers are aggregated, so that Spark does it in
    # a hash table.
    united = None
    for side in sides.values():
        united = side if united is None else united.unionByName(side, allowMissingColumns=True)
    assert united is not None
    impressions = _one_row_per_impression(united, tuple(sides))
    # Read by every metric: cached, to disk where memory is short, rather than joined again for each.
    impressions.persist(StorageLevel.MEMORY_AND_DISK)
    with reading("scores, baseline or truth"):
        counts = impressions.agg(*_counts(tuple(sides))).first()
    assert counts is not None
    try:
        _check(counts, num_rows, tuple(sides))
    except Exception:
        impressions.unpersist()
        raise
    labels = {
        target.name: LabelCounts(counts[f"labelled_{target.name}"], counts[f"positives_{target.name}"])
        for target in TARGETS
        if truth is not None or not target.needs_truth
    }
    return AlignedScores(impressions, tuple(sides), counts.impressions, counts.unlabelled, labels)


def _scores_side(scores: DataFrame, series: str) -> DataFrame:
    """Returns one side of the union: `<series>_*` columns, and labels and group of the scores."""
    # A group's hash stands for its key: it is all that the bootstrap and GAUC ask of it.
    group_hash = F.when(F.col("group_key").isNotNull(), F.xxhash64("group_key"))
    no_conversion = F.when(F.col("click") == 0, F.lit(0).cast("tinyint"))
    conversion = F.coalesce("conversion", no_conversion)
    is_bad_label = (
        ~F.col("click").isin(0, 1)
        | ~conversion.isin(0, 1)
        | (conversion > F.coalesce("click", F.lit(0).cast("tinyint")))
    )
    # The baseline's labels only serve to find out whether they are the same.
    click_name, conversion_name = LABELS if series == MODEL else (f"{series}_click", f"{series}_conversion")
    columns = [
        F.col("impression_id"),
        *(F.col(name).cast("double").alias(f"{series}_{name}") for name in PROBABILITIES),
        F.col("click").alias(click_name),
        conversion.alias(conversion_name),
        F.coalesce(is_bad_label, F.lit(False)).cast("int").alias(f"{series}_bad_labels"),
        F.lit(1).alias(f"{series}_rows"),
    ]
    if series == MODEL:
        columns.append(group_hash.alias("group_hash"))
    return scores.select(*columns)


def _truth_side(truth: DataFrame) -> DataFrame:
    is_bad_label = F.col("conversion_if_clicked").isNull() | ~F.col("conversion_if_clicked").isin(0, 1)
    return truth.select(
        "impression_id",
        F.col("pctr").alias(f"{ORACLE}_pctr"),
        F.col("pcvr").alias(f"{ORACLE}_pcvr"),
        (F.col("pctr") * F.col("pcvr")).alias(f"{ORACLE}_pctcvr"),
        "conversion_if_clicked",
        is_bad_label.cast("int").alias(f"{ORACLE}_bad_labels"),
        F.lit(1).alias(f"{ORACLE}_rows"),
    )


def _one_row_per_impression(united: DataFrame, series: tuple[str, ...]) -> DataFrame:
    """Returns a row per impression of the scores or the baseline; `max` picks the one value there is."""
    summed = [f"{name}_{what}" for name in series for what in ("rows", "bad_labels")]
    picked = [name for name in united.columns if name not in summed and name != "impression_id"]
    is_scored = F.col(f"{MODEL}_rows") > 0
    if BASELINE in series:
        is_scored = is_scored | (F.col(f"{BASELINE}_rows") > 0)
    return (
        united.groupBy("impression_id")
        .agg(
            *(F.max(name).alias(name) for name in picked),
            *(F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in summed),
        )
        .filter(is_scored)
    )


def _counts(series: tuple[str, ...]) -> list[Column]:
    """Returns the aggregates that `_check` holds against each other."""
    counts = [
        F.sum(f"{MODEL}_rows").alias("impressions"),
        F.count_if(F.col("click").isNull()).alias("unlabelled"),
        F.count_if(F.col("group_hash").isNull() & (F.col(f"{MODEL}_rows") > 0)).alias("without_group"),
        F.coalesce(F.sum(F.when(F.col("impression_id").isNull(), F.col(f"{MODEL}_rows"))), F.lit(0)).alias(
            "without_id"
        ),
    ]
    for name in series:
        scores = [F.col(f"{name}_{score}") for score in PROBABILITIES]
        valid = [score.isNotNull() & score.between(0, 1) & ~F.isnan(score) for score in scores]
        rows, model_rows = F.col(f"{name}_rows"), F.col(f"{MODEL}_rows")
        counts += [
            F.count_if(rows > 1).alias(f"{name}_duplicates"),
            F.sum(F.when(rows > 1, rows)).alias(f"{name}_duplicate_rows"),
            F.count_if((rows > 0) & ~(valid[0] & valid[1] & valid[2])).alias(f"{name}_bad_scores"),
            F.sum(f"{name}_bad_labels").alias(f"{name}_bad_labels"),
            F.count_if((rows == 0) & (model_rows > 0)).alias(f"{name}_missing"),
            F.count_if((rows > 0) & (model_rows == 0)).alias(f"{name}_surplus"),
        ]
    if BASELINE in series:
        same = [F.col(name).eqNullSafe(F.col(f"{BASELINE}_{name}")) for name in LABELS]
        counts.append(F.count_if(~(same[0] & same[1])).alias("differing_labels"))
    for target in TARGETS:
        if ORACLE in series or not target.needs_truth:
            label = F.expr(target.label)
            counts.append(F.count(label).alias(f"labelled_{target.name}"))
            counts.append(F.coalesce(F.sum(label), F.lit(0)).alias(f"positives_{target.name}"))
    return counts


def _check(counts: Row, num_rows: int, series: tuple[str, ...]) -> None:
    """Raises at the first count that should be zero and isn't."""
    if counts.impressions != num_rows:
        raise CountMismatchError(
            f"the scores' files hold {num_rows} rows, {counts.impressions or 0} came through the alignment"
        )
    if counts.without_id or counts.without_group:
        raise InputError(
            f"{counts.without_id} scores lack an impression_id, {counts.without_group} a group_key: "
            "score the partition again with --force"
        )
    names = {MODEL: "the scores", BASELINE: "the baseline's scores", ORACLE: "the truth"}
    for key in series:
        for count, problem in _problems(counts, key, names[key]):
            if count:
                raise InputError(f"{count} {problem}")
    if BASELINE in series and counts.differing_labels:
        raise InputError(
            f"{counts.differing_labels} impressions have other labels in the baseline's scores than in the "
            "scores: evaluate both on one partition"
        )


def _problems(counts: Row, key: str, name: str) -> list[tuple[int, str]]:
    """Returns what may be wrong with one input: how often it is, and the message behind that number."""
    return [
        (
            counts[f"{key}_duplicates"],
            f"impression ids come more than once in {name} ({counts[f'{key}_duplicate_rows']} rows): "
            f"an impression is evaluated once, write {name} again",
        ),
        (
            counts[f"{key}_missing"],
            f"of {counts.impressions} scored impressions are not in {name}: both must be of one partition",
        ),
        (
            counts[f"{key}_surplus"] if key == BASELINE else 0,
            f"impressions of {name} are not among the {counts.impressions} scores: "
            "both must be of one partition",
        ),
        (counts[f"{key}_bad_scores"], f"impressions have a score outside [0, 1], NaN or null in {name}"),
        (
            counts[f"{key}_bad_labels"],
            f"impressions have impossible labels in {name}: labels are 0 or 1, and a conversion has a click",
        ),
    ]
