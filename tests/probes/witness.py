"""Reads all connections and variables in the database twice a second, with the key that this container was started with."""

import json
import pathlib
import signal
import sys
import time

from airflow.models import Connection, Variable
from airflow.utils.session import create_session

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
readings = pathlib.Path("/readings")


def look():
    expected = json.loads((readings / "expected").read_text())
    with create_session() as session:
        connections = {each.conn_id: each.get_password() for each in session.query(Connection)}
        variables = {each.key: each.get_val() for each in session.query(Variable)}
    assert None not in connections.values() and None not in variables.values(), "not read"
    # What is being added right now is not expected yet.
    assert expected.items() <= connections.items() and expected.items() <= variables.items(), "not what was written"
    return len(expected)


print("the witness looks", flush=True)
while True:
    try:
        note = f"right {look()}"
    except Exception as problem:
        note = f"wrong {problem!r}"
    with open(readings / "notes", "a") as notes:
        notes.write(f"witness {note}\n")
    time.sleep(0.5)
