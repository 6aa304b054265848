"""AWS: Auto Scaling groups, and figures of CloudWatch by the names of cloudwatch_exporter."""
