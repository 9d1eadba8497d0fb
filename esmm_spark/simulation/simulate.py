"""Simulates raw Ali-CCP files and their truth from a preset, a seed and a number of groups.

<output>/
    _SUCCESS
    simulation.json               preset, seed, counts
    sample_skeleton_{train,test}/part-*.csv
    common_features_{train,test}/part-*.csv
    truth.parquet/part-{train,test}-*.parquet    impression_id, pctr, pcvr, conversion_if_clicked
"""

from dataclasses import asdict, dataclass

from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.schemas.layout import SIMULATION_NAME
from esmm_spark.files import storage
from esmm_spark.files.replacing import replacing, require_own_folder
from esmm_spark.simulation.parts import plan_parts
from esmm_spark.simulation.presets import preset_named
from esmm_spark.simulation.summaries import write_summary
from esmm_spark.simulation.world import World
from esmm_spark.simulation.writing import output_folders, require_written, write_parts
from esmm_spark.spark.failures import user_errors

OUTPUT = "--output"
# What a simulation holds whose marker lists nothing, see `replacing.require_own_folder`.
_OURS = (SIMULATION_NAME, *(f"{folder}/part-*" for folder in output_folders()))

MIN_GROUPS, MAX_GROUPS = 2, 10**10
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Summary:
    """What a simulation wrote, both splits together."""

    preset: str
    seed: int
    contexts: int
    impressions: int
    clicks: int
    conversions: int

    def __str__(self) -> str:
        ctr, cvr = self.clicks / self.impressions, self.conversions / max(self.clicks, 1)
        return (
            f"{self.impressions:,} impressions in {self.contexts:,} contexts, {self.clicks:,} clicks "
            f"(CTR {ctr:.2%}), {self.conversions:,} conversions (CVR {cvr:.2%}), preset {self.preset}, "
            f"seed {self.seed}"
        )


def check_arguments(output: str, num_groups: int, seed: int, preset: str) -> None:
    """Raises unless the arguments of `simulate` are in range and the output may be replaced.

    Raises:
        ConfigError: a value out of range.
        InputError: something stands at the output that no simulation wrote.
    """
    preset_named(preset)
    if not MIN_GROUPS <= num_groups <= MAX_GROUPS:
        raise ConfigError(f"--num-groups {num_groups}: must be from {MIN_GROUPS} to {MAX_GROUPS}")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed {seed}: must be from 0 to {MAX_SEED}")
    require_own_folder(output, OUTPUT, _OURS)


def simulate(
    spark: SparkSession, output: str, num_groups: int, seed: int, preset: str, num_tasks: int | None = None
) -> Summary:
    """Writes a simulated log and replaces what stood at `output`; what stood there is whole until then.

    The same preset, seed and number of groups give the same bytes, however many cores write them.

    Args:
        spark: the session.
        output: the folder.
        num_groups: contexts of train and test together, half of them in each.
        seed: of everything.
        preset: a name in `presets.SIMULATION_PRESETS`.
        num_tasks: Spark tasks; by default one per part file.

    Raises:
        ConfigError, InputError: as `check_arguments`.
        TargetBusyError: another run writes the output.
        CountMismatchError: what was written isn't what was drawn.
    """
    check_arguments(output, num_groups, seed, preset)
    with replacing(output, OUTPUT, _OURS) as new, user_errors(spark, "simulate again", f"{OUTPUT} {output}"):
        for name in output_folders():
            storage.make_directory(storage.join(new.folder, name))
        world = World.calibrated(preset_named(preset), seed)
        parts = plan_parts(world, num_groups)
        counts = write_parts(spark, world, seed, parts, new.folder, num_tasks)
        require_written(parts, counts, new.folder)
        summary = Summary(
            preset=preset,
            seed=seed,
            contexts=sum(count.contexts for count in counts),
            impressions=sum(count.impressions for count in counts),
            clicks=sum(count.clicks for count in counts),
            conversions=sum(count.conversions for count in counts),
        )
        write_summary(new.folder, asdict(summary))
    return summary
