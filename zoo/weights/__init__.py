"""Opening trained models: `zoo.load`."""
