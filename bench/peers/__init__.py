"""What users would pick instead of esmm_spark. The scripts here run in the venv of requirements.txt."""
