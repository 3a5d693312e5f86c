# Makes this many orphans that end at once, and says how many zombies there are when all of them have ended and there will be no
# fewer. Whoever still runs may yet become one. Called with `-I -S`: what is not loaded need not be copied ten thousand times.
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
    # Those of the first process alone: a look at all processes takes longer than all of this. Its own child may be ourselves.
    for name in open("/proc/1/task/1/children").read().split():
        if name == str(os.getpid()):
            continue
        try:
            states.append(open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[0])
        except OSError:
            continue
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
