"""rude.py PORT COUNT SECONDS KIND - connections to an NBD server on 127.0.0.1 that go nowhere.

KIND is silent (say nothing), half (half of an option), or tls (half of a TLS handshake). COUNT connections are opened, as fast as they can be,
and kept for SECONDS, or until the server closes them. Prints what became of them.
"""
import selectors
import socket
import struct
import sys
import time

port, count, seconds, kind = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
GREETING, REPLY = 18, 20
FLAGS = struct.pack(">I", 3)
STARTTLS = b"IHAVEOPT" + struct.pack(">II", 5, 0)
HALF = b"IHAVEOPT" + struct.pack(">II", 7, 60000) + b"begun"
HELLO = b"\x16\x03\x01\x40\x00" + b"begun"


class Rude:
    """One connection: what it has received decides what it says."""

    def __init__(self):
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.got = 0
        self.said = 0

    def heard(self):
        data = self.sock.recv(4096)
        if not data:
            return False
        self.got += len(data)
        if kind == "half" and self.said == 0 and self.got >= GREETING:
            self.sock.send(FLAGS + HALF)
            self.said = 1
        if kind == "tls" and self.said == 0 and self.got >= GREETING:
            self.sock.send(FLAGS + STARTTLS)
            self.said = 1
        if kind == "tls" and self.said == 1 and self.got >= GREETING + REPLY:
            self.sock.send(HELLO)
            self.said = 2
        return True


poll = selectors.DefaultSelector()
opened = greeted = spoke = closed = 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(min(500, count - opened)):
        r = Rude()
        r.sock.connect_ex(("127.0.0.1", port))
        poll.register(r.sock, selectors.EVENT_READ, r)
        opened += 1
    for key, _ in poll.select(timeout=0 if opened < count else 0.1):
        r = key.data
        try:
            alive = r.heard()
        except OSError:
            alive = False
        if not alive:
            poll.unregister(r.sock)
            r.sock.close()
            closed += 1
            greeted += r.got >= GREETING
            spoke += r.said > 0
for key in list(poll.get_map().values()):
    greeted += key.data.got >= GREETING
    spoke += key.data.said > 0
print(f"{opened} connections, {greeted} were greeted, {spoke} went on, {closed} were closed by the server")
