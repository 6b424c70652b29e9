"""Tests; they run from this folder alone, against the checkout or an installed wheel."""
