"""AWS: secret stores, Auto Scaling, instance metadata and interruption notices."""
