"""The acceptance rule of signatures, pinned at its edges: nodes that differ on one signature split the chain."""

import pickle
from hashlib import sha512

import nacl.bindings as sodium
import pytest

from crypto.keys import SigningKey, verify, verify_many

ORDER = 2**252 + 27742317777372353535851937790883648493
TORSION = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")  # a point of order 8
IDENTITY = (1).to_bytes(32, "little")

KEY = SigningKey.from_seed(bytes(range(32)))
MESSAGE = b"loss book"


def test_rfc_8032_test_vector_2() -> None:
    key = SigningKey.from_seed(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_a_signature_is_good_for_its_key_and_message_only() -> None:
    signature = KEY.sign(MESSAGE)
    other = SigningKey.generate()
    checks = [
        (KEY.public, MESSAGE, signature),
        (other.public, MESSAGE, signature),
        (KEY.public, MESSAGE + b"!", signature),
        (KEY.public, MESSAGE, signature[:-1] + bytes([signature[-1] ^ 1])),
    ]
    assert verify_many(checks) == [True, False, False, False]


@pytest.mark.parametrize(("public", "signature"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65), (32, 0)])
def test_wrong_lengths_are_bad_signatures_not_errors(public: int, signature: int) -> None:
    assert not verify(bytes(public), MESSAGE, bytes(signature))


def test_invalid_unreduced_s() -> None:
    signature = KEY.sign(MESSAGE)
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(KEY.public, MESSAGE, signature[:32] + s.to_bytes(32, "little"))


def test_invalid_r_with_a_torsion_component() -> None:
    """A cofactored verifier would accept this one."""
    assert not verify(KEY.public, MESSAGE, _signed(add_to_r=TORSION))
    assert verify(KEY.public, MESSAGE, _signed(add_to_r=None))


@pytest.mark.parametrize("public", [TORSION, IDENTITY, bytes(32)])
def test_invalid_public_key_of_small_order(public: bytes) -> None:
    assert not verify(public, MESSAGE, IDENTITY + bytes(32))


def test_invalid_non_canonical_public_key() -> None:
    """y = 1 written as p + 1."""
    assert not verify((2**255 - 19 + 1).to_bytes(32, "little"), MESSAGE, IDENTITY + bytes(32))


def test_a_private_key_does_not_leak_by_accident() -> None:
    assert repr(KEY) == f"SigningKey(public={KEY.public.hex()})"
    assert KEY.seed().hex() not in repr(KEY)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(KEY)


def test_invalid_seed_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_seed(b"short")


def _signed(add_to_r: bytes | None) -> bytes:
    """A signature made by hand, its R perhaps moved by a point, S fitting."""
    secret = bytearray(sha512(KEY.seed()).digest()[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 127 | 64
    nonce = 12345
    r = sodium.crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    if add_to_r is not None:
        r = sodium.crypto_core_ed25519_add(r, add_to_r)
    challenge = int.from_bytes(sha512(r + KEY.public + MESSAGE).digest(), "little") % ORDER
    s = (nonce + challenge * int.from_bytes(secret, "little")) % ORDER
    return r + s.to_bytes(32, "little")
