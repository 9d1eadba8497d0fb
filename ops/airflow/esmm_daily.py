"""A day of event logs, every day, as Airflow's DAG: each task is a step of ops/daily.sh.

    logs -> preprocess -> train -> score -> evaluate -> release

ops/daily.sh says what the steps do and which variables of the environment of Airflow's workers they take;
beside them:

    ESMM_SPARK_HOME    the checkout with its .venv; by default the one that this file, or what a link to it
                       leads to, lies in
    ESMM_SPARK_RETRIES how often a task is tried again, five minutes later: 2
    ESMM_SPARK_ALERT   a shell command for a task that has failed for good: a line about it is on stdin

A DAG run is a day in UTC, and begins when the day has ended. Days that were missed are caught up, one after
the other: histories and models of a day need those before.
"""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.bash import BashSensor
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

HOME = os.environ.get("ESMM_SPARK_HOME") or str(Path(__file__).resolve().parent.parent.parent)
if "ESMM_SPARK_START" not in os.environ:
    raise ValueError("set ESMM_SPARK_START to the first day that is built, like 2026-11-20")
START = os.environ["ESMM_SPARK_START"]
LOGS = [folder for folder in os.environ.get("ESMM_SPARK_LOGS", "").split(":") if folder]
RETRIES = int(os.environ.get("ESMM_SPARK_RETRIES", "2"))
# How ops/daily.sh ends where there is nothing to train on yet.
TOO_EARLY = 99


def alert(context: dict[str, Any]) -> None:
    """Tells ESMM_SPARK_ALERT, else the task's log, of a task that has failed."""
    task = context["task_instance"]
    line = f"esmm_daily: {task.task_id} of {context['ds']} failed at try {task.try_number}\n"
    command = os.environ.get("ESMM_SPARK_ALERT", "cat")
    subprocess.run(command, shell=True, input=line, text=True, check=True, timeout=60)


def step(name: str, **options: Any) -> BashOperator:
    """Returns the task that runs a step."""
    command = f'"{HOME}/ops/daily.sh" {{{{ ds }}}} {name}'
    return BashOperator(task_id=name, bash_command=command, skip_on_exit_code=TOO_EARLY, **options)


with DAG(
    "esmm_daily",
    description="Preprocess, train, score, evaluate and release a day",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime.fromisoformat(START).replace(tzinfo=UTC),
    catchup=True,
    max_active_runs=1,
    default_args={
        "retries": RETRIES,
        "retry_delay": timedelta(minutes=5),
        "on_failure_callback": alert,
        "append_env": True,
    },
) as dag:
    logs = [
        BashSensor(
            task_id=f"logs_{number}",
            bash_command=f'test -e "{folder}/ds={{{{ ds }}}}/_SUCCESS"',
            # A worker's slot is free between two looks.
            mode="reschedule",
            poke_interval=300,
            timeout=12 * 3600,
        )
        for number, folder in enumerate(LOGS)
    ]
    preprocess = step("preprocess")
    # What isn't good enough isn't better at the next try.
    logs >> preprocess >> step("train") >> step("score") >> step("evaluate", retries=0) >> step("release")
