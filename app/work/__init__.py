"""What runs in the background: the renewal's loop, the watch over waiting jobs, the sweep, and who runs them."""
