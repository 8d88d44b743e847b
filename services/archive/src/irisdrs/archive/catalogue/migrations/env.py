"""Runs the migrations on the connection that `irisdrs.archive.catalogue.engine` hands over."""

from alembic import context

from irisdrs.archive.catalogue.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
