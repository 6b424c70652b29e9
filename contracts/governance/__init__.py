"""Governance: more than two thirds of the validators decide who validates, with which keys, by which parameters.

    GovernancePropose    one change, in the present epoch, with an expiry; the proposer's own vote
    GovernanceVote       one vote for each organisation; a supervisor's consent where it is asked for

A proposal is of one of three kinds:

    set of validators    add, remove, suspend, reinstate, or renew the keys: waits for readiness once it passed, and
                         takes effect at the boundary of the epoch (``ledger.epochs``)
    card                 ledger key, TLS authority, addresses and signing keys of a member; or a new member: at once
    parameters           from an activation height on

Votes count against the set of the present epoch, at the moment of each vote. A proposal names its epoch and lapses with
it, so no vote ever counts in a set that its voter does not belong to. What a proposal would do is checked when it is
made and again when it passes: the deciding vote is refused if it has become impossible.
"""
