"""Storage servers that few developers have at hand, each started on 127.0.0.1, to try notata on their dialects."""
