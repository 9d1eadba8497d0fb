"""Makes the venv's Spark quiet: no line on stderr but errors, also where SPARK_CONF_DIR is not set.

scripts/setup.sh runs it. All changes are made to the pyspark of this Python alone; a SPARK_HOME or
SPARK_CONF_DIR that names a cluster's Spark is that cluster's.

- conf/spark/log4j2.properties becomes pyspark's own: Spark's default tells of its start in 57 lines.
- bin/spark-class leaves out `--add-modules=jdk.incubator.vector`, of which Java warns in every process and
  which no option takes back: only Spark's linear algebra uses it, where there is one, and nothing here calls
  that.
- It takes 127.0.0.1 for this host where its name has no address, as in a bare chroot: Java asks for it before
  anything else, and ends with stack traces.
"""

import os
import shutil
import sys
from pathlib import Path

import pyspark

_CONF = Path(__file__).resolve().parent.parent / "conf" / "spark"
_START = 'CMD=("${CMD[@]:0:$LAST}")\n'
_QUIET = """# esmm_spark: without the module that Java warns of in every process.
for i in "${!CMD[@]}"; do [ "${CMD[i]}" != --add-modules=jdk.incubator.vector ] || unset "CMD[i]"; done
if command -v getent >/dev/null && ! getent hosts "$(uname -n)" >/dev/null; then
  export SPARK_LOCAL_IP="${SPARK_LOCAL_IP:-127.0.0.1}"
fi
"""


def quieten(spark_home: Path) -> None:
    """Changes the files of `spark_home`; does nothing to those that are changed already.

    Raises:
        SystemExit: spark-class is not the one of the pinned Spark.
    """
    (spark_home / "conf").mkdir(exist_ok=True)
    _replace(spark_home / "conf" / "log4j2.properties", (_CONF / "log4j2.properties").read_text())
    script = spark_home / "bin" / "spark-class"
    text = script.read_text()
    if _QUIET in text:
        return
    if text.count(_START) != 1:
        sys.exit(f"error: {script} is not that of Spark 4.0: change scripts/quiet_spark.py with the pin")
    _replace(script, text.replace(_START, _START + _QUIET))


def _replace(path: Path, text: str) -> None:
    """Puts a new file in the place of `path`: the old one may be linked into other environments."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_text(text)
    if path.exists():
        shutil.copymode(path, written)
    written.rename(path)


if __name__ == "__main__":
    quieten(Path(pyspark.__file__).parent)
