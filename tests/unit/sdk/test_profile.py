"""Which profile is used, and what is said of a bad one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.genesis import WrongNetwork
from lossbook_sdk import profile as profiles
from lossbook_sdk.errors import ProfileError
from lossbook_sdk.profile import Node
from tests.support.insurers import FIRST, market_genesis


def write(folder: Path, name: str = "alpha", *, nodes: list[Node] | None = None, chain_id: bytes | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    genesis = market_genesis()
    (folder / "genesis.json").write_bytes(genesis.raw)
    path = folder / f"{name}.toml"
    path.write_text(
        profiles.render(
            organisation=FIRST.id,
            genesis="genesis.json",
            chain_id=genesis.chain_id if chain_id is None else chain_id,
            certificate="tls/client.pem",
            key="tls/client.key",
            keys={'odd "label"': "keys/a.key"},
            nodes=nodes or [],
        )
    )
    return path


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"LOSSBOOK_PROFILES_DIR": str(folder), **more}


def test_profile_round_trip(tmp_path: Path) -> None:
    node = Node("insurer-2", "10.0.0.1:7")
    profile = profiles.load(write(tmp_path, nodes=[node]))
    assert profile.organisation == FIRST.id
    assert profile.keys == {'odd "label"': tmp_path / "keys/a.key"}
    assert profile.certificate == tmp_path / "tls/client.pem"
    assert profile.nodes_of(profile.load_genesis_of()) == (node,)


def test_without_nodes_the_validators_are_asked_own_first(tmp_path: Path) -> None:
    profile = profiles.load(write(tmp_path))
    assert [node.organisation for node in profile.nodes_of(market_genesis())] == [
        "insurer-1",
        "insurer-2",
        "insurer-3",
        "insurer-4",
    ]


def test_genesis_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongNetwork):
        profiles.load(write(tmp_path, chain_id=bytes(32))).load_genesis_of()


def test_order_of_choice(tmp_path: Path) -> None:
    alpha, beta, gamma = (write(tmp_path, name) for name in ("alpha", "beta", "gamma"))
    env = environment(tmp_path)
    with pytest.raises(ProfileError, match="no profile is chosen"):
        profiles.chosen(None, env)
    profiles.choose("alpha", env)
    assert profiles.chosen(None, env) == alpha
    assert profiles.chosen(None, env | {"LOSSBOOK_PROFILE": "beta"}) == beta
    assert profiles.chosen("gamma", env | {"LOSSBOOK_PROFILE": "beta"}) == gamma


def test_the_only_profile_needs_no_choice(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert profiles.chosen(None, environment(tmp_path)) == path


def test_profiles_beside_the_one_in_use_are_found_by_name(tmp_path: Path) -> None:
    alpha, beta = (write(tmp_path / "network", name) for name in ("alpha", "beta"))
    env = environment(tmp_path / "config")
    profiles.choose(str(alpha), env)
    assert profiles.chosen(None, env) == alpha
    assert profiles.chosen("beta", env) == beta


def test_who_names_no_profile_there_is_learns_which_there_are_and_where_they_were_looked_for(tmp_path: Path) -> None:
    write(tmp_path / "network", "beta")
    alpha, folder = write(tmp_path / "network", "alpha"), tmp_path / "config"
    with pytest.raises(ProfileError, match="there is no profile 'nosuch'") as caught:
        profiles.chosen("nosuch", environment(folder))
    assert f"There are: none in {folder}." in caught.value.advice
    profiles.choose(str(alpha), environment(folder))
    with pytest.raises(ProfileError) as caught:
        profiles.chosen("nosuch", environment(folder))
    assert f"There are: none in {folder}; alpha, beta in {alpha.parent}." in caught.value.advice
    assert "`lossbook profile create NAME" in caught.value.advice


def test_without_any_profile_the_next_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        profiles.chosen(None, environment(tmp_path / "none"))
    assert "lossbook testnet init" in caught.value.advice


@pytest.mark.parametrize(
    "text",
    ["", "organisation = ", 'organisation = "a"', 'organisation = "a"\ngenesis = "g"\nsurprise = 1\n', "\x00"],
)
def test_unreadable_profiles_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match="cannot be read"):
        profiles.load(path)


@pytest.mark.parametrize("name", ["", "..", "a b", "-x"])
def test_unusable_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProfileError):
        profiles.path_of(name, environment(tmp_path))
