"""The stages of the bench, one module each, with `run(workspace) -> StageResult`."""
