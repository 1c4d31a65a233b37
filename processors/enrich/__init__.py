"""What the worker adds to an event that its sender did not say. One file each; `catalog` lists them."""
