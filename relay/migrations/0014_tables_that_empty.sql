-- What waits comes and goes: when it was all gone, VACUUM gave the file back, and a plan made then reads the whole table,
-- and is kept while it grows again. A file that stays as large as it was makes such a plan look as dear as it is; and
-- giving it back takes a lock that everybody waits for.
ALTER TABLE live SET (vacuum_truncate = off);
ALTER TABLE outbox SET (vacuum_truncate = off);
