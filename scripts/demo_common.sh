# What the demos share: demo.sh, demo_events.sh and demo_table.sh begin with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .venv/bin/activate
# Local mode, with 4 GB for Spark.
export SPARK_CONF_DIR=$PWD/conf/spark

seed=${SEED:-1}
ranks=${RANKS:-2}
started=$SECONDS

step() { printf '\n\033[1m[%3ds] %s\033[0m\n' $((SECONDS - started)) "$*"; }

# Shows a command, and runs it.
run() {
    step "$*"
    "$@"
}
