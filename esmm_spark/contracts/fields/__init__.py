"""The fields of a feature spec, and what is fitted for them on a training split."""
