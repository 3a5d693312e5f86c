# Makes this many orphans that end at once, and says how many zombies there are when all of them have ended and there will be no
# fewer. Whoever still runs may yet become one.
import os, sys, time

count = int(sys.argv[1])
for _ in range(count // 100):
    parent = os.fork()
    if not parent:
        for _ in range(100):
            if not os.fork():
                os._exit(0)
        os._exit(0)
    os.waitpid(parent, 0)

def others():
    states = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        # The first process and its own child are the init and ourselves.
        if name not in ("1", str(os.getpid())) and parent == "1":
            states.append(state)
    return states

started = time.monotonic()
patience = 20 if len(sys.argv) == 2 else float(sys.argv[2])
while True:
    left = others()
    passed = time.monotonic() - started
    if not left or passed > 60 or passed > patience and set(left) == {"Z"}:
        break
    time.sleep(0.005)
print("zombies", left.count("Z"))
