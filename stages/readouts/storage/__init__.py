"""Parts of what is kept on disk: columns of a recording's own, and single readouts."""
