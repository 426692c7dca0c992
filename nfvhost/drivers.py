"""All vendor knowledge, as one table."""
