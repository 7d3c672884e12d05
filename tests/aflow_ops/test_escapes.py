"""Programs that try to leave the sandbox, by name. Each prints `ESCAPED` when it got what it wanted."""

import os
import sys
from pathlib import Path

import pytest

from aflow_ops.sandbox import Sandbox, open_sandbox

# Raw system calls of x86-64 that a program has no use for: name, number, arguments. Success, or an error that only
# the call itself gives, means that the kernel was reached.
CALLS = {
    "ptrace": (101, (16, 1)),
    "process_vm_readv": (310, (1, 0, 0, 0, 0, 0)),
    "process_vm_writev": (311, (1, 0, 0, 0, 0, 0)),
    "kcmp": (312, (1, 1, 0, 0, 0)),
    "pidfd_open": (434, (1, 0)),
    "pidfd_getfd": (438, (0, 0, 0)),
    "pidfd_send_signal": (424, (0, 0, 0, 0)),
    "chmod": (90, (b"/usr/lib", 0o777)),
    "fchmod": (91, (0, 0o777)),
    "fchmodat": (268, (-100, b"/usr/lib", 0o777)),
    "fchmodat2": (452, (-100, b"/usr/lib", 0o777, 0)),
    "chown": (92, (b"/usr/lib", 0, 0)),
    "fchown": (93, (0, 0, 0)),
    "lchown": (94, (b"/usr/lib", 0, 0)),
    "fchownat": (260, (-100, b"/usr/lib", 0, 0, 0)),
    "utime": (132, (b"/usr/lib", 0)),
    "utimes": (235, (b"/usr/lib", 0)),
    "futimesat": (261, (-100, b"/usr/lib", 0)),
    "utimensat": (280, (-100, b"/usr/lib", 0, 0)),
    "setxattr": (188, (b"/usr/lib", b"user.x", b"x", 1, 0)),
    "lsetxattr": (189, (b"/usr/lib", b"user.x", b"x", 1, 0)),
    "fsetxattr": (190, (0, b"user.x", b"x", 1, 0)),
    "getxattr": (191, (b"/usr/lib", b"user.x", 0, 0)),
    "listxattr": (194, (b"/usr/lib", 0, 0)),
    "removexattr": (197, (b"/usr/lib", b"user.x")),
    "setxattrat": (463, (-100, b"/usr/lib", 0, b"user.x", 0, 0)),
    "getxattrat": (464, (-100, b"/usr/lib", 0, b"user.x", 0, 0)),
    "mkdir": (83, (b"/x", 0o777)),
    "rmdir": (84, (b"/dev",)),
    "unlink": (87, (b"/dev/null",)),
    "rename": (82, (b"/dev/null", b"/dev/x")),
    "renameat2": (316, (-100, b"/dev/null", -100, b"/dev/x", 0)),
    "link": (86, (b"/dev/null", b"/dev/x")),
    "symlink": (88, (b"/dev/null", b"/x")),
    "mknod": (133, (b"/x", 0o644, 0)),
    "truncate": (76, (b"/dev/null", 0)),
    "ftruncate": (77, (0, 0)),
    "fallocate": (285, (0, 0, 0, 1)),
    "creat": (85, (b"/x", 0o644)),
    "openat2": (437, (-100, b"/dev/null", 0, 0)),
    "name_to_handle_at": (303, (-100, b"/dev", 0, 0, 0)),
    "open_by_handle_at": (304, (0, 0, 0)),
    "open_tree": (428, (-100, b"/", 1)),
    "statmount": (457, (0, 0, 0, 0)),
    "listmount": (458, (0, 0, 0, 0)),
    "inotify_init": (253, ()),
    "inotify_init1": (294, (0,)),
    "fanotify_init": (300, (0, 0)),
    "flock": (73, (0, 2)),
    "fcntl lock": (72, (0, 6, 0)),
    "fcntl lease": (72, (0, 1024, 1)),
    "fcntl owner": (72, (0, 8, 1)),
    "fcntl notify": (72, (0, 1026, 1)),
    "fcntl pipe size": (72, (1, 1031, 1 << 20)),
    "fcntl seals": (72, (0, 1033, 1)),
    "memfd_create": (319, (b"x", 0)),
    "memfd_secret": (447, (0,)),
    "userfaultfd": (323, (0,)),
    "mlock": (149, (0, 4096)),
    "mlockall": (151, (1,)),
    "remap_file_pages": (216, (0, 0, 0, 0, 0)),
    "shmget": (29, (0, 4096, 0o1600)),
    "semget": (64, (0, 1, 0o1600)),
    "msgget": (68, (0, 0o1600)),
    "mq_open": (240, (b"x", 0o102, 0o600, 0)),
    "add_key": (248, (b"user", b"x", b"x", 1, -3)),
    "request_key": (249, (b"user", b"x", 0, -3)),
    "keyctl": (250, (0, -3, 1)),
    "socket unix": (41, (1, 1, 0)),
    "socket inet": (41, (2, 1, 0)),
    "socket inet6": (41, (10, 1, 0)),
    "socket mptcp": (41, (2, 1, 262)),
    "socket sctp": (41, (2, 1, 132)),
    "socket udp": (41, (2, 2, 0)),
    "socket icmp": (41, (2, 2, 1)),
    "socket raw": (41, (2, 3, 1)),
    "socket packet": (41, (17, 3, 0)),
    "socket netlink": (41, (16, 3, 0)),
    "socket vsock": (41, (40, 1, 0)),
    "socket alg": (41, (38, 5, 0)),
    "socket can": (41, (29, 3, 1)),
    "socket bluetooth": (41, (31, 3, 1)),
    "socket tipc": (41, (30, 2, 0)),
    "socket smc": (41, (43, 1, 0)),
    "socket xdp": (41, (44, 3, 0)),
    "socket rds": (41, (21, 5, 0)),
    "socketpair tipc": (53, (30, 2, 0, 0)),
    "connect": (42, (0, 0, 0)),
    "bind": (49, (0, 0, 0)),
    "listen": (50, (0, 1)),
    "accept": (43, (0, 0, 0)),
    "setsockopt": (54, (0, 1, 7, 0, 4)),
    "sendmsg": (46, (0, 0, 0)),
    "sendmmsg": (307, (0, 0, 0, 0)),
    "recvmsg": (47, (0, 0, 0)),
    "sendto fastopen": (44, (0, 0, 0, 0x20000000, 0, 0)),
    "sendto address": (44, (0, 0, 0, 0, 1, 16)),
    "io_uring_setup": (425, (1, 0)),
    "io_setup": (206, (1, 0)),
    "bpf": (321, (0, 0, 0)),
    "perf_event_open": (298, (0, 0, -1, -1, 0)),
    "seccomp": (317, (0, 0, 0)),
    "prctl dumpable": (157, (4, 1)),
    "prctl death signal": (157, (1, 0)),
    "prctl subreaper": (157, (36, 1)),
    "prctl ptracer": (157, (0x59616D61, -1)),
    "personality": (135, (0,)),
    "unshare user": (272, (0x10000000,)),
    "unshare net": (272, (0x40000000,)),
    "setns": (308, (0, 0)),
    "clone process": (56, (17, 0, 0, 0, 0)),
    "clone namespace": (56, (0x10000011, 0, 0, 0, 0)),
    "clone3": (435, (0, 0)),
    "fork": (57, ()),
    "vfork": (58, ()),
    "execve": (59, (b"/bin/true", 0, 0)),
    "execveat": (322, (-100, b"/bin/true", 0, 0, 0)),
    "mount": (165, (0, b"/", 0, 0, 0)),
    "umount2": (166, (b"/", 2)),
    "fsopen": (430, (b"tmpfs", 0)),
    "move_mount": (429, (-100, b"/", -100, b"/", 0)),
    "pivot_root": (155, (b"/", b"/")),
    "chroot": (161, (b"/",)),
    "kill others": (62, (-1, 0)),
    "kill the first": (62, (1, 0)),
    "kill the parent's group": (62, (0, 0)),
    "tkill": (200, (1, 0)),
    "tgkill": (234, (1, 1, 0)),
    "rt_sigqueueinfo": (129, (1, 0, 0)),
    "prlimit64": (302, (1, 0, 0, 0)),
    "setpriority": (141, (0, 0, 5)),
    "setpriority user": (141, (2, 0, 5)),
    "ioprio_set": (251, (1, 0, 0)),
    "sched_setaffinity": (203, (0, 8, b"\xff" * 8)),
    "sched_setscheduler": (144, (0, 5, 0)),
    "sched_setattr": (314, (0, 0, 0)),
    "sched_getscheduler of others": (145, (1,)),
    "migrate_pages": (256, (0, 0, 0, 0)),
    "move_pages": (279, (0, 0, 0, 0, 0, 0)),
    "mbind": (237, (0, 0, 0, 0, 0, 0)),
    "clock_settime": (227, (0, 0)),
    "clock_adjtime": (305, (0, 0)),
    "adjtimex": (159, (0,)),
    "settimeofday": (164, (0, 0)),
    "timer_create": (222, (0, 0, 0)),
    "syslog": (103, (10, 0, 0)),
    "reboot": (169, (0, 0, 0, 0)),
    "sethostname": (170, (b"x", 1)),
    "setdomainname": (171, (b"x", 1)),
    "acct": (163, (0,)),
    "swapon": (167, (b"/x", 0)),
    "init_module": (175, (0, 0, b"")),
    "kexec_load": (246, (0, 0, 0, 0)),
    "quotactl": (179, (0, 0, 0, 0)),
    "sync": (162, ()),
    "vhangup": (153, ()),
    "iopl": (172, (3,)),
    "ioperm": (173, (0x70, 1, 1)),
    "modify_ldt": (154, (0, 0, 0)),
    "setuid": (105, (0,)),
    "setgid": (106, (0,)),
    "setgroups": (116, (0, 0)),
    "setresuid": (117, (0, 0, 0)),
    "setsid": (112, ()),
    "setpgid": (109, (0, 0)),
    "capset": (126, (0, 0)),
    "splice": (275, (0, 0, 1, 0, 1, 0)),
    "vmsplice": (278, (1, 0, 0, 0)),
    "tee": (276, (0, 1, 1, 0)),
    "ioctl TIOCSTI": (16, (0, 0x5412, b"x")),
    "ioctl FIFREEZE": (16, (0, 0xC0045877, 0)),
    "a call of tomorrow": (600, ()),
}
_CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
values = [ctypes.c_char_p(v) if isinstance(v, bytes) else ctypes.c_long(v) for v in ARGUMENTS]
result = libc.syscall(ctypes.c_long(NUMBER), *values)
print("ESCAPED" if result >= 0 or ctypes.get_errno() != errno.ENOSYS else "refused")
"""
# Programs in plain Python.
PROGRAMS = {
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read /etc/hostname": "open('/etc/hostname').read()",
    "list the home folder": "import os; os.listdir('HOME')",
    "read this file": "open('THIS').read()",
    "write /tmp": "open('/tmp/escaped', 'w')",
    "write /dev/shm": "open('/dev/shm/escaped', 'w')",
    "write the interpreter": "import os; open(os.__file__, 'a')",
    "environment of others": "open('/proc/PID/environ').read()",
    "memory of others": "open('/proc/PID/mem', 'rb').read(1)",
    "descriptors of others": "import os; os.listdir('/proc/PID/fd')",
    "folder of others": "import os; os.readlink('/proc/PID/cwd')",
    "command of others": "open('/proc/PID/cmdline').read()",
    "signal the trainer": "import os; os.kill(PID, 0)",
    "limit the trainer": "import resource; resource.prlimit(PID, resource.RLIMIT_CPU, (1, 1))",
    "limit the nursery": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "pin the nursery": "import os; os.sched_setaffinity(os.getppid(), {0})",
    "slow the nursery": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "idle the nursery": "import os; os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))",
    "start a shell": "import subprocess; subprocess.run(['/bin/sh', '-c', 'true'], check=True)",
    "three gigabytes": "bytearray(3 << 30)",
    "three gigabytes shared": "import mmap; m = mmap.mmap(-1, 3 << 30)",
    "a thousand open files": "f = [open('/dev/null') for _ in range(1000)]",
    "a thousand pipes": "import os; p = [os.pipe() for _ in range(1000)]",
    "raise a limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "more open files": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999))",
    "the nursery's socket": "import os; [os.fstat(fd) for fd in range(3, 200) if fd != 3] and os.fstat(3)",
}


def program(name: str) -> str:
    if name in CALLS:
        number, arguments = CALLS[name]
        return _CALL.replace("NUMBER", str(number)).replace("ARGUMENTS", repr(arguments))
    code = PROGRAMS[name].replace("PID", str(os.getpid())).replace("HOME", str(Path.home())).replace("THIS", __file__)
    return f"{code}\nprint('ESCAPED')"


async def escapes(sandbox: Sandbox, names: list[str]) -> list[str]:
    found = []
    for name in names:
        result = await sandbox.run(program(name), timeout=20)
        if "ESCAPED" in result.stdout:
            found.append(name)
    return found


async def test_a_sample_of_escapes(sandbox: Sandbox) -> None:
    assert await escapes(sandbox, sorted([*PROGRAMS, *CALLS])[::8]) == []


@pytest.mark.long
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize("namespaces", [True, False], ids=["namespaces", "none"])
async def test_no_program_escapes(namespaces: bool) -> None:
    assert len(PROGRAMS) + len(CALLS) >= 150
    async with open_sandbox(concurrency=2, namespaces=namespaces) as sandbox:
        assert await escapes(sandbox, [*PROGRAMS, *CALLS]) == []
        assert sandbox.counts.replaced == 0


if __name__ == "__main__":  # as another user: setpriv --reuid 65534 --regid 65534 --clear-groups python -m ...
    import asyncio

    async def everything() -> list[str]:
        async with open_sandbox(concurrency=1, namespaces="none" not in sys.argv) as sandbox:
            return await escapes(sandbox, [*PROGRAMS, *CALLS])

    print(asyncio.run(everything()))
