"""What an insurer's own system installs: wallet, envelopes, gateway, proofs."""
