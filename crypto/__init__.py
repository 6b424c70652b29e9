"""Keys, signatures, hashes with domain tags, Merkle trees."""
