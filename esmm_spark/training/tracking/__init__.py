"""Reports of finished trainings to an experiment tracker."""
