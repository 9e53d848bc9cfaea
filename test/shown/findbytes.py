# findbytes - looks for byte strings in files, directories and the memory of processes. It prints one line for each place and needle: how often it is there.
#
#   findbytes.py NEEDLE[=HEX]... -- FILE|DIRECTORY|pid:PID...
import os, re, sys

split = sys.argv.index("--")
needles = {}
for arg in sys.argv[1:split]:
    name, _, value = arg.partition("=")
    needles[name] = bytes.fromhex(value) if value else name.encode()
longest = max(len(n) for n in needles.values())


def chunks(f, end=None):
    """Pieces that overlap by the longest needle, so that none is missed, and what of each is new."""
    kept = b""
    while end is None or f.tell() < end:
        piece = f.read(1 << 22 if end is None else min(1 << 22, end - f.tell()))
        if not piece:
            return
        yield kept + piece, len(kept)
        kept = (kept + piece)[-(longest - 1):]


def count(found, pieces):
    for text, old in pieces:
        for name, needle in needles.items():
            for m in re.finditer(re.escape(needle), text):
                if m.end() > old:
                    found[name] += 1


def memory(pid, found):
    read = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            span, mode, _, _, _, *name = line.split(maxsplit=5)
            if mode[0] != "r" or name and name[0].startswith(("[vvar", "[vsyscall")):
                continue
            first, last = (int(x, 16) for x in span.split("-"))
            at = first
            kept = b""
            while at < last:
                try:
                    mem.seek(at)
                    piece = mem.read(min(1 << 20, last - at))
                except OSError:  # it was unmapped meanwhile, or was never there
                    piece = b""
                if not piece:
                    kept, at = b"", at + (1 << 20)
                    continue
                count(found, [(kept + piece, len(kept))])
                kept = (kept + piece)[-(longest - 1):]
                at += len(piece)
                read += len(piece)
    return read


for place in sys.argv[split + 1:]:
    found = dict.fromkeys(needles, 0)
    read = 0
    if place.startswith("pid:"):
        read = memory(int(place[4:]), found)
    else:
        names = [place] if os.path.isfile(place) else [os.path.join(d, n) for d, _, ns in os.walk(place) for n in ns]
        for name in names:
            if os.path.isfile(name):
                with open(name, "rb") as f:
                    count(found, chunks(f))
                    read += f.tell()
    for name in needles:
        print(place, name, found[name], read)
