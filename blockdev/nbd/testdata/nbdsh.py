"""nbdsh.py URI - the errors that only libnbd without its own checks lets through, and what of libnbd no program uses. Everything on the
export, which must be of 16 MiB or more, is overwritten.
"""
import errno, sys, nbd

h = nbd.NBD()
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(sys.argv[1])
h.set_strict_mode(0)
size = h.get_size()
def fails(with_, call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        assert e.errnum == with_, (e, with_)
        return
    raise AssertionError("it worked")
fails(errno.EINVAL, h.pread, 2, size - 1)
fails(errno.ENOSPC, h.pwrite, b"ab", size - 1)
fails(errno.ENOSPC, h.zero, 2, size - 1)
fails(errno.EINVAL, h.trim, 2, size - 1)
fails(errno.EINVAL, h.cache, 2, size - 1)
fails(errno.EINVAL, h.block_status, 2, size - 1, lambda *a: 0)
h.cache(size, 0)
h.pwrite(b"x" * 1000, 77, nbd.CMD_FLAG_FUA)
h.zero(500, 100, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
assert h.pread(1000, 77) == b"x" * 23 + bytes(500) + b"x" * 477
cookies = [h.aio_pread(nbd.Buffer(4096), 4096 * i) for i in range(200)]
while h.aio_in_flight() > 0:
    h.poll(-1)
assert all(h.aio_command_completed(c) for c in cookies)
h.flush()
assert h.get_structured_replies_negotiated() and h.can_df() and h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.zero(size, 0)
h.pwrite(b"y" * 100000, 4 << 20)
def extents(count, offset, flags=0):
    got = []
    h.block_status(count, offset, lambda context, at, entries, error: got.extend(entries), flags)
    return got
data, hole = 0, nbd.STATE_HOLE | nbd.STATE_ZERO
assert extents(size, 0) == [4 << 20, hole, 102400, data, size - (4 << 20) - 102400, hole], extents(size, 0)
assert extents(size - 5, 5, nbd.CMD_FLAG_REQ_ONE) == [(4 << 20) - 5, hole]
chunks = []
got = h.pread_structured(1 << 20, (4 << 20) - 65536, lambda buf, at, kind, error: chunks.append((at, len(buf), kind)))
assert got == bytes(65536) + b"y" * 100000 + bytes((1 << 20) - 165536)
assert sorted(chunks) == [((4 << 20) - 65536, 65536, nbd.READ_HOLE), (4 << 20, 102400, nbd.READ_DATA),
    ((4 << 20) + 102400, (1 << 20) - 167936, nbd.READ_HOLE)], chunks
chunks.clear()
h.pread_structured(1 << 20, 0, lambda buf, at, kind, error: chunks.append((at, len(buf), kind)), nbd.CMD_FLAG_DF)
assert chunks == [(0, 1 << 20, nbd.READ_DATA)], chunks
h.shutdown()
