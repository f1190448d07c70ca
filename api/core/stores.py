"""The store that the settings name, opened."""

from __future__ import annotations

from api.core.directory import DirectoryStore
from api.core.settings import Settings
from api.core.storage import Store, StoreUnavailable

# How long a request to a bucket may take: of a person's, who waits, and of a worker's, which sends checkpoints over slow lines.
REQUEST_S = 20.0
WORK_S = 120.0


def open_store(settings: Settings, *, timeout_s: float = REQUEST_S) -> Store:
    """The folder of the data directory, or a bucket. Nothing is asked of it yet.

    Raises StoreUnavailable where the extra that a bucket wants is not installed.
    """
    if settings.store_url is None:
        return DirectoryStore(settings.store_dir)
    bucket, _, prefix = settings.store_url.removeprefix("s3://").partition("/")
    try:
        # Here and not above: without a bucket nobody needs the extra, and its import takes a second.
        from api.core.bucket import BucketStore
    except ModuleNotFoundError as error:
        message = f"CPD_STORE_URL names a bucket, for which {error.name} is missing: pip install 'cpd[s3]'"
        raise StoreUnavailable(message) from error
    return BucketStore(
        bucket,
        prefix,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        link_s=settings.download_link_s if settings.downloads == "presigned" else None,
        public_endpoint=settings.s3_public_endpoint,
        timeout_s=timeout_s,
    )
