# filled.py - the programs of 7-09-filled: makes, unpacks and looks, by two mounts A and B of one directory. What it is told to demand it demands; the first thing that is not so ends it, with 1.
#   filled.py together A B TAG DIRS  what one closes the other finds, whole: DIRS directories, files opened, and 2/5 as many, listed; and of 2/5 as many names that both make exclusively at once each is one's
#   filled.py past A FILES COMMAND...  what one closes COMMAND PATH prints
#   filled.py unpack DIR RECORD SEED FILES [fsync | dirs] mount PID | service PID | term PID | umount DIR
#                                    unpacks a tree; RECORD says what was answered. mount, service: writes a line to the pipe $NOW at a moment by SEED, when PID is to be killed, and goes on until there is an error, or until half of FILES more are there. dirs: at the end an fsync of each directory. term, umount: right after the last close
#   filled.py check DIR RECORD closed|fsynced   what RECORD says was answered is there: all that was closed, or all that was fsynced, or closed before a name was changed; of the rest each is there whole or not, and only of the newest not; nothing else. What was there once is there
import ctypes, errno, json, os, random, signal, subprocess, sys, threading, time

LATER = 32  # how many files are closed and not sent, at most (MountLaterMax)
LANES = 16  # pairs of programs at once: who asks for what another mount has just made waits for its term


def content(name):
    r = random.Random(name)
    return r.randbytes(r.choice((0, 1, 700, 1000, 5000, 5000, 20000, 65536, 90000)))


def read(path):
    f = os.open(path, os.O_RDONLY)
    try:
        out = b""
        while p := os.read(f, 1 << 20):
            out += p
        return out
    finally:
        os.close(f)


