"""Which release of the gateway this is; pyproject.toml reads it here."""

VERSION = "1.0.0"
