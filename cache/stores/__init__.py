"""The sources of a cache's bytes as zarr stores: disks, packed files, web servers, S3."""
