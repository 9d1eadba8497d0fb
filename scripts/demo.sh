#!/usr/bin/env bash
# The whole pipeline on simulated logs, below ./demo: simulate, preprocess, train on 2 ranks, score, evaluate, and the
# same with a click-only BASE model beside it. Run it with `make demo`, which makes .venv first.
#
#   NUM_GROUPS=60000 SEED=1 RANKS=2 scripts/demo.sh
. "$(dirname "$0")/demo_common.sh"

num_groups=${NUM_GROUPS:-60000}

mkdir -p demo
rm -rf demo/model demo/base-model

run spark-submit jobs/simulate.py --output demo/raw --num-groups "$num_groups" --seed "$seed" --preset demo

run spark-submit jobs/preprocess.py --config conf/demo.yaml

run horovodrun -np "$ranks" python esmm_spark/train.py --config conf/demo.yaml

step "the same for BASE, a CVR model trained on clicked impressions only: model.objective=base"
base=(model.objective=base paths.model=demo/base-model paths.scores=demo/base-scores)
horovodrun -np "$ranks" python esmm_spark/train.py --config conf/demo.yaml "${base[@]}"

run spark-submit jobs/score.py --config conf/demo.yaml
spark-submit jobs/score.py --config conf/demo.yaml "${base[@]}"

run spark-submit jobs/evaluate.py --config conf/demo.yaml
step "done"
