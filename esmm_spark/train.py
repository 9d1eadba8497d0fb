"""Trains ESMM: `horovodrun -np N python esmm_spark/train.py --config conf/X.yaml [key=value ...]`, or one rank without horovodrun."""
