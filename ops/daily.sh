#!/usr/bin/env bash
# A day of event logs: preprocess it, train on the days before, score it, evaluate it, release its scores.
#
#   ops/daily.sh DAY [STEP ...]     all steps, or these: logs preprocess train score evaluate release
#
# Day D: `preprocess` builds D and builds again the days whose labels have changed since; `train` takes D - n to D - 2 and
# validates on D - 1; D is scored and evaluated, so a model is judged on a day that it has not seen. `evaluate.require` of
# the config is the gate: exit code 3, and nothing is released. The first two days are built alone: `train` then ends with
# exit code 99, and so does the script.
#
# Every step may be run again: a day is built the same, a model that is trained stays, a partition that is scored stays.
# Exit code 2 is a mistake that no other attempt would mend, told in one line.
#
# From the environment:
#   ESMM_SPARK_CONFIG       conf/events.yaml, from this checkout
#   ESMM_SPARK_OVERRIDES    key=value words for all commands: `paths.dataset=s3a://bucket/dataset ...`
#   ESMM_SPARK_START        the first day that is built, like 2026-11-20; `train` needs it
#   ESMM_SPARK_LOGS         folders that hold a folder ds=DAY for each day; each is waited for until it has a _SUCCESS, then
#                           the day is there. Separated by colons; none: nothing is waited for
#   ESMM_SPARK_WAIT_S       the longest wait: 43200, 12 hours
#   ESMM_SPARK_TRAIN_DAYS   at most how many days are trained on: 14
#   ESMM_SPARK_SUBMIT       arguments of spark-submit, e.g. `--master yarn --num-executors 50`: none, local mode. With a
#                           --master the settings are those of the SPARK_CONF_DIR that is set, and not conf/spark's
#   ESMM_SPARK_RANKS        arguments of horovodrun: `-np 2`
#   ESMM_SPARK_ATTEMPTS     how often `train` is tried, from its last checkpoint: 1
#   ESMM_SPARK_RELEASE      a shell command that tells the readers of scores; it has DAY. By default it prints a line
set -euo pipefail
cd "$(dirname "$0")/.."

mistake() { echo "error: $*" >&2; exit 2; }

is_date() { [ "$(date -u -d "$1" +%F 2>/dev/null)" = "$1" ]; }

steps=(logs preprocess train score evaluate release)
day=${1-}
[ -n "$day" ] || mistake "no DAY: ops/daily.sh DAY [${steps[*]}]"
is_date "$day" || mistake "DAY $day: must be a date like 2026-11-23"
shift
[ $# -gt 0 ] || set -- "${steps[@]}"
for step in "$@"; do
    [[ " ${steps[*]} " == *" $step "* ]] || mistake "step $step: must be one of ${steps[*]}"
done
wait_s=${ESMM_SPARK_WAIT_S:-43200}
[[ $wait_s =~ ^[0-9]+$ ]] || mistake "ESMM_SPARK_WAIT_S $wait_s: must be a whole number of seconds"
[[ ${ESMM_SPARK_LOGS:-} != *://* ]] || mistake "ESMM_SPARK_LOGS $ESMM_SPARK_LOGS: must be folders of this host;" \
    "leave it out, and wait for logs in a store with what your scheduler has for it"
. .venv/bin/activate
[[ " ${ESMM_SPARK_SUBMIT:-}" == *" --master"* ]] || export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$PWD/conf/spark}
read -ra options <<<"--config ${ESMM_SPARK_CONFIG:-conf/events.yaml} ${ESMM_SPARK_OVERRIDES:-}"
read -ra submit <<<"${ESMM_SPARK_SUBMIT:-}"
read -ra ranks <<<"${ESMM_SPARK_RANKS:--np 2}"

plus() { date -u -d "$day UTC $1 days" +%F; }

logs() {
    local folders folder deadline=$((SECONDS + wait_s))
    IFS=: read -ra folders <<<"${ESMM_SPARK_LOGS:-}"
    for folder in "${folders[@]}"; do
        until [ -e "$folder/ds=$day/_SUCCESS" ]; do
            [ $SECONDS -lt $deadline ] || mistake "$folder/ds=$day has no _SUCCESS after $wait_s s: start again when it has"
            sleep 5
        done
    done
}
preprocess() {
    spark-submit "${submit[@]}" jobs/preprocess.py "${options[@]}" --ds "$day" --as-of "$(plus +1)T00:00:00" --backfill
}
train() {
    local first last start=${ESMM_SPARK_START:-}
    is_date "$start" || mistake "ESMM_SPARK_START '$start': must be the first day that is built, a date like 2026-11-20"
    last=$(plus -2)
    first=$(plus -$((${ESMM_SPARK_TRAIN_DAYS:-14} + 1)))
    # Dates as text are in order.
    [[ $first > $start ]] || first=$start
    [[ ! $last < $start ]] || { echo "$day: too early to train, a day to train on and one to validate on come first" >&2; exit 99; }
    # By its name a retry goes on from the last checkpoint, and a rerun finds the model.
    scripts/train_until_done.sh -n "${ESMM_SPARK_ATTEMPTS:-1}" -- horovodrun "${ranks[@]}" \
        python esmm_spark/train.py "${options[@]}" "train.run_id=$day" \
        "data.train=ds in [$first, $last]" "data.validation=ds=$(plus -1)"
}
score() { spark-submit "${submit[@]}" jobs/score.py "${options[@]}" "score.partition=ds=$day"; }
evaluate() { spark-submit "${submit[@]}" jobs/evaluate.py "${options[@]}" "evaluate.partition=ds=$day"; }
release() { DAY=$day bash -c "${ESMM_SPARK_RELEASE:-echo scores of ds=$day are released}"; }

for step in "$@"; do
    "$step"
done
