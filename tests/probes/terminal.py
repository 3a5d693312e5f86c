# Runs a command at a terminal of its own: `terminal.py STEPS COMMAND...`, where STEPS is JSON: pairs of what to wait for and what to
# type then. Prints all that the terminal showed, and ends with the command's status.
import json, os, pty, select, sys, time

pid, terminal = pty.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
seen, deadline = b"", time.monotonic() + 25
for wanted, typed in json.loads(sys.argv[1]) + [[None, ""]]:
    while wanted is None or wanted.encode() not in seen:
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"no {wanted!r} in {seen!r}")
        try:
            part = os.read(terminal, 4096)
        except OSError:
            part = b""
        if not part:
            break
        seen += part
    if wanted is not None:
        if wanted.encode() not in seen:
            sys.exit(f"no {wanted!r} before the end of {seen!r}")
        seen = seen.split(wanted.encode(), 1)[1]
        print(repr(wanted), flush=True)
        os.write(terminal, typed.encode())
print(seen.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
