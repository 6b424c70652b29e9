"""A process that checks signatures: length-prefixed requests on stdin, one byte a signature on stdout.

    request    length u32 big-endian | msgpack array of (public key, message, signature)
    response   length u32 big-endian | one byte a job: 1 good, 0 bad

It ends when its stdin does, so it cannot outlive its daemon, and it ignores the signals a terminal or a service
manager sends to the whole group: its daemon decides.
"""

from __future__ import annotations

import signal
import sys
from typing import BinaryIO

import msgspec

from crypto.keys import verify_many

_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, bytes]]).decode


def serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """Answer until the requests end."""
    while len(head := requests.read(4)) == 4:
        jobs = _decode(requests.read(int.from_bytes(head, "big")))
        answer = bytes(verify_many(jobs))
        responses.write(len(answer).to_bytes(4, "big") + answer)
        responses.flush()


def main() -> None:
    """Entry of ``python -m services.verification_worker``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.exit(0)  # the daemon is gone; so is the need for an answer


if __name__ == "__main__":
    main()
