"""Shipped for users: conformance suites, an S3 server, a proxy that breaks connections."""
