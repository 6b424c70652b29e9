"""The worker process of ``services.verification``: frames of signatures in, one byte a signature out."""

from __future__ import annotations

import signal
import sys
from typing import BinaryIO

import msgspec

from crypto.keys import verify_many

_LENGTH_BYTES = 4
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, bytes]]).decode


def serve(frames: BinaryIO, answers: BinaryIO) -> None:
    """Answer frames until the daemon closes the pipe."""
    while True:
        head = frames.read(_LENGTH_BYTES)
        if len(head) < _LENGTH_BYTES:
            return
        length = int.from_bytes(head, "big")
        body = frames.read(length)
        if len(body) < length:
            return
        answers.write(bytes(verify_many(_decode(body))))
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the daemon ends us
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        sys.exit(0)  # the daemon was killed
