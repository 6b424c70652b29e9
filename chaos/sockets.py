"""Which process opened a TCP connection of this machine: asked of the kernel.

A proxy on the loopback interface sees every connection come from 127.0.0.1. To know which directed link it stands
for, it has to know who dialled, without the dialler's help: the kernel says which socket (inode) has the dialling end
(``sock_diag(7)``), and which process holds that socket (``/proc/PID/fd``). Where there is no sock_diag, the socket is
looked for in ``/proc/net/tcp``, which takes some milliseconds instead of microseconds.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

Address = tuple[str, int]

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")
"""Netlink's: length, type, flags, sequence, port."""
_REQUEST: Final = struct.Struct("=BBBBI")
"""inet_diag_req_v2 up to the socket's id: family, protocol, extensions, padding, states."""
_ENDS: Final = struct.Struct("!HH16s16s")
"""inet_diag_sockid: source port, destination port, source, destination; then interface and cookie."""
_ANY_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_INODE_AT: Final = _HEADER.size + 4 + 48 + 16
"""In the answer: behind family, state, timer, retransmissions, the socket's id, and four numbers."""

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


class Owners:
    """Asks the kernel."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        try:
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
            self._netlink.settimeout(1.0)
        except OSError:
            pass  # this kernel has no such family: the tables have it, too

    def close(self) -> None:
        """Ask no more."""
        if self._netlink is not None:
            self._netlink.close()

    def of(self, dialler: Address, dialled: Address, pids: Mapping[int, str]) -> str | None:
        """The name in ``pids`` of the process that holds the dialling end of a connection; None if none of them does.

        Args:
            dialler: (host, port) of the end that dialled, IPv4.
            dialled: of the end that listened.
        """
        inode = self._diagnosed(dialler, dialled) if self._netlink is not None else None
        inode = listed(dialler, dialled) if inode is None else inode
        if not inode:
            return None
        wanted = f"socket:[{inode}]"
        return next((name for pid, name in pids.items() if _holds(pid, wanted)), None)

    def _diagnosed(self, local: Address, remote: Address) -> int | None:
        """Inode of the socket with these ends, 0 if there is none (any more); None where the kernel cannot say."""
        ends = _ENDS.pack(local[1], remote[1], socket.inet_aton(local[0]), socket.inet_aton(remote[0]))
        request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends + _ANY_COOKIE
        header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
        if self._netlink is None:
            return None
        try:
            self._netlink.send(header + request)
            answer = self._netlink.recv(4096)
        except OSError:
            self.close()
            self._netlink = None
            return None
        if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY or len(answer) < _INODE_AT + 4:
            return 0  # an error message: no such socket
        inode: int = struct.unpack_from("=I", answer, _INODE_AT)[0]
        return inode


def listed(local: Address, remote: Address) -> int:
    """The same from the kernel's tables. gRPC dials IPv4 through IPv6 sockets, too: mapped addresses."""
    pairs = {(_written(local), _written(remote)), (_written(local, mapped=True), _written(remote, mapped=True))}
    for table in _TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except FileNotFoundError:  # a machine without IPv6
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) in pairs:
                return int(fields[9])
    return 0


def _written(address: Address, *, mapped: bool = False) -> str:
    """An IPv4 address as the kernel's tables have it: words in the machine's (little-endian) order, in hex."""
    word = socket.inet_aton(address[0])[::-1].hex().upper()
    return ("0" * 16 + "FFFF0000" if mapped else "") + f"{word}:{address[1]:04X}"


def _holds(pid: int, wanted: str) -> bool:
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(descriptor.readlink()) == wanted:
                    return True
            except FileNotFoundError:  # closed since it was listed
                continue
    except (FileNotFoundError, PermissionError, ProcessLookupError):  # it has ended
        return False
    return False
