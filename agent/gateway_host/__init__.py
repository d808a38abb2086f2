"""What runs on the gateway's host: the relay, through which the gateway reaches any port of a machine."""
