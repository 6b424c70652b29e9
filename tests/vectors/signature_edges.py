"""Signatures at the edges of the acceptance rule, made by hand from the arithmetic of the curve."""

from __future__ import annotations

from hashlib import sha512
from typing import Any

import nacl.bindings as sodium

from crypto.keys import verify
from tests.vectors.small_network import seeded_key

ORDER = 2**252 + 27742317777372353535851937790883648493  #: L, of the subgroup that the base point generates
FIELD = 2**255 - 19
TORSION = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")  #: a point of order 8
IDENTITY = (1).to_bytes(32, "little")
MESSAGE = b"lossbook signature rule"
TRIES_MAX = 1000  #: each nonce fits with a chance of one in eight or more

OWNER = ("alpha", "consensus")


def signature_vectors() -> list[dict[str, Any]]:
    """What is refused and, beside it, what is accepted."""
    key = seeded_key(*OWNER)
    good = key.sign(MESSAGE)
    mixed = sodium.crypto_core_ed25519_add(key.public, TORSION)
    unreduced = good[:32] + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
    cases = [
        ("an ordinary signature", key.public, good, True),
        ("S not reduced: S + L", key.public, unreduced, False),
        ("R moved by a point of order 8, S fitting: a cofactored check would accept it", key.public, _moved_r(), False),
        ("R of small order (the identity), S fitting", key.public, _with_r(IDENTITY), False),
        ("R of small order, encoded non-canonically (y = p + 1)", key.public, _with_r(_number(FIELD + 1)), False),
        ("public key of order 8", TORSION, IDENTITY + bytes(32), False),
        ("public key is the identity", IDENTITY, IDENTITY + bytes(32), False),
        ("public key encoded non-canonically (y = p + 1)", _number(FIELD + 1), IDENTITY + bytes(32), False),
        ("public key of mixed order, h mod L a multiple of 8: accepted", mixed, _mixed(mixed, fits=True), True),
        ("public key of mixed order, h a multiple of 8 but not h mod L", mixed, _mixed(mixed, fits=False), False),
    ]
    vectors = []
    for what, public, signature, accepted in cases:
        if verify(public, MESSAGE, signature) is not accepted:
            raise ValueError(f"this libsodium judges otherwise: {what}")
        vectors.append(
            {
                "what": what,
                "public": public.hex(),
                "message": MESSAGE.hex(),
                "signature": signature.hex(),
                "accepted": accepted,
            }
        )
    return vectors


def _number(value: int) -> bytes:
    return value.to_bytes(32, "little")


def _secret() -> int:
    """The scalar of the key (RFC 8032 §5.1.5)."""
    hashed = bytearray(sha512(seeded_key(*OWNER).seed()).digest()[:32])
    hashed[0] &= 248
    hashed[31] = hashed[31] & 127 | 64
    return int.from_bytes(hashed, "little")


def _challenge(r: bytes, public: bytes) -> int:
    return int.from_bytes(sha512(r + public + MESSAGE).digest(), "little")


def _signed(r: bytes, nonce: int, public: bytes) -> bytes:
    return r + _number((nonce + _challenge(r, public) % ORDER * _secret()) % ORDER)


def _point(nonce: int) -> bytes:
    return sodium.crypto_scalarmult_ed25519_base_noclamp(_number(nonce))


def _moved_r() -> bytes:
    return _signed(sodium.crypto_core_ed25519_add(_point(12_345), TORSION), 12_345, seeded_key(*OWNER).public)


def _with_r(r: bytes) -> bytes:
    return _signed(r, 0, seeded_key(*OWNER).public)


def _mixed(public: bytes, *, fits: bool) -> bytes:
    """For a key with a part of order 8, which falls out of [h]A exactly if h, reduced mod L, is a multiple of 8."""
    for nonce in range(1, TRIES_MAX):
        r = _point(nonce)
        challenge = _challenge(r, public)
        if (challenge % ORDER % 8 == 0) is fits and (fits or challenge % 8 == 0):
            return _signed(r, nonce, public)
    raise ValueError(f"none of {TRIES_MAX} nonces fits")
