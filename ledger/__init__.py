"""Envelopes, batches, blocks, receipts, execution and state commitment; pure."""
