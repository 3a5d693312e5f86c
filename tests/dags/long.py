"""A task that takes 30 seconds."""

import time

from airflow.sdk import dag, task


@dag(schedule=None, is_paused_upon_creation=False)
def long():
    @task
    def work():
        print("the long task has begun")
        time.sleep(30)

    work()


long()
