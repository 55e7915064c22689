"""What implements the ports of delivery."""

from __future__ import annotations

from dishka import Provider, Scope, provide

from chitram.delivery.adapters.object_files import ObjectImageFiles
from chitram.delivery.ports import ImageFiles


class DeliveryProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    files = provide(ObjectImageFiles, provides=ImageFiles)
