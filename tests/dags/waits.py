"""Two tasks that wait for a file in the care of the triggerer: one goes there from its worker, the other one never was in one. Then a
third one reads."""

import datetime

from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import BaseHook, Variable, dag, task


@dag(schedule="@once", start_date=datetime.datetime(2026, 1, 1), is_paused_upon_creation=False)
def waits():
    file = {"filepath": "go", "deferrable": True, "poke_interval": 1}
    from_worker = FileSensor(task_id="from_worker", **file)
    from_trigger = FileSensor(task_id="from_trigger", start_from_trigger=True, **file)

    @task
    def read():
        if BaseHook.get_connection("story").password != Variable.get("story"):
            raise ValueError("not what was seeded")

    [from_worker, from_trigger] >> read()


waits()
