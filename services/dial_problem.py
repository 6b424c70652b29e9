"""Why another member's daemon is not reached, in words: gRPC's own name its machinery.

Why a daemon turns a certificate away is not heard: under TLS 1.3 the handshake is over for the one who dials
before the other one has looked at its certificate, so there is a connection that ends at once, and no more.
"""

from __future__ import annotations

from typing import Final

import grpc
import msgspec

from ledger.printable import one_line

_OF_GRPC: Final = "last error: "
"""What follows is of one address; each organisation has one."""


class Problem(msgspec.Struct, frozen=True):
    """Why there is no stream."""

    text: str
    turns_away: bool = False
    """Somebody answers there, and lets this daemon not in."""


def problem_of(organisation: str, address: str, code: grpc.StatusCode, details: str) -> Problem:
    """Of a call that failed.

    Args:
        organisation: that was dialled.
        address: host:port.
        details: gRPC's words, or those of who was dialled.
    """
    details = one_line(details)
    if "Connection refused" in details:
        return Problem(f"nothing listens at {address}")
    if "CERTIFICATE_VERIFY_FAILED" in details and "expired" in details:
        return Problem(f"the certificate that {address} shows has ended: a restart there renews it")
    if "CERTIFICATE_VERIFY_FAILED" in details and "not yet valid" in details:
        return Problem(f"the certificate that {address} shows is not valid yet: compare the clocks")
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return Problem(f"{address} shows a certificate of another ledger key than that on the card of {organisation}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return Problem(f"it refuses this daemon's certificate: {details}", turns_away=True)
    of_one = details.partition(_OF_GRPC)[2]
    if "Socket closed" in of_one or "Connection reset" in of_one:
        return Problem(f"{address} hangs up as soon as it sees this daemon's certificate", turns_away=True)
    return Problem(f"{code.name}: {of_one or details}")
