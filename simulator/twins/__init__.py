"""Every way two copies of one validator can split the other three, enumerated.

Bano, Sonnino, Chursin, Perelman, Li, Ching, Malkhi: "Twins: BFT Systems Made Robust" (OPODIS 2021): run a Byzantine
validator as two honest copies with one key, and enumerate who can talk to whom in each round, instead of inventing
attacks. Four validators, one of them twice: 4 leader offsets x 16 two-way cuts in each of 4 views = 262,144 cases.

    cases        the cases, numbered and named
    blocks       headers, votes and fake signatures: consensus needs no more of a block
    world        five cores in virtual time: one case
    liar         the twin that lies when it leads: what honest copies cannot bring about
    oracle       I1-I8 and I11 over everything signed, with arithmetic of its own; I12 is ``world``'s
    enumeration  all cases in shards, resumable
"""
