"""The ranks of one training job: how they start, agree, exchange, and are watched."""