def make(path, flags=os.O_EXCL, sync=False, step=lambda what: None):
    """Makes a file as programs do, in one or more writes; step hears what was answered."""
    data = content(os.path.basename(path))
    step("opened")
    f = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    try:
        pieces = max(1, len(data) // 30000)
        for i in range(pieces):
            p = data[len(data) * i // pieces:len(data) * (i + 1) // pieces]
            while p:
                p = p[os.write(f, p):]
        if sync:
            os.fsync(f)
            step("fsynced")
    except BaseException:
        try:
            os.close(f)
        except OSError:
            pass
        raise
    os.close(f)
    step("closed" if not sync else "fsynced")


def is_whole(path, name, who):
    try:
        got = read(path)
    except OSError as e:
        sys.exit(f"{who}: {path}, which was closed: {e}")
    if got != content(name):
        sys.exit(f"{who}: {path}, which was closed: {len(got)} bytes, which are not the {len(content(name))} that were written")


class Pipe:
    """Lines from one program to another."""

    def __init__(self):
        self.r, self.w = os.pipe()

    def tell(self, what):
        os.write(self.w, (json.dumps(what) + "\n").encode())

    def hear(self):
        line = b""
        while not line.endswith(b"\n"):
            c = os.read(self.r, 1)
            if not c:
                os._exit(3)  # the other has ended, and says why
            line += c
        return json.loads(line)


def maker(top, dirs, out, back, seed):
    r = random.Random(seed)
    for d in dirs:
        os.mkdir(f"{top}/{d}")
        names = [f"{d}-{i}" for i in range(r.randrange(1, 5))]
        if r.randrange(3) == 0:  # the other looks for one before it is there, and while it is made
            out.tell([d, names[-1]])
        for n in names:
            make(f"{top}/{d}/{n}")
        out.tell([d, names])
        back.hear()


def told(top, inp):
    """What is told next; before that, what is looked for in vain."""
    d, names = inp.hear()
    while isinstance(names, str):
        os.path.exists(f"{top}/{d}/{names}")
        os.listdir(f"{top}/{d}")
        d, names = inp.hear()
    return d, names


def opener(top, dirs, inp, back, _):
    for _ in dirs:
        d, names = told(top, inp)
        for n in reversed(names):  # the one that was closed last first
            is_whole(f"{top}/{d}/{n}", n, "opened by the other mount")
        back.tell(len(names))


def lister(top, dirs, inp, back, _):
    for _ in dirs:
        d, names = told(top, inp)
        got = sorted((e.name, e.stat().st_size) for e in os.scandir(f"{top}/{d}"))
        want = sorted((n, len(content(n))) for n in names)
        if got != want:
            sys.exit(f"listed by the other mount: {top}/{d} has {got}, where {want} were closed")
        back.tell(len(names))


def exclusive(path, mark):
    """None, where another has it, and else whether it was ours until it was closed."""
    try:
        f = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    try:
        os.write(f, mark)
        os.fsync(f)
        return True
    except OSError as e:
        if e.errno != errno.EIO:
            raise
        return False
    finally:
        try:
            os.close(f)
        except OSError:
            pass


def first(top, dirs, out, back, seed):
    r = random.Random(seed)
    for i, d in enumerate(dirs):
        os.mkdir(f"{top}/{d}")
        make(f"{top}/{d}/{d}-beside")
        out.tell(d)
        if i % 2:
            time.sleep(r.choice((0.0002, 0.001, 0.003, 0.3)) * r.random())
        mine = exclusive(f"{top}/{d}/one", b"A")
        theirs = back.hear()
        if [mine, theirs].count(True) != 1:
            sys.exit(f"exclusive: {top}/{d}/one: A was told {mine}, B {theirs}: not one has it")
        want = b"A" if mine else b"B"
        if (got := read(f"{top}/{d}/one")) != want:
            sys.exit(f"exclusive: {top}/{d}/one has {got}, where {want} was written by who made it")
        out.tell([mine, theirs, want.decode()])


def second(top, dirs, inp, back, _):
    for _ in dirs:
        d = inp.hear()
        back.tell(exclusive(f"{top}/{d}/one", b"B"))
        told = inp.hear()
        if (got := read(f"{top}/{d}/one")) != told[2].encode():
            sys.exit(f"exclusive: {top}/{d}/one has {got} for B, where {told[2]} was written")
        os.write(1, told[2].encode() + b" late"[:5 * (False in told[:2])] + b"\n")


def together(a, b, tag, count):
    count = int(count)
    for what, one, at, other, by, n in (("open", maker, a, opener, b, count), ("list", maker, b, lister, a, count * 2 // 5), ("excl", first, a, second, b, count * 2 // 5)):
        began, name = time.monotonic(), f"{tag}-{what}"
        os.mkdir(f"{at}/{name}")
        notes = os.pipe()
        children = []
        for lane in range(LANES):
            dirs = [f"{name}{i}" for i in range(lane, n, LANES)]
            there, back = Pipe(), Pipe()
            for do, top, args in ((one, at, (there, back)), (other, by, (there, back))):
                if pid := os.fork():
                    children.append(pid)
                    continue
                try:
                    signal.alarm(300)
                    for end in (there.r, back.w) if do is one else (there.w, back.r):
                        os.close(end)
                    os.dup2(notes[1], 1)
                    os.close(notes[0])
                    do(f"{top}/{name}", dirs, *args, f"{name}{lane}")
                    os._exit(0)
                except SystemExit as e:
                    os.write(2, f"{e}\n".encode())
                except BaseException as e:
                    os.write(2, f"{name}: {do.__name__} at {top}: {type(e).__name__}: {e}\n".encode())
                os._exit(1)
            for end in (there.r, there.w, back.r, back.w):
                os.close(end)
        os.close(notes[1])
        with os.fdopen(notes[0]) as f:
            told = f.read().split()
        ended = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in children]
        if any(ended):
            if not any(e == 1 for e in ended):
                print(f"{name}: a program ended with {[e for e in ended if e]}", file=sys.stderr)
            sys.exit(1)
        took = time.monotonic() - began
        if what == "open":
            print(f"{n} directories that A made: each file was there for B when A had closed it ({took:.0f} s)", flush=True)
        elif what == "list":
            print(f"{n} directories that B made: A lists each file that B had closed ({took:.0f} s)", flush=True)
        else:
            if told.count("A") + told.count("B") != n:
                sys.exit(f"{told.count('A') + told.count('B')} of {n} were made")
            print(f"{n} names that both made at once: one has each, A {told.count('A')}, B {told.count('B')}; {told.count('late')} times the other was told only at fsync ({took:.0f} s)", flush=True)
            if told.count("late") > n // 10 and tag != "paused":
                sys.exit("an open that says what does not hold, that often")


def past(a, files, *command):
    os.mkdir(f"{a}/past")
    for i in range(int(files)):
        os.mkdir(f"{a}/past/p{i}")
        for k in range(3):
            make(f"{a}/past/p{i}/p{i}-{k}")
        name = f"p{i}-{2 - i % 3}"
        got = subprocess.run([*command[:-1], f"{command[-1]}/past/p{i}/{name}"], capture_output=True)
        if got.returncode or got.stdout != content(name):
            sys.exit(f"past all mounts: {name}, which was closed: {len(got.stdout)} bytes of {len(content(name))}; {got.stderr.decode()}")


def unpack(top, record, seed, files, *rest):
    sync, later = rest[0] == "fsync", rest[0] == "dirs"
    how, whom = rest[-2:]
    files, r = int(files), random.Random(seed)
    state, dirs, links, trying, failed = {}, [], [], None, None
    tag = os.path.basename(top)
    at, pause, linking = r.randrange(4, files), r.random() * 0.03, r.random() < 0.5
    now, told = how in ("mount", "service") and open(os.environ["NOW"], "w"), threading.Event()

    def tell():
        time.sleep(pause)
        told.set()
        now.write("now\n")
        now.flush()

    def made(do, path):
        try:
            do(path)
        except OSError as e:  # what is exclusive is EIO where the answer was missing, as the service was killed, and it is there (docs/design/0060, 7)
            if how != "service" or e.errno not in (errno.EIO, errno.EEXIST) or not os.path.lexists(path):
                raise

    end = files
    def more(i):
        nonlocal end
        if how == "mount" or how == "service" and os.path.exists(f"/proc/{whom}"):
            end = i + 1 + files // 2
        return i < end

    try:
        i = full = 0
        while more(i):
            if i == full:
                full += r.choice((3, 8, 40))
                trying = "" if i == 0 else (dirs[-1] + "/" if r.random() < 0.6 and len(dirs[-1]) < 30 else "") + f"d{i}"
                trying = trying.lstrip("/")
                made(os.mkdir, f"{top}/{trying}")
                dirs.append(trying)
            name = f"{dirs[-1]}/{tag}-{i}".lstrip("/")
            # Not exclusively where a service is killed: likewise.
            make(f"{top}/{name}", os.O_TRUNC if how == "service" else os.O_EXCL, sync, lambda what: state.__setitem__(name, what))
            if i % 16 == 15 and linking:
                trying = f"{dirs[-1]}/link{i}".lstrip("/")
                made(lambda path: os.symlink("nowhere", path), f"{top}/{trying}")
                links.append(trying)
                state.update([(n, "sent") for n, was in state.items() if was == "closed"])
            if now and i == at:
                threading.Thread(target=tell).start()
            i += 1
        for d in dirs if later else ():
            fd = os.open(f"{top}/{d}", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    except OSError as e:
        failed = f"{type(e).__name__}: {e}"
    if how == "term":
        os.kill(int(whom), signal.SIGTERM)
    elif how == "umount":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.umount2(whom.encode(), 0) != 0:
            subprocess.run(["fusermount", "-u", whom], check=True)
    with open(record, "w") as f:
        json.dump({"dirs": dirs, "links": links, "trying": trying, "state": state, "failed": failed, "there": []}, f)
    if now and not told.is_set():
        sys.exit(f"it failed before anything was killed: {failed}")
    if (failed is None) != (how != "mount"):
        sys.exit(f"the program was told of {failed or 'no error, though the mount was killed'}")


def check(top, record, demanded):
    with open(record) as f:
        rec = json.load(f)
    state, there, got = rec["state"], set(rec["there"]), []
    for d in rec["dirs"]:
        try:
            names = [e.name for e in os.scandir(f"{top}/{d}")]
        except OSError as e:
            sys.exit(f"a directory that was made: {e}")
        got += [f"{d}/{n}".lstrip("/") for n in names]
    if len(got) != len(set(got)):
        sys.exit(f"listed twice: {sorted(n for n in set(got) if got.count(n) > 1)}")
    if missing := set(rec["dirs"] + rec["links"]) - set(got) - {""}:
        sys.exit(f"directories or links that were made are not listed: {sorted(missing)}")
    if extra := set(got) - set(rec["dirs"] + rec["links"]) - set(state) - {rec["trying"]}:
        sys.exit(f"there are files that were never made: {sorted(extra)}")
    lost = opened = 0
    newest = list(state)[-LATER - 1:]
    for n, was in state.items():
        if n not in got:
            if was in ("fsynced", "sent") or was == demanded == "closed" or n in there:
                sys.exit(f"{top}/{n}, {'which was there before' if n in there else was + ' before a name was changed' if was == 'sent' else was}, is not there")
            if n not in newest:
                sys.exit(f"{top}/{n}, closed before {LATER} others, is not there")
            lost += was != "opened"
            continue
        data, want = read(f"{top}/{n}"), content(os.path.basename(n))
        if was == "opened":  # the kill came while it was made and written
            opened += 1
            if want[:len(data)] != data:
                sys.exit(f"{top}/{n}, which was open, has other bytes than were written")
        elif data != want:
            sys.exit(f"{top}/{n}, {was}, has {len(data)} bytes, which are not its {len(want)}")
        else:
            there.add(n)
    if opened > 1 or not rec["failed"] and "opened" in state.values():
        sys.exit("more files were open than can be")
    rec["there"] = sorted(there)
    with open(record, "w") as f:
        json.dump(rec, f)
    print(len(there), lost)


if __name__ == "__main__":
    {"together": together, "past": past, "unpack": unpack, "check": check}[sys.argv[1]](*sys.argv[2:])
