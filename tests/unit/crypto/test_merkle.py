"""RFC 6962 trees, against the test vectors of the Certificate Transparency project."""

import pytest

from crypto import merkle

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_of_the_reference_leaves(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ],
)
def test_reference_audit_paths(index: int, size: int, path: list[str]) -> None:
    assert [digest.hex() for digest in merkle.proof(LEAVES[:size], index)] == path


@pytest.mark.parametrize("size", range(1, 9))
def test_every_leaf_proves_at_its_own_place_only(size: int) -> None:
    leaves, root = LEAVES[:size], merkle.root(LEAVES[:size])
    for index in range(size):
        path = merkle.proof(leaves, index)
        assert merkle.verify(root, leaves[index], index, size, path)
        assert not any(merkle.verify(root, leaves[index], at, size, path) for at in range(size) if at != index)


def test_invalid_paths_of_a_wrong_length() -> None:
    root, path = merkle.root(LEAVES), merkle.proof(LEAVES, 3)
    assert not merkle.verify(root, LEAVES[3], 3, 8, path[:-1])
    assert not merkle.verify(root, LEAVES[3], 3, 8, (*path, root))
    assert not merkle.verify(root, LEAVES[3], 3, 8, (*path[:-1], path[-1][:-1]))
    assert not merkle.verify(root, LEAVES[3], 3, 8, [root] * (merkle.PATH_LENGTH_MAX + 1))


@pytest.mark.parametrize(("index", "size"), [(8, 8), (-1, 8), (0, 0)])
def test_invalid_places(index: int, size: int) -> None:
    assert not merkle.verify(merkle.root(LEAVES), LEAVES[0], index, size, merkle.proof(LEAVES, 0))
    with pytest.raises(IndexError):
        merkle.proof(LEAVES[:size], index)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    left, right = (merkle.leaf_hash(leaf) for leaf in LEAVES[:2])
    assert not merkle.verify(merkle.root(LEAVES[:2]), b"\x01" + left + right, 0, 1, ())
    assert not merkle.verify(merkle.root(LEAVES[:2]), left + right, 0, 1, ())
