"""What an insurer's own system installs: keys, envelopes, a gateway client that fails over, proofs checked."""
