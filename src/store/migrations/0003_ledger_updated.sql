-- Up Migration

-- The reconciler looks for ledger rows that changed since it last looked.
create index ledger_updated on ledger (updated_at);
