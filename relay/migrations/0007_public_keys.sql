-- The public half of a secret that signs with ed25519, for the receiver to verify with; null: the secret signs with HMAC.
ALTER TABLE secrets ADD COLUMN public_key text;
