"""What the relay on the gateway's host decides: whom a dial is for, when to stop asking a machine, its rule sets."""
