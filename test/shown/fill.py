# fill.py URI STATE - fills a device until it says ENOSPC, reads, trims every other MiB, and demands that writes work again and that
# every byte is what it should be; what that is stands in the file STATE afterwards. fill.py URI STATE check - reads it all again.
import errno, hashlib, json, sys, time
import nbd

MIB = 1 << 20
h = nbd.NBD()
h.connect_uri(sys.argv[1])
size = h.get_size()


def pattern(mib, generation):
    return hashlib.shake_128(b"%d %d" % (mib, generation)).digest(4096) * 256


def write(mib, generation):
    """None, or the error's number."""
    try:
        h.pwrite(pattern(mib, generation), mib * MIB)
        h.flush()
    except nbd.Error as e:
        return e.errnum
    return None


def check(want):
    for mib, generation in want.items():
        expect = bytes(MIB) if generation is None else pattern(mib, generation)
        if h.pread(MIB, mib * MIB) != expect:
            sys.exit("MiB %d is not what it should be" % mib)


def fill(mibs, generation, want):
    """Writes until there is no space; returns how many were written. What failed may be old or new: it is left out of want."""
    n = 0
    for mib in mibs:
        e = write(mib, generation)
        if e is not None:
            want.pop(mib, None)
            if e != errno.ENOSPC:
                sys.exit("write of MiB %d: %s, not ENOSPC" % (mib, errno.errorcode.get(e, e)))
            return n
        want[mib] = generation
        n += 1
    sys.exit("the disks were not full after %d MiB" % n)


if len(sys.argv) > 3:
    with open(sys.argv[2]) as f:
        want = {int(mib): generation for mib, generation in json.load(f).items()}
    check(want)
    print("   all %d MiB read back" % len(want))
    sys.exit()
want = {}
n = fill(range(size // MIB), 1, want)
print("   ENOSPC after %d MiB" % n)
for again in range(3):
    if write(n, 1) != errno.ENOSPC:
        sys.exit("a write of what there is no space for did not say ENOSPC")
check(want)
print("   all %d MiB read back while the disks are full" % len(want))

for mib in range(0, n, 2):
    h.trim(MIB, mib * MIB)
    want[mib] = None
print("   %d MiB trimmed while the disks are full" % (n - n // 2))
began = time.time()
while write(0, 2) is not None:
    if time.time() - began > 60:
        sys.exit("no write works 60 s after a half was trimmed")
    time.sleep(0.1)
want[0] = 2
print("   the first write worked %.1f s later, without a restart" % (time.time() - began))
some = list(range(2, n, 2))[: n // 4]
for mib in some:
    began = time.time()
    while (e := write(mib, 2)) is not None:
        if e != errno.ENOSPC or time.time() - began > 60:
            sys.exit("write of MiB %d after the TRIM: %s" % (mib, errno.errorcode.get(e, e)))
        time.sleep(0.1)
    want[mib] = 2
check(want)
print("   %d MiB written again, all read back" % (1 + len(some)))
with open(sys.argv[2], "w") as f:
    json.dump(want, f)
h.shutdown()
