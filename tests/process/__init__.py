"""Tests that start real daemons in their own processes."""
