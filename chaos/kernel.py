"""The few calls of Linux that Python 3.11 has no names for: namespaces, mounts, virtual Ethernet devices.

Everything here ends with the process that made it: a network namespace when its last process and thread are gone, a
mount with its mount namespace, a device with its descriptor. So nothing is left behind, however a run ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000

_MS_REMOUNT: Final = 0x20
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x4_0000
_MNT_DETACH: Final = 2

_TUNSETIFF: Final = 0x4004_54CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFNETMASK: Final = 0x891C
_SIOCSIFHWADDR: Final = 0x8924
_IFF_UP: Final = 1
_ARPHRD_ETHER: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def own_namespaces() -> None:
    """From now on this process has networks and mounts of its own; call it before any thread is started.

    Without the right to (CAP_SYS_ADMIN) it takes a user namespace as well, in which it has it.

    Raises:
        OSError: not permitted here.
    """
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET):
        _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    up("lo")


def own_network() -> None:
    """From now on this thread, and every process it starts, has a network of its own with nothing but loopback.

    Raises:
        OSError: not permitted here.
    """
    _check(_libc.unshare(_CLONE_NEWNET), "unshare")
    up("lo")


def tap(name: str) -> int:
    """A virtual Ethernet device in this thread's network; the descriptor is its other end, one frame a read or write.

    Raises:
        OSError: not permitted here, or there is no /dev/net/tun.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def address(name: str, hardware: bytes, ip: str, mask: str) -> None:
    """Give a device of this thread's network its addresses, and switch it on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, family, value in (
            (_SIOCSIFHWADDR, _ARPHRD_ETHER, hardware),
            (_SIOCSIFADDR, socket.AF_INET, b"\0\0" + socket.inet_aton(ip)),
            (_SIOCSIFNETMASK, socket.AF_INET, b"\0\0" + socket.inet_aton(mask)),
        ):
            fcntl.ioctl(control, request, struct.pack("16sH22s", name.encode(), family, value))
    up(name)


def up(name: str) -> None:
    """Switch a device of this thread's network on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH22x", name.encode(), 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def mount_memory(target: Path, size_bytes: int) -> None:
    """A file system in memory, of this size.

    Raises:
        OSError: not permitted here.
    """
    options = f"size={size_bytes},mode=0700".encode()
    _check(_libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, options), f"mount {target}")


def resize_memory(target: Path, size_bytes: int) -> None:
    """Change the size of such a file system.

    Raises:
        OSError: more than that is in use.
    """
    options = f"size={size_bytes}".encode()
    _check(_libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", _MS_REMOUNT, options), f"resize {target}")


def unmount(target: Path) -> None:
    """Take a mount away, at once for everybody who looks it up anew."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
