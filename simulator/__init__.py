"""The deterministic cluster: whole validators in one thread and virtual time, attacked and watched.

Everything a validator decides with is the product's own: consensus core, dissemination, wire code (every message that
travels is encoded and decoded), execution, and the vote log, over a file system in memory that loses, tears, flips and
refuses. Only the signature primitive is a fake, unforgeable because the secret lies in the signer alone. One seed is
one run, byte for byte.

The map of the room, from the bottom up:

    signatures   the fake key pair, and the notary that checks it
    market       n insurers and their genesis; envelopes their clients sign
    timeline     virtual time: a queue of actions
    clock        one node's two clocks: drift and jumps
    disk         one node's disk: vote log, blocks, state; crashes, copies, damage
    network      packets between nodes: weather, cuts, clogs
    fetching     what a node asks another for, one source after another
    node         one validator and its driver: the turn, its effect boundaries, crash and restart
    cluster      nodes, network, time, and who watches

    adversaries/ one Byzantine node a file: a ``Node`` that lies in what it sends, serves or signs
    oracles/     invariants over all that was ever signed, sent, decided; they import nothing of the product
    watch        translates what the cluster does into the oracles' facts
    coverage     counts which rules, corner cases and adversaries a run exercised

    plan         what one seed does, as data: network weather, load, faults, adversaries
    contested    plans in which the set changes while somebody lies or forgets
    faults       carrying out a plan's faults
    load         clients
    governance   admins who change the set of validators, keys and parameters
    versions     how a later minor version speaks
    run          one seed from start to verdict: attack, heal to a quorum, drain, idle, compare
    campaign     many seeds, each twice, on many processes
    mutants/     rules taken out of the product one at a time, which all this has to notice
    shrink       the shortest plan that still fails, and keeping it
    trace        one seed, told step by step

Beside it, on the core alone: ``twins/``, every way two copies of one validator can split the other three, enumerated.

Commands: ``lossbook sim run``, ``soak``, ``replay``, ``mutants`` and ``twins`` (cli/sim/).
"""
