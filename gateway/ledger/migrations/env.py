"""Alembic's way in: it runs the versions on the connection that ``upgrade`` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
