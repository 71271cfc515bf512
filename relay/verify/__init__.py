"""The conservation ledger: compares records that were written independently, and names those that do not fit."""
