"""What a command takes; for the scripts beside it."""
import subprocess, time


def run(command, **more):
    """Seconds, the most memory in MB, and what it said. It must succeed.

    The memory is what the kernel has noted of the process itself, looked at until its end: what `getrusage` has of a child is never less
    than what Python had when it made the child.
    """
    begin, most = time.monotonic(), 0
    # It says little: a pipe holds that.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status") as status:
            most = max([most, *(int(line.split()[1]) for line in status if line.startswith("VmHWM"))])
        time.sleep(0.001)
    took, said = time.monotonic() - begin, process.communicate()[0]
    assert process.returncode == 0, said
    return took, most / 1024, said
