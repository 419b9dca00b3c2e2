"""S3 itself: clients, requests, transfers and what their errors mean.

Imports `storage.cache` and below, nothing of commits. On from here: `storage.objects`,
whose commits are made of these requests.
"""
