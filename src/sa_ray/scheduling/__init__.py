"""Pure rules of scheduling: costs, batches, routing forecasts and autoscaling."""
