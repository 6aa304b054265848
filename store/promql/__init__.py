"""PromQL: parse, plan, evaluate. Knows no backend."""
