"""Answers questions to an Airflow's Python, each in a process of its own that has not to import what Airflow needs.

Airflow itself is imported by each of them: no setting, key or connection of one question is there in the next one. Who asks connects
to the socket that the first argument names, sends JSON and ends its side. The answer is JSON with status, stdout and stderr. With the
second argument `own` the folder of the socket is removed at SIGTERM.
"""
import atexit, gc, importlib, json, os, shutil, signal, socket, sys, tempfile, time

DEADLINE = 300


def imported_by_airflow():
    """The names of what Airflow imports that is not Airflow's. Another process finds them out."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = 1
        with tempfile.TemporaryDirectory() as home:
            os.environ["AIRFLOW_HOME"] = home
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            # Not all of these are in every Airflow.
            for name in ["airflow.models", "airflow.models.trigger", "airflow.utils.session", "airflow.cli.cli_parser",
                         "airflow.jobs.triggerer_job_runner", "airflow.cli.commands.connection_command", "psycopg2", "MySQLdb",
                         "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.sqlite"]:
                try:
                    importlib.import_module(name)
                except ImportError:
                    pass
            from airflow.models import Connection, Variable, Pool
            names = [name for name in list(sys.modules) if name != "__main__" and "airflow" not in name.lower()]
            os.write(writer, " ".join(names).encode())
            status = 0
        os._exit(status)
    os.close(writer)
    names = open(reader).read().split()
    assert os.wait()[1] == 0, "Airflow cannot be imported"
    return names


def remove(*_):
    shutil.rmtree(os.path.dirname(sys.argv[1]), ignore_errors=True)
    os._exit(0)


def serve(path):
    """Gives back a question in each process that is to answer one."""
    for name in imported_by_airflow():
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    assert not any(name.split(".")[0] == "airflow" for name in sys.modules), "Airflow is imported before the question"
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(64)
    os.rename(path + ".new", path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return attend(connection)
        connection.close()


def attend(connection):
    """Starts the process of a question, and answers with what it did."""
    with connection.makefile("rb") as stream:
        question = json.loads(stream.read().decode())
    files = [tempfile.TemporaryFile() for _ in range(3)]
    files[0].write(question["stdin"].encode())
    files[0].seek(0)
    child = os.fork()
    if child == 0:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
            file.close()
        connection.close()
        return question
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(DEADLINE)
    status = os.waitpid(child, 0)[1]
    answer = {"status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)}
    for name, file in zip(["stdout", "stderr"], files[1:]):
        file.seek(0)
        answer[name] = file.read().decode(errors="replace")
    connection.sendall(json.dumps(answer).encode())
    os._exit(0)


if sys.argv[2:] == ["own"]:
    signal.signal(signal.SIGTERM, remove)
_question = serve(sys.argv[1])
os.environ.clear()
os.environ.update(_question["environment"])
os.chdir(_question["folder"])
# The program may put another stream in its place.
atexit.register(sys.stdout.flush)
time.tzset()
sys.argv[:] = ["-c"] + _question["arguments"]
# As with `python -c`: the program is the main module, whose end is that of the process.
_main = type(sys)("__main__")
_main.__builtins__ = __builtins__
sys.modules["__main__"] = _main
exec(compile(_question["program"], "<string>", "exec"), _main.__dict__)
