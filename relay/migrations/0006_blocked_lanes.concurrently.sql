-- relay_lanes{state="blocked"} is counted every 10 s: FIFO lanes whose dead head holds up what is behind it, which are few.
CREATE INDEX CONCURRENTLY IF NOT EXISTS lanes_blocked ON lanes (endpoint_id) WHERE blocked_by IS NOT NULL;
