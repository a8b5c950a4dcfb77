"""URLs of the site: the admin, the demo page, and what notifications answers."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("notifications.urls")),
    path("", include("hermes_site.demo")),
]
