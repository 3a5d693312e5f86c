"""A task that ends when a file is there."""

import pathlib
import time

from airflow.sdk import dag, task


@dag(schedule=None, is_paused_upon_creation=False)
def long():
    @task
    def work():
        print("the long task has begun", flush=True)
        deadline = time.monotonic() + 120
        while not pathlib.Path("/tmp/go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the file did not come")
            time.sleep(0.1)

    work()


long()
