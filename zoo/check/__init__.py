"""What the core promises of every stack, measured: no leak, no padding, the same through a cache."""
