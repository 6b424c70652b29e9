"""The `lossbook` command."""
