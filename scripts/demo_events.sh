#!/usr/bin/env bash
# Event logs end to end on simulated ones, below ./demo-events: simulate four days, preprocess the first three day by
# day, with the third backfill what late conversions have changed, train on two days and validate on the third, then score
# and evaluate the fourth, in about four minutes. Run it with `make demo EVENTS=1`, which makes .venv first. With FUNNEL=1
# there is a third task, repurchase given conversion, and all lies below ./demo-funnel: `make demo FUNNEL=1`.
#
#   NUM_GROUPS=10000 SEED=1 RANKS=2 FUNNEL= scripts/demo_events.sh
. "$(dirname "$0")/demo_common.sh"

num_groups=${NUM_GROUPS:-10000}
if [ -n "${FUNNEL:-}" ]; then
    config=conf/funnel.yaml folder=demo-funnel extra=(--repurchases)
else
    config=conf/events.yaml folder=demo-events extra=()
fi

preprocess() {
    run spark-submit jobs/preprocess.py --config "$config" "$@"
}

mkdir -p "$folder"
rm -rf "$folder"/{dataset,model}

simulate=(--format events --output "$folder/raw" --num-groups "$num_groups" --seed "$seed" --preset demo "${extra[@]}")
run spark-submit jobs/simulate.py "${simulate[@]}"

# Each day is built when it has just ended: of its conversions, only the early ones are known. The third run looks back,
# too: which labels have changed?
preprocess --ds 2026-11-20 --as-of 2026-11-21T00:00:00
preprocess --ds 2026-11-21 --as-of 2026-11-22T00:00:00
preprocess --ds 2026-11-22 --as-of 2026-11-23T00:00:00 --backfill

run horovodrun -np "$ranks" python esmm_spark/train.py --config "$config"

# The next day, with all of its labels, to score and to evaluate.
preprocess --ds 2026-11-23

run spark-submit jobs/score.py --config "$config"

run spark-submit jobs/evaluate.py --config "$config"
step "done"
