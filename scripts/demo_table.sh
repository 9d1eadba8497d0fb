#!/usr/bin/env bash
# From a path to a report, below ./demo-table: simulate one flat table, profile it, and with the config that the profile
# writes, as it is, preprocess, train on 2 ranks, score and evaluate. Run it with `make demo TABLE=1`, which makes .venv
# first.
#
#   NUM_GROUPS=8000 SEED=1 RANKS=2 scripts/demo_table.sh
. "$(dirname "$0")/demo_common.sh"

num_groups=${NUM_GROUPS:-8000}
config=demo-table/profile/config.yaml

mkdir -p demo-table
rm -rf demo-table/model

run spark-submit jobs/simulate.py --format table --output demo-table/raw --num-groups "$num_groups" --seed "$seed"
run spark-submit jobs/profile.py --table demo-table/raw/log --output demo-table/profile
run spark-submit jobs/preprocess.py --config $config
run horovodrun -np "$ranks" python esmm_spark/train.py --config $config
run spark-submit jobs/score.py --config $config
run spark-submit jobs/evaluate.py --config $config
step "done: demo-table/profile/profile.html says what is in the table, demo-table/report/report.html how good the model is"
