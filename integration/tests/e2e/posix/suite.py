"""What POSIX and Linux promise of a file system, one check a function: `suite.py DIRECTORY`, as root.

Prints `ok name`, or `FAIL name: what` where a promise is not kept, for each.
"""

import ctypes, errno, fcntl, mmap, os, resource, select, signal, socket, stat, struct, sys, time

CHECKS = []
libc = ctypes.CDLL(None, use_errno=True)


def check(function):
    CHECKS.append(function)
    return function


def fails(number, call, *args, **more):
    try:
        call(*args, **more)
    except OSError as error:
        assert error.errno == number, f"{errno.errorcode[error.errno]} in place of {errno.errorcode[number]}"
        return
    raise AssertionError(f"no {errno.errorcode[number]}")


def write(name, data=b"x", mode=0o644):
    with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)


def read(name):
    with open(name, "rb") as file:
        return file.read()


def as_user(function, uid=1000, gid=1000):
    """Runs `function` in a child as another user; what it asserts is asserted here."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            function()
            os._exit(0)
        except BaseException as error:
            print(f"  as user {uid}: {error!r}")
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "as another user"


def call(name, *args):
    result = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


@check
def open_flags():
    write("f", b"12345")
    fails(errno.EEXIST, os.open, "f", os.O_CREAT | os.O_EXCL)
    os.symlink("f", "s")
    fails(errno.ELOOP, os.open, "s", os.O_NOFOLLOW)
    fails(errno.ENOTDIR, os.open, "f", os.O_DIRECTORY)
    fails(errno.EISDIR, os.open, ".", os.O_WRONLY)
    fails(errno.ENOENT, os.open, "none/f", os.O_CREAT)
    fails(errno.ENOTDIR, os.open, "f/x", os.O_CREAT)
    fails(errno.ENAMETOOLONG, os.open, "n" * 256, os.O_CREAT)
    write("n" * 255)
    os.close(os.open("f", os.O_RDWR | os.O_TRUNC))
    assert os.stat("f").st_size == 0


@check
def create_by_mode_and_mask():
    old = os.umask(0o027)
    write("f", mode=0o666)
    os.mkdir("d", 0o777)
    os.umask(old)
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o640
    assert stat.S_IMODE(os.stat("d").st_mode) == 0o750


@check
def append_is_atomic():
    write("f", b"")
    children = []
    for letter in b"abcd":
        children.append(os.fork())
        if children[-1] == 0:
            fd = os.open("f", os.O_WRONLY | os.O_APPEND)
            for _ in range(50):
                os.write(fd, bytes([letter]) * 10)
            os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    data = read("f")
    assert len(data) == 2000, len(data)
    assert all(len(set(data[at:at + 10])) == 1 for at in range(0, 2000, 10))


@check
def rename():
    write("a", b"a")
    write("b", b"b")
    os.rename("a", "b")
    assert read("b") == b"a"
    os.mkdir("d")
    os.mkdir("e")
    os.rename("d", "e")
    fails(errno.ENOENT, os.stat, "d")
    fails(errno.ENOTDIR, os.rename, "e", "b")
    fails(errno.EISDIR, os.rename, "b", "e")
    os.mkdir("e/f")
    fails(errno.EINVAL, os.rename, "e", "e/f/g")
    os.mkdir("h")
    fails(errno.ENOTEMPTY, os.rename, "h", "e")
    os.link("b", "c")
    os.rename("b", "c")
    assert read("b") == b"a" and os.stat("c").st_nlink == 2


@check
def rename_flags():
    write("a", b"a")
    write("b", b"b")
    cwd = ctypes.c_int(-100)
    fails(errno.EEXIST, call, "renameat2", cwd, b"a", cwd, b"b", ctypes.c_uint(1))
    call("renameat2", cwd, b"a", cwd, b"b", ctypes.c_uint(2))
    assert (read("a"), read("b")) == (b"b", b"a")


@check
def links():
    write("f", b"data")
    os.link("f", "g")
    assert os.stat("f").st_ino == os.stat("g").st_ino and os.stat("g").st_nlink == 2
    os.unlink("f")
    assert read("g") == b"data" and os.stat("g").st_nlink == 1
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")
    fails(errno.EEXIST, os.link, "g", "d")
    os.symlink("x" * 4000, "long")
    assert os.readlink("long") == "x" * 4000
    os.symlink("loop1", "loop2")
    os.symlink("loop2", "loop1")
    fails(errno.ELOOP, os.stat, "loop1")
    os.lchown("loop1", 5, 6)
    assert os.lstat("loop1").st_uid == 5


@check
def directories():
    before = os.stat(".").st_nlink
    os.mkdir("d")
    assert os.stat(".").st_nlink in (before + 1, 1)
    fails(errno.EEXIST, os.mkdir, "d")
    write("d/f")
    fails(errno.ENOTEMPTY, os.rmdir, "d")
    fails(errno.EINVAL, os.rmdir, "d/.")
    fails(errno.ENOTDIR, os.rmdir, "d/f")
    fails(errno.EISDIR, os.unlink, "d")
    for number in range(500):
        write(f"d/{number:04}")
    seen = os.listdir("d")
    assert len(seen) == len(set(seen)) == 501
    with os.scandir("d") as entries:
        for count, entry in enumerate(entries):
            assert entry.is_file(follow_symlinks=False)
            os.unlink(entry.path)
    assert count == 500 and os.listdir("d") == []


@check
def open_and_unlinked():
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"hello")
    os.unlink("f")
    assert os.fstat(fd).st_nlink == 0
    os.ftruncate(fd, 3)
    os.fchmod(fd, 0o640)
    os.fchown(fd, 7, 8)
    assert os.pread(fd, 9, 0) == b"hel" and os.fstat(fd).st_uid == 7
    os.close(fd)
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    fails(errno.ENOENT, os.open, "x", os.O_CREAT, dir_fd=fd)


@check
def tmpfile():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"late")
    cwd, follow = ctypes.c_int(-100), ctypes.c_int(0x400)
    call("linkat", cwd, b"/proc/self/fd/%d" % fd, cwd, b"named", follow)
    assert read("named") == b"late"


@check
def names():
    for name in ("n" * 255, "sp ace", "new\nline", "\udcff\udcfe", "ü" * 127, "-", "..."):
        write(name, name.encode(errors="surrogateescape"))
    assert len(os.listdir(".")) == 7 and read("\udcff\udcfe") == b"\xff\xfe"
    fails(errno.ENAMETOOLONG, os.mkdir, "n" * 256)
    fails(errno.ENAMETOOLONG, os.rename, "-", "n" * 256)
    fails(errno.ENAMETOOLONG, os.symlink, "-", "n" * 256)
    fails(errno.ENAMETOOLONG, os.stat, "d/" * 2048 + "f")
    fails(errno.ENOENT, os.open, "", os.O_RDONLY)
    fails(errno.ENOENT, os.symlink, "", "empty")


@check
def truncation():
    write("f", b"12345")
    os.truncate("f", 3)
    os.truncate("f", 6)
    assert read("f") == b"123\0\0\0"
    fails(errno.EISDIR, os.truncate, ".", 0)
    fails(errno.EINVAL, os.truncate, "f", -1)
    fails(errno.EINVAL, os.ftruncate, os.open("f", os.O_RDONLY), 0)
    fails(errno.EBADF, os.write, os.open("f", os.O_RDONLY), b"x")

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
        fails(errno.EFBIG, os.truncate, "f", 100)
        fd = os.open("f", os.O_WRONLY)
        assert os.write(fd, b"123456") == 4
        fails(errno.EFBIG, os.write, fd, b"5")

    os.chmod("f", 0o666)
    as_user(limited)


@check
def sizes():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"end", 5 << 30)
    assert os.fstat(fd).st_size == (5 << 30) + 3 and os.fstat(fd).st_blocks < 1000
    assert os.pread(fd, 4, 1 << 30) == b"\0\0\0\0"
    os.ftruncate(fd, 10)
    os.posix_fallocate(fd, 0, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20 and os.fstat(fd).st_blocks >= 2048
    os.pwrite(fd, b"x" * 8192, 0)
    call("fallocate", fd, 3, ctypes.c_long(0), ctypes.c_long(4096))
    assert os.pread(fd, 1, 0) == b"\0" and os.pread(fd, 1, 4096) == b"x"


@check
def holes():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 4096, 1 << 20)
    os.fsync(fd)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 20
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 0


@check
def copies():
    write("f", os.urandom(300000))
    source, target = os.open("f", os.O_RDONLY), os.open("g", os.O_RDWR | os.O_CREAT)
    left = 300000
    while left:
        left -= os.copy_file_range(source, target, left)
    assert read("f") == read("g")
    os.lseek(source, 0, 0)
    target = os.open("h", os.O_RDWR | os.O_CREAT)
    assert os.sendfile(target, source, 0, 1000) == 1000
    fd = os.open("f", os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    assert os.preadv(fd, [page], 4096) == 4096 and page[:] == read("f")[4096:8192]


@check
def times():
    write("f")
    os.utime("f", ns=(1_000_000_000_123_456_789, 2_000_000_000_987_654_321))
    assert os.stat("f").st_mtime_ns == 2_000_000_000_987_654_321
    old = os.stat(".").st_mtime_ns
    time.sleep(0.02)
    write("g")
    assert os.stat(".").st_mtime_ns > old
    old = os.stat("f").st_ctime_ns
    time.sleep(0.02)
    os.chmod("f", 0o600)
    assert os.stat("f").st_ctime_ns > old
    os.utime("f", ns=(0, 0))
    fd = os.open("f", os.O_WRONLY)
    os.write(fd, b"y")
    assert os.fstat(fd).st_mtime > 1e9


@check
def owners():
    write("f", mode=0o644)
    os.chown("f", 1000, 1001)
    os.chmod("f", 0o6755)
    os.chown("f", 1000, 1000)
    # Also for root, where anybody may execute it (chown(2)).
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o755

    def user():
        fails(errno.EPERM, os.chown, "f", 1001, -1)
        fails(errno.EPERM, os.chown, "f", -1, 5)
        os.chmod("f", 0o4755)
        fails(errno.EACCES, os.open, "g", os.O_CREAT)

    os.chmod(".", 0o755)
    as_user(user)
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o4755
    os.chmod("f", 0o6777)
    as_user(lambda: os.write(os.open("f", os.O_WRONLY), b"new"), uid=1002, gid=1002)
    assert stat.S_IMODE(os.stat("f").st_mode) == 0o777, oct(os.stat("f").st_mode)


@check
def sticky_and_group():
    os.mkdir("t")
    os.chmod("t", 0o1777)
    write("t/roots")
    os.mkdir("g")
    os.chown("g", 0, 1234)
    os.chmod("g", 0o2777)

    def user():
        fails(errno.EPERM, os.unlink, "t/roots")
        fails(errno.EPERM, os.rename, "t/roots", "t/mine")
        write("t/own")
        os.unlink("t/own")
        write("g/f")
        os.mkdir("g/d")

    as_user(user)
    assert os.stat("g/f").st_gid == 1234 and os.stat("g/d").st_mode & stat.S_ISGID


@check
def access_by_mode():
    os.mkdir("d", 0o700)
    write("d/f")
    write("r", mode=0o600)
    write("w", mode=0o622)
    os.chmod("w", 0o622)

    def user():
        fails(errno.EACCES, os.stat, "d/f")
        fails(errno.EACCES, os.listdir, "d")
        fails(errno.EACCES, os.open, "r", os.O_RDONLY)
        fails(errno.EACCES, os.open, "w", os.O_RDONLY)
        os.close(os.open("w", os.O_WRONLY))
        assert not os.access("r", os.R_OK)

    as_user(user)


@check
def nodes():
    os.mkfifo("p")
    child = os.fork()
    if child == 0:
        os.write(os.open("p", os.O_WRONLY), b"through")
        os._exit(0)
    assert os.read(os.open("p", os.O_RDONLY), 9) == b"through"
    os.waitpid(child, 0)
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect("s")
    server.accept()[0].send(b"hi")
    assert client.recv(9) == b"hi"
    os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    assert stat.S_ISCHR(os.stat("null").st_mode) and os.stat("null").st_rdev == os.makedev(1, 3)


@check
def shared_memory():
    write("f", b"." * 10000)
    fd = os.open("f", os.O_RDWR)
    shared = mmap.mmap(fd, 10000)
    shared[5000:5005] = b"hello"
    assert os.pread(fd, 5, 5000) == b"hello"
    child = os.fork()
    if child == 0:
        other = mmap.mmap(os.open("f", os.O_RDWR), 10000)
        other[0:3] = b"abc"
        os._exit(0)
    os.waitpid(child, 0)
    assert shared[0:3] == b"abc"
    private = mmap.mmap(fd, 10000, flags=mmap.MAP_PRIVATE)
    private[0:3] = b"xyz"
    assert os.pread(fd, 3, 0) == b"abc"
    shared.flush()
    os.pwrite(fd, b"pw", 7000)
    assert shared[7000:7002] == b"pw"


@check
def locks():
    write("f", b"." * 100)
    fd = os.open("f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fails(errno.EAGAIN, fcntl.flock, os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 5)

    def other():
        mine = os.open("f", os.O_RDWR)
        fails(errno.EAGAIN, fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)

    os.chmod("f", 0o666)
    as_user(other)
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 50, 10, 0)
    fcntl.fcntl(fd, 37, whole)  # F_OFD_SETLK
    fails(errno.EAGAIN, fcntl.fcntl, os.open("f", os.O_RDWR), 37, whole)


@check
def attributes():
    write("f")
    os.setxattr("f", "user.a", b"1")
    os.setxattr("f", "user.b", b"x" * 1000)
    assert os.getxattr("f", "user.a") == b"1" and set(os.listxattr("f")) >= {"user.a", "user.b"}
    fails(errno.EEXIST, os.setxattr, "f", "user.a", b"2", os.XATTR_CREATE)
    os.removexattr("f", "user.a")
    fails(errno.ENODATA, os.getxattr, "f", "user.a")


@check
def file_capabilities():
    write("f", mode=0o755)
    os.setxattr("f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.write(os.open("f", os.O_WRONLY), b"new")
    fails(errno.ENODATA, os.getxattr, "f", "security.capability")


@check
def access_lists():
    # Owner rw, user 1000 r, group none, mask r, others none.
    entries = [(1, 6, -1), (2, 4, 1000), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    write("f", b"secret", 0o600)
    os.setxattr("f", "system.posix_acl_access", acl)
    os.chmod(".", 0o755)
    as_user(lambda: read("f"))
    as_user(lambda: fails(errno.EACCES, read, "f"), uid=1001, gid=1001)
    os.mkdir("d")
    os.setxattr("d", "system.posix_acl_default", acl)
    write("d/f", mode=0o666)
    assert os.getxattr("d/f", "system.posix_acl_access")


@check
def programs():
    write("script", b"#!/proc/self/exe\nprint('never')\n", 0o755)
    write("copy", read("/proc/self/exe"), 0o755)
    child = os.fork()
    if child == 0:
        os.execv("copy", ["copy", "-c", "import time; time.sleep(20)"])
    time.sleep(0.5)
    fails(errno.ETXTBSY, os.open, "copy", os.O_WRONLY)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    write("data", mode=0o644)
    fails(errno.EACCES, os.execv, "data", ["data"])


@check
def watches():
    write("f")
    fd = call("inotify_init1", os.O_NONBLOCK)
    call("inotify_add_watch", fd, b".", ctypes.c_uint(0x100 | 0x200 | 0x8 | 0x40 | 0x80))
    write("new")
    os.rename("new", "newer")
    os.unlink("newer")
    assert select.select([fd], [], [], 2)[0]
    masks, events = 0, os.read(fd, 4096)
    while events:
        _, mask, _, length = struct.unpack("iIII", events[:16])
        masks, events = masks | mask, events[16 + length:]
    assert masks == 0x100 | 0x200 | 0x8 | 0x40 | 0x80, hex(masks)


@check
def whole_system():
    found = os.statvfs(".")
    assert found.f_bsize and found.f_blocks and found.f_namemax == 255
    os.sync()
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    call("syncfs", fd)


@check
def many_open():
    fds = [os.open(f"f{number}", os.O_RDWR | os.O_CREAT) for number in range(400)]
    for number, fd in enumerate(fds):
        os.write(fd, b"%d" % number)
    assert read("f399") == b"399"
    for fd in fds:
        os.close(fd)


def clear(path):
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                clear(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)


def main():
    os.chdir(sys.argv[1])
    os.umask(0o022)
    for function in CHECKS:
        name = function.__name__
        os.mkdir(name)
        os.chdir(name)
        try:
            function()
            print(f"ok {name}")
        except Exception as error:
            at = error.__traceback__
            while at.tb_next and at.tb_next.tb_frame.f_code.co_filename == __file__:
                at = at.tb_next
            print(f"FAIL {name}: {error!r} in line {at.tb_lineno}")
        os.chdir("..")
        os.chmod(name, 0o755)
        clear(name)
        os.rmdir(name)


main()
