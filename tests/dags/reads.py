"""Two DAGs that read connections and variables twice a second, and write a variable; each of their runs follows on the one before. What
they find is compared with `/readings/expected`, and noted in `/readings/notes`. A task ends early when the worker is about to be
stopped, in whose container it is: `/readings/end-HOSTNAME` says so."""

import datetime
import json
import pathlib
import socket
import time

try:
    from airflow.sdk import BaseHook, Variable, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.hooks.base import BaseHook
    from airflow.models import Variable

READINGS = pathlib.Path("/readings")


def look(side, number):
    expected = json.loads((READINGS / "expected").read_text())
    written = f"{socket.gethostname()} {number}"
    Variable.set(f"written_{side}", written)
    connections = {name: BaseHook.get_connection(name).password for name in expected}
    variables = {name: Variable.get(name) for name in expected}
    if not connections == variables == expected or Variable.get(f"written_{side}") != written:
        raise ValueError("not what was written")
    return len(expected)


def reads(side):
    @dag(
        f"reads_{side}",
        schedule="@continuous",
        max_active_runs=1,
        start_date=datetime.datetime(2026, 1, 1),
        is_paused_upon_creation=False,
    )
    def reading():
        @task(retries=0)
        def look_again_and_again():
            for number in range(60):
                try:
                    note = f"right {look(side, number)}"
                except Exception as problem:
                    note = f"wrong {problem!r}"
                with open(READINGS / "notes", "a") as notes:
                    notes.write(f"task {side} {note}\n")
                if note.startswith("wrong"):
                    raise RuntimeError(note)
                if (READINGS / f"end-{socket.gethostname()}").exists():
                    break
                time.sleep(0.5)

        look_again_and_again()

    return reading()


left, right = reads("left"), reads("right")
