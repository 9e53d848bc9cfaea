"""steady.py URI SECONDS [LONGEST]: writes and reads back 4 KiB at a time; fails on an error, on other bytes, and if an operation takes more than LONGEST seconds."""

import sys
import time

import nbd

h = nbd.NBD()
h.connect_uri(sys.argv[1])
end = time.monotonic() + float(sys.argv[2])
most = float(sys.argv[3]) if len(sys.argv) > 3 else 30
count, longest = 0, {"write": 0.0, "read": 0.0}
while time.monotonic() < end:
    data = count.to_bytes(8, "big") * 512
    at = count % 4096 * 4096
    for what in longest:
        began = time.monotonic()
        if what == "write":
            h.pwrite(data, at)
        elif h.pread(4096, at) != data:
            sys.exit(f"other bytes at {at}")
        longest[what] = max(longest[what], time.monotonic() - began)
    count += 1
h.flush()
h.shutdown()
print(f"{count} writes and reads, no error; the longest took {longest['write']:.2f} and {longest['read']:.2f} s")
if max(longest.values()) > most:
    sys.exit(f"that is more than {most:.0f} s")
