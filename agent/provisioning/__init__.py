"""Making other machines workers: user data, settings for a machine to come, and pushing secrets to it."""
