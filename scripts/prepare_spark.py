"""Makes the venv's Spark quiet and quick to start.

scripts/setup.sh runs it. All changes are made to the pyspark of this Python alone; a SPARK_HOME or
SPARK_CONF_DIR that names a cluster's Spark is that cluster's.

- conf/spark/log4j2.properties becomes pyspark's own: Spark's default tells of its start in 57 lines.
- bin/spark-class leaves out `--add-modules=jdk.incubator.vector`, of which Java warns in every process and
  which no option takes back: only Spark's linear algebra uses it, where there is one, and nothing here calls
  that.
- It takes 127.0.0.1 for this host where its name has no address, as in a bare chroot: Java asks for it before
  anything else, and ends with stack traces.
- Java maps Spark's classes from an archive (class data sharing) instead of loading and verifying them: 4 to 5
  of the 11 CPU seconds of the shortest job. Such an archive serves where its jars come first in the class
  path, so bin/spark-class puts the configuration's folders behind them; it leaves a class path with anything
  else in it alone. Where Java finds that the archive doesn't fit, it goes on without.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark

ARCHIVE = "esmm_spark.jsa"
_CONF = Path(__file__).resolve().parent.parent / "conf" / "spark"
_APPLICATION = Path(__file__).resolve().parent / "usual_classes.py"
# Java tells of every class that it can't archive.
_SILENT = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off", "-Xlog:class+path=off")
# Packages of Java that Spark reaches into: what bin/spark-class opens for it.
_OPENED = (
    *(
        f"java.base/java.{name}"
        for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util")
    ),
    *(
        "java.base/java.util.concurrent",
        "java.base/java.util.concurrent.atomic",
        "java.base/jdk.internal.ref",
    ),
    *(f"java.base/sun.{name}" for name in ("nio.ch", "nio.cs", "security.action", "util.calendar")),
    "java.security.jgss/sun.security.krb5",
)
_START = 'CMD=("${CMD[@]:0:$LAST}")\n'
_QUIET = """# esmm_spark: without the module that Java warns of in every process.
for i in "${!CMD[@]}"; do [ "${CMD[i]}" != --add-modules=jdk.incubator.vector ] || unset "CMD[i]"; done
if command -v getent >/dev/null && ! getent hosts "$(uname -n)" >/dev/null; then
  export SPARK_LOCAL_IP="${SPARK_LOCAL_IP:-127.0.0.1}"
fi
# With the archive of Spark's classes, if they come first in the class path.
with_archive() {
  local archive="$SPARK_HOME/ARCHIVE" i entry folders="" entries
  [ -e "$archive" ] || return 0
  for i in "${!CMD[@]}"; do
    [ "${CMD[i]}" = -cp ] || continue
    IFS=: read -ra entries <<<"${CMD[i+1]}"
    for entry in "${entries[@]}"; do
      case $entry in
        "hive-jackson/*" | "$SPARK_HOME/jars/"*) ;;
        */) folders="$folders:$entry" ;;
        *) return 0 ;;
      esac
    done
    CMD[i+1]="$SPARK_HOME/jars/*$folders"
    CMD=("${CMD[0]}" "-XX:SharedArchiveFile=$archive" SILENT "${CMD[@]:1}")
    return 0
  done
}
with_archive
""".replace("ARCHIVE", ARCHIVE, 1).replace("SILENT", " ".join(_SILENT))


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
        sys.exit(f"error: {script} is not that of Spark 4.0: change scripts/prepare_spark.py with the pin")
    _replace(script, text.replace(_START, _START + _QUIET))


def archive_classes(spark_home: Path, application: Path) -> None:
    """Makes the archive of the classes that a run of `application` loads: about 150 MB, in half a minute.

    Raises:
        CalledProcessError: Java or the application failed.
    """
    archive = spark_home / ARCHIVE
    written = archive.with_name(f".{ARCHIVE}.{os.getpid()}")
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    options = [option for package in _OPENED for option in ("--add-opens", f"{package}=ALL-UNNAMED")]
    options.append(f"-Dlog4j2.configurationFile={(_CONF / 'log4j2.properties').as_uri()}")
    settings = ("spark.ui.enabled=false", "spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1")
    command = [java, f"-XX:ArchiveClassesAtExit={written}", *_SILENT, *options]
    command += ["-cp", f"{spark_home}/jars/*", "org.apache.spark.deploy.SparkSubmit", "--master", "local[2]"]
    command += [word for setting in settings for word in ("--conf", setting)]
    try:
        subprocess.run(
            [*command, str(application)],
            env={**os.environ, "SPARK_HOME": str(spark_home), "PYSPARK_PYTHON": sys.executable}
            | {"PYSPARK_DRIVER_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
            check=True,
        )
        written.rename(archive)
    finally:
        written.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    """Puts a new file in the place of `path`: the old one may be linked into other environments."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_text(text)
    if path.exists():
        shutil.copymode(path, written)
    written.rename(path)


def main() -> None:
    """Prepares the pyspark of this Python. Without an archive everything works, later."""
    home = Path(pyspark.__file__).parent
    quieten(home)
    try:
        archive_classes(home, _APPLICATION)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"Spark's classes were not archived, so each job starts 3 s later: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
