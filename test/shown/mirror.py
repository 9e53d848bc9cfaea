"""mirror.py QMP SOCKET EXPORT WRITER... - moves a disk of a qemu-storage-daemon to an NBD export while WRITER uses it.

QMP is the daemon's monitor (a unix socket), the disk its node "disk". The block job is throttled until WRITER has ended with 0; the daemon then goes
over to the export. Prints how much was copied. Fails when the job, or the writer, does.
"""
import json
import socket
import subprocess
import sys

qmp, nbd, export, writer = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(300)
monitor.connect(qmp)
lines = monitor.makefile("rw")
events = []


def hear():
    line = lines.readline()
    if not line:
        sys.exit("the daemon is gone")
    said = json.loads(line)
    if "event" in said:
        events.append(said)
    return said


def ask(command, **arguments):
    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        said = hear()
        if "error" in said:
            sys.exit("%s: %s" % (command, said["error"]["desc"]))
        if "return" in said:
            return said["return"]


def await_event(name, **with_):
    while True:
        for said in events:
            if said["event"] == name and all(said["data"].get(k) == v for k, v in with_.items()):
                return said["data"]
        hear()


hear()  # the greeting
ask("qmp_capabilities")
ask("blockdev-add", driver="nbd", **{"node-name": "export", "server": {"type": "unix", "path": nbd}, "export": export})
running = subprocess.Popen(writer, stdout=subprocess.DEVNULL)
ask("blockdev-mirror", **{"job-id": "move", "device": "disk", "target": "export", "sync": "full", "speed": 16 << 20, "auto-dismiss": False})
if running.wait(timeout=300) != 0:
    sys.exit("the writer failed")
job = ask("query-jobs")[0]
if job["status"] != "running":
    sys.exit("the job is %s before the writer has ended: this proves nothing" % job["status"])
print("the writer has ended with %d of %d MiB copied" % (job["current-progress"] >> 20, job["total-progress"] >> 20))
ask("block-job-set-speed", device="move", speed=0)
await_event("BLOCK_JOB_READY", device="move")
ask("job-complete", id="move")
await_event("JOB_STATUS_CHANGE", id="move", status="concluded")
job = ask("query-jobs")[0]
if "error" in job:
    sys.exit("the job: %s" % job["error"])
ask("job-dismiss", id="move")
print("%d MiB copied, and the disk has moved" % (job["current-progress"] >> 20))
