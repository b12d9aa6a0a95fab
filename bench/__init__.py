"""Side by side with the peers: ``make bench``, or ``python -m bench NAME ...`` for some rows."""
