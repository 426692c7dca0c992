"""Plan, apply and prove an NFV host."""

__version__ = "0.1.0"
