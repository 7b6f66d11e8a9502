"""One condition fitted by many workers: shards of trials, then groups of neurons."""
