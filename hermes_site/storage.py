"""Static files under hashed names, for production. Named in settings; serves what `manage.py collectstatic` made."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedModulesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Files named by their content, so that browsers may keep them for ever."""

    # Without it the imports inside the toolkit's ES modules keep the unhashed names.
    support_js_module_import_aggregation = True
