#!/usr/bin/env bash
# The whole pipeline on simulated logs, below ./demo: simulate, preprocess, train on 2 ranks, score, evaluate, and the
# same with a click-only BASE model beside it. Run it with `make demo`, which makes .venv first.
#
#   NUM_GROUPS=60000 SEED=1 RANKS=2 scripts/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. .venv/bin/activate
# Local mode, with 4 GB for Spark.
export SPARK_CONF_DIR=$PWD/conf/spark

num_groups=${NUM_GROUPS:-60000}
seed=${SEED:-1}
ranks=${RANKS:-2}
started=$SECONDS

step() { printf '\n\033[1m[%3ds] %s\033[0m\n' $((SECONDS - started)) "$*"; }

mkdir -p demo
rm -rf demo/model demo/base-model

step "spark-submit jobs/simulate.py --output demo/raw --num-groups $num_groups --seed $seed --preset demo"
spark-submit jobs/simulate.py --output demo/raw --num-groups "$num_groups" --seed "$seed" --preset demo

step "spark-submit jobs/preprocess.py --config conf/demo.yaml"
spark-submit jobs/preprocess.py --config conf/demo.yaml

step "horovodrun -np $ranks python esmm_spark/train.py --config conf/demo.yaml"
horovodrun -np "$ranks" python esmm_spark/train.py --config conf/demo.yaml

step "the same for BASE, a CVR model trained on clicked impressions only: model.objective=base"
base=(model.objective=base paths.model=demo/base-model paths.scores=demo/base-scores)
horovodrun -np "$ranks" python esmm_spark/train.py --config conf/demo.yaml "${base[@]}"

step "spark-submit jobs/score.py --config conf/demo.yaml"
spark-submit jobs/score.py --config conf/demo.yaml
spark-submit jobs/score.py --config conf/demo.yaml "${base[@]}"

step "spark-submit jobs/evaluate.py --config conf/demo.yaml"
spark-submit jobs/evaluate.py --config conf/demo.yaml
step "done"
