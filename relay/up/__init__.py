"""The whole of Relay on one machine: embedded servers, the Procfile's processes, one log, and an end to all of them."""
