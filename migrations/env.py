"""Runs the migrations on the connection it is handed, inside that connection's transaction.

`mtum_eod.adapters.store.upkeep.upgrade` is the only caller: a database is never migrated without its backup.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    render_as_batch=True,  # SQLite alters a table by rebuilding it
    transactional_ddl=True,  # a migration that dies half-way leaves nothing
)
with context.begin_transaction():
    context.run_migrations()
