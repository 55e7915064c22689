"""What implements the ports of delivery."""

from __future__ import annotations

from dishka import Provider, Scope, provide

from chitram.delivery.adapters.hand_over import SENDERS
from chitram.delivery.adapters.object_files import ObjectImageFiles
from chitram.delivery.domain.links import SignedLinks
from chitram.delivery.entrypoints.visible import VisibleImages
from chitram.delivery.ports import Delivery, ImageFiles
from chitram.platform.objects.registry import ObjectStores
from chitram.platform.settings import Settings
from chitram.platform.signing import Signer

_LINK_PURPOSE = "image link"


class DeliveryProvider(Provider):
    """Ports to adapters."""

    scope = Scope.APP
    files = provide(ObjectImageFiles, provides=ImageFiles)
    visible = provide(VisibleImages)

    @provide
    def delivery(self, settings: Settings, stores: ObjectStores) -> Delivery:
        return SENDERS[settings.file_delivery](stores)

    @provide
    def links(self, settings: Settings) -> SignedLinks:
        return SignedLinks(Signer(settings.secret_keys, _LINK_PURPOSE), settings.public_base_url.rstrip("/"))
