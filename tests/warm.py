"""Makes all S3 clients of a process share one reader of botocore's descriptions, which are read when this is imported.

Each session of botocore reads them for itself, which takes most of the time in which a client is made. The processes
that are forked from one that has imported this module spare that too.
"""

from __future__ import annotations

import functools

import botocore.session

__all__: list[str] = []

botocore.session.create_loader = functools.cache(botocore.session.create_loader)
botocore.session.Session().create_client(
    "s3", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
).close()
