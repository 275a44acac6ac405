"""Data of every domain: the register of public sets, and batches. Knows no model and no Lightning."""
