"""acklog.py write URI LOG SECONDS | acklog.py check URI LOG

write: numbered patterns at random sectors of an NBD export, many in flight, never two on one sector; LOG gets a line
"issued N SECTOR COUNT" before each request and "acked N" after its answer. It ends when the server is gone (that is what
it is for) or after SECONDS, with exit code 0 either way.

check: every sector of the export is one whole pattern or zeros, and none is older than the newest acknowledged write to it.
"""
import random
import struct
import sys
import time

import nbd

SECTOR = 4096
UNIT = 16  # number and sector, repeated over the sector: a torn one has two kinds
DEPTH = 24
SPAN = 4096  # sectors in use: few enough that they are overwritten many times


def pattern(number, sector):
    return struct.pack(">QQ", number, sector) * (SECTOR // UNIT)


def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


def write(uri, name, seconds):
    h = connect(uri)
    span = min(SPAN, h.get_size() // SECTOR)
    flight = {}
    busy = set()
    number = 0
    acked = 0
    end = time.monotonic() + seconds
    with open(name, "w", buffering=1) as log:
        try:
            while time.monotonic() < end:
                while len(flight) < DEPTH:
                    count = random.choice((1, 1, 1, 2, 8))
                    first = random.randrange(span - count)
                    if any(s in busy for s in range(first, first + count)):
                        continue
                    number += 1
                    data = b"".join(pattern(number, s) for s in range(first, first + count))
                    log.write(f"issued {number} {first} {count}\n")
                    buf = nbd.Buffer.from_bytearray(bytearray(data))
                    flight[h.aio_pwrite(buf, first * SECTOR)] = (number, first, count, buf)
                    busy.update(range(first, first + count))
                h.poll(1000)
                for cookie in list(flight):
                    if h.aio_command_completed(cookie):
                        n, first, count, _ = flight.pop(cookie)
                        busy.difference_update(range(first, first + count))
                        log.write(f"acked {n}\n")
                        acked += 1
        except nbd.Error as e:
            print(f"   writing ended: {e.string}")
    print(f"   {number} writes issued, {acked} acknowledged")
    return 0


def check(uri, name):
    issued = {}  # number: (first, count)
    acked = set()
    with open(name) as log:
        for line in log:
            word = line.split()
            if word[0] == "issued":
                issued[int(word[1])] = (int(word[2]), int(word[3]))
            else:
                acked.add(int(word[1]))
    newest = {}  # sector: newest acknowledged number
    for n in sorted(acked):
        first, count = issued[n]
        for s in range(first, first + count):
            newest[s] = n
    h = connect(uri)
    span = min(SPAN, h.get_size() // SECTOR)
    later = bad = 0
    for base in range(0, span, 256):
        count = min(256, span - base)
        data = bytes(h.pread(count * SECTOR, base * SECTOR))
        for i in range(count):
            s, sector = base + i, data[i * SECTOR:(i + 1) * SECTOR]
            n, where = struct.unpack(">QQ", sector[:UNIT])
            want = newest.get(s, 0)
            if sector != (pattern(n, s) if n else bytes(SECTOR)):
                print(f"sector {s} is torn: it starts with number {n} of sector {where}", file=sys.stderr)
                bad += 1
            elif n and (n not in issued or not issued[n][0] <= s < sum(issued[n])):
                print(f"sector {s} has number {n}, which was never written there", file=sys.stderr)
                bad += 1
            elif n < want:
                print(f"sector {s} has number {n}, but {want} was acknowledged", file=sys.stderr)
                bad += 1
            elif n > want:
                later += 1
    print(f"   {span} sectors, {len(newest)} written, {len(acked)} acknowledged writes: {bad} wrong; "
          f"{later} have a write that was in flight")
    if not acked:
        print("nothing was acknowledged: this proves nothing", file=sys.stderr)
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1] == "write":
        sys.exit(write(sys.argv[2], sys.argv[3], float(sys.argv[4])))
    sys.exit(check(sys.argv[2], sys.argv[3]))
