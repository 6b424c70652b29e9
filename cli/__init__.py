"""The ``lossbook`` command: one module for each noun, thin; imports of other rooms wait until a command runs."""
