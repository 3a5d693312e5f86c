"""A DAG of one task, to see the stack run. For your own: `DAGS_DIR=/my/dags docker/up`."""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task


@dag(schedule=None, is_paused_upon_creation=False)
def hello():
    @task
    def greet():
        print("hello from a task")

    greet()


hello()
