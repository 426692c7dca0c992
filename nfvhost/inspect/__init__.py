"""Root -> Host: one module per kernel area."""
