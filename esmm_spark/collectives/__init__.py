"""Collective operations between the ranks of a job: one interface, over Horovod and torch.distributed."""
