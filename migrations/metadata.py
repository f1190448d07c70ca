"""Every declared table, gathered for comparison with a migrated database."""

from __future__ import annotations

import api.artifacts.tables
import api.comparisons.tables
import api.completions.tables
import api.datasets.tables
import api.events.tables
import api.jobs.tables
import api.keys.tables
import api.leftovers.tables
import api.web.tables
import api.webhooks.tables  # noqa: F401 - importing a table declares it
from api.core.db import Table

METADATA = Table.metadata
