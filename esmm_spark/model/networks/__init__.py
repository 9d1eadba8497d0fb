"""The networks: what turns the pooled fields of an impression and its context into logits."""
