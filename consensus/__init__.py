"""Simplex consensus as a pure state machine: votes, certificates, rules."""
