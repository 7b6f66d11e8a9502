"""Where the bytes of a cache come from: disks, packed files, web servers, S3."""
