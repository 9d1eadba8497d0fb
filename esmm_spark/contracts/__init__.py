"""What two rooms must agree on: errors, config, feature spec, tasks, manifest, schemas and file names."""
