"""The synthetic format: a recording planted into the features of a backbone."""
