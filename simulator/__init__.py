"""Consensus attacked in virtual time, reproducibly.

twins/   every way two copies of one validator can split the other three, enumerated
"""
