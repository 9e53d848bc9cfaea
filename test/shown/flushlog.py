"""flushlog.py write URI LOG SECONDS | flushlog.py check URI LOG | flushlog.py fails URI

write: as acklog.py, with a FLUSH now and then, but none in the last second; LOG also gets "flushing N" before each and "flushed N" after its
answer, N being the number of the last write that was acknowledged before. It ends with 0 when the server is gone or fails, or after SECONDS.

check: every sector is one whole pattern or zeros, and none is older than the newest write to it that was acknowledged before a FLUSH that was
answered. It says how many acknowledged writes are gone that were not flushed.

fails: negotiation succeeds and says a size; a read, a write, a flush, a trim and a write with FUA each fail with EIO.
"""
import random
import struct
import sys
import time

import nbd

from acklog import DEPTH, SECTOR, SPAN, UNIT, connect, pattern


def write(uri, name, seconds):
    h = connect(uri)
    span = min(SPAN, h.get_size() // SECTOR)
    flight = {}
    busy = set()
    acked = set()  # and not yet said to be flushed
    number = flushes = total = 0
    flush = None  # a cookie, and the numbers that it covers
    end = time.monotonic() + seconds
    with open(name, "w", buffering=1) as log:
        try:
            while time.monotonic() < end or flush:
                while len(flight) < DEPTH and time.monotonic() < end:
                    first = random.randrange(span)
                    if first in busy:
                        continue
                    number += 1
                    log.write(f"issued {number} {first} 1\n")
                    buf = nbd.Buffer.from_bytearray(bytearray(pattern(number, first)))
                    flight[h.aio_pwrite(buf, first * SECTOR)] = (number, first, buf)
                    busy.add(first)
                if not flush and acked and random.random() < 0.05 and time.monotonic() < end - 1:
                    flush = (h.aio_flush(), acked)
                    acked = set()
                h.poll(100)
                for cookie in list(flight):
                    if h.aio_command_completed(cookie):
                        n, first, _ = flight.pop(cookie)
                        busy.discard(first)
                        log.write(f"acked {n}\n")
                        acked.add(n)
                        total += 1
                if flush and h.aio_command_completed(flush[0]):
                    log.write("flushed " + " ".join(map(str, sorted(flush[1]))) + "\n")
                    flush = None
                    flushes += 1
        except nbd.Error as e:
            print(f"   writing ended: {e.string}")
    print(f"   {number} writes issued, {total} acknowledged, {flushes} flushes")
    return 0


def check(uri, name):
    issued, acked, newest, flushes = {}, {}, {}, 0  # number: sector; sector: newest acknowledged, and newest flushed
    with open(name) as log:
        for line in log:
            word = line.split()
            if word[0] == "issued":
                issued[int(word[1])] = int(word[2])
            elif word[0] == "acked":
                s = issued[int(word[1])]
                acked[s] = max(acked.get(s, 0), int(word[1]))
            else:
                flushes += 1
                for n in map(int, word[1:]):
                    newest[issued[n]] = max(newest.get(issued[n], 0), n)
    h = connect(uri)
    span = min(SPAN, h.get_size() // SECTOR)
    bad = gone = 0
    for base in range(0, span, 256):
        count = min(256, span - base)
        data = bytes(h.pread(count * SECTOR, base * SECTOR))
        for i in range(count):
            s, sector = base + i, data[i * SECTOR:(i + 1) * SECTOR]
            n, where = struct.unpack(">QQ", sector[:UNIT])
            if sector != (pattern(n, s) if n else bytes(SECTOR)):
                print(f"sector {s} is torn: it starts with number {n} of sector {where}", file=sys.stderr)
                bad += 1
            elif n and issued.get(n) != s:
                print(f"sector {s} has number {n}, which was never written there", file=sys.stderr)
                bad += 1
            elif n < newest.get(s, 0):
                print(f"sector {s} has number {n}, but {newest[s]} was flushed", file=sys.stderr)
                bad += 1
            elif n < acked.get(s, 0):
                gone += 1
    print(f"   {span} sectors, {len(newest)} with a flushed write, {flushes} flushes: {bad} wrong; {gone} acknowledged writes that were not flushed are gone")
    if not newest:
        print("nothing was flushed: this proves nothing", file=sys.stderr)
        return 1
    return 1 if bad else 0


def fails(uri):
    h = connect(uri)
    print(f"   it is there, with {h.get_size()} bytes")
    for what, do in (("read", lambda: h.pread(SECTOR, 0)), ("write", lambda: h.pwrite(bytes(SECTOR), 0)), ("flush", h.flush),
                     ("trim", lambda: h.trim(SECTOR, 0)), ("write with FUA", lambda: h.pwrite(bytes(SECTOR), 0, nbd.CMD_FLAG_FUA))):
        try:
            do()
        except nbd.Error as e:
            if e.errno == "EIO":
                continue
            print(f"a {what} failed with {e.errno}", file=sys.stderr)
            return 1
        print(f"a {what} succeeded", file=sys.stderr)
        return 1
    print("   a read, a write, a flush, a trim and a write with FUA: EIO")
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "write":
        sys.exit(write(sys.argv[2], sys.argv[3], float(sys.argv[4])))
    sys.exit(check(sys.argv[2], sys.argv[3]) if sys.argv[1] == "check" else fails(sys.argv[2]))
