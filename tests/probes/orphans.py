# Makes this many orphans that end at once, and says how many zombies there are when there will be no fewer.
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

def zombies():
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += open(f"/proc/{name}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            pass
    return found

deadline = time.monotonic() + (20 if len(sys.argv) == 2 else float(sys.argv[2]))
while zombies() and time.monotonic() < deadline:
    time.sleep(0.005)
print("zombies", zombies())
