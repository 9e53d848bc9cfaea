# stopped.py OLD NEW PID COMMAND... - a client of the server OLD, process PID, which is stopped for 30 s with requests on their way to it, while
# COMMAND starts another server of the same device, NEW, which is written. When OLD goes on it must change nothing and read nothing old.
import os, signal, subprocess, sys, threading, time
import nbd

SECTOR, SECTORS = 4096, 4096
old, new, pid, command = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]


def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


def content(sector, generation):
    return (b"%d %d." % (sector, generation)).ljust(16) * (SECTOR // 16)


def generation_of(sector, data):
    for g in range(10):
        if data == content(sector, g):
            return g
    sys.exit("sector %d is torn" % sector)


a = connect(old)
for s in range(SECTORS):
    a.pwrite(content(s, 1), s * SECTOR)
a.flush()
for s in range(SECTORS):
    a.pread(SECTOR, s * SECTOR)  # which fills its cache
print("   %d sectors written and read through the first server" % SECTORS)

os.kill(pid, signal.SIGSTOP)
stopped = time.time()
results = []


def late(f):
    try:
        results.append(f())
    except nbd.Error as e:
        results.append(e.errno)


queued = threading.Thread(target=late, args=(lambda: a.pwrite(content(0, 3), 0),))
queued.start()  # its bytes are in the socket before the server goes on
time.sleep(1)

server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
line = server.stdout.readline()
if not line.startswith("ready"):
    sys.exit("the second server is not ready: %r" % line)
print("   the second server was ready %.1f s after the first was stopped" % (time.time() - stopped))
b = connect(new)
for s in range(SECTORS):
    if generation_of(s, b.pread(SECTOR, s * SECTOR)) != 1:
        sys.exit("sector %d is lost" % s)
    if s % 2 == 0:
        b.pwrite(content(s, 2), s * SECTOR)
b.flush()
time.sleep(max(0, 30 - (time.time() - stopped)))
os.kill(pid, signal.SIGCONT)
print("   %d sectors written through it; the first goes on after %.1f s" % (SECTORS // 2, time.time() - stopped))

queued.join()
if results[0] is None:
    sys.exit("the write that waited in the stopped server succeeded")
print("   the write that waited in it: %s" % results[0])
read = failed = 0
until = time.time() + 3
s = 0
while time.time() < until:
    s = (s + 7) % SECTORS
    try:
        if generation_of(s, a.pread(SECTOR, s * SECTOR)) != (2 if s % 2 == 0 else 1):
            sys.exit("the first server read an old sector %d" % s)
        read += 1
    except nbd.Error:
        failed += 1
        time.sleep(0.001)
print("   %d reads of it said what is written now, %d failed" % (read, failed))
try:
    a.pwrite(content(2, 4), 2 * SECTOR)
    sys.exit("a write through the first server succeeded")
except nbd.Error as e:
    print("   a new write through it: %s" % e.errno)
try:
    a.flush()
    sys.exit("a flush of the first server succeeded")
except nbd.Error as e:
    print("   a flush of it: %s" % e.errno)
for s in range(SECTORS):
    if generation_of(s, b.pread(SECTOR, s * SECTOR)) != (2 if s % 2 == 0 else 1):
        sys.exit("sector %d was changed" % s)
print("   all %d sectors are what the second server wrote or found" % SECTORS)
b.shutdown()
server.terminate()
if server.wait(20) != 0:
    sys.exit("the second server ended with %d" % server.returncode)
